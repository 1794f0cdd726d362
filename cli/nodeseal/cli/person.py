"""``nodeseal person``: what people do about their own certificate."""

from __future__ import annotations

import typer

from nodeseal.cli import output
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption
from nodeseal.client.renewal import renew

app = typer.Typer(no_args_is_help=True, help="Look after your own certificate.")


@app.callback()
def _group() -> None:
    """Look after your own certificate."""


@app.command("renew", epilog="Example: nodeseal person renew")
def renew_person(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Get a new certificate with a new key, with the same roles, while yours is valid; the old one ends."""
    renewed = renew(client.expanduser())
    value = {"name": renewed.name, "expires": renewed.not_after.isoformat()}
    facts = FactList((("person", renewed.name), ("valid until", f"{renewed.not_after:%Y-%m-%d}")))
    output.show(value, facts, as_json=as_json)
