"""``nodeseal``, the operator's command: mounts one module per command and gives errors their exit code.

Exit codes: 0 done, 1 refused or failed, 2 misused.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from nodeseal.cli import audit, demo, golden, inspect, key, model, node, open, output, quote, seal  # noqa: A004 - the command's name
from nodeseal.errors import NodesealError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keep model weights sealed everywhere but on machines that have proved what they run.",
    epilog="Start here: nodeseal demo",
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a callback of typer's
    if wanted:
        typer.echo(version("nodeseal"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,  # noqa: FBT002 - a flag
) -> None:
    """Keep model weights sealed everywhere but on machines that have proved what they run."""


for _name, _group in {
    "node": node,
    "golden": golden,
    "key": key,
    "model": model,
    "quote": quote,
    "audit": audit,
}.items():
    app.add_typer(_group.app, name=_name)

app.command("seal", epilog="Example: nodeseal seal ./llama-plain --key llama.pub -o ./llama")(seal.seal)
app.command("inspect", epilog="Example: nodeseal inspect ./llama")(inspect.inspect)
app.command("open", epilog="Example: nodeseal open ./llama")(open.open_sealed)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except NodesealError as error:
        sys.exit(output.report(error))
