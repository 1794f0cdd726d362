"""``nodeseal model``: which sealed models may be opened at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message, plain_messages, show_time
from nodeseal.cli.naming import ModelArgument, model_of
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.loader.folders import LocalFolder, read_document
from nodeseal.sealed.content import MAX_CONTENT
from nodeseal.sealed.paths import CONTENT_NAME
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Register and retire sealed models; only registered ones can be opened.")


@app.command("register", epilog="Example: nodeseal model register ./llama")
def register_model(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    again: Annotated[bool, typer.Option("--again", help="Also if it was retired.")] = False,  # noqa: FBT002 - a flag
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Register a sealed model, so that keys may be released for it."""
    content = read_document(LocalFolder(directory), CONTENT_NAME, MAX_CONTENT)
    with connect(client) as verifier:
        model = verifier.register_model(content, again=again)
    output.show(lambda: plain_message(model), _model_facts(model), as_json=as_json)


@app.command("retire", epilog="Example: nodeseal model retire llama@2 --reason 'replaced by version 3'")
def retire_model(
    model: ModelArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a registration back: leases of this model end at once, and no more keys are released or slots made for it.

    In a rollout, move the readers to the new version first.
    """
    with connect(client) as verifier:
        found = verifier.retire_model(model_of(verifier, model, Use.TAKE_AWAY), reason)
    output.show(lambda: plain_message(found), _model_facts(found), as_json=as_json)


@app.command("list", epilog="Example: nodeseal model list")
def list_models(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List the models that were registered, retired ones too."""
    with connect(client) as verifier:
        models = verifier.list_models()
    columns = ("model", "version", "status", "digest", "bytes", "registered", "retired")
    output.show(
        lambda: plain_messages(models), Rows(columns, map(_model_row, models), empty="no models"), as_json=as_json
    )


def _model_row(model: pb.Model) -> tuple[str, ...]:
    return (
        model.model_id,
        str(model.version),
        _status(model),
        model.digest,
        f"{model.size:,}",
        show_time(model.registered),
        show_time(model.retired),
    )


def _status(model: pb.Model) -> str:
    return "retired" if model.HasField("retired") else "registered"


@app.command("show", epilog="Example: nodeseal model show llama@2")
def show_model(model: ModelArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Show one model, registered or retired."""
    with connect(client) as verifier:
        found = verifier.get_model(model_of(verifier, model, Use.LOOK))
    output.show(lambda: plain_message(found), _model_facts(found), as_json=as_json)


def _model_facts(model: pb.Model) -> FactList:
    return FactList(
        (
            ("model", model.model_id),
            ("version", str(model.version)),
            ("status", _status(model)),
            ("digest", model.digest),
            ("files", str(model.files)),
            ("bytes", f"{model.size:,}"),
            ("registered", show_time(model.registered)),
            ("retired", show_time(model.retired)),
        )
    )
