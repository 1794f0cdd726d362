"""``nodeseal model``: which sealed models may be opened at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.client import CALL_SECONDS, connect
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.ids import parse_digest
from nodeseal.loader.folders import LocalFolder, read_document
from nodeseal.sealed.content import MAX_CONTENT
from nodeseal.sealed.paths import CONTENT_NAME
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Register sealed models; only registered ones can be opened.")


@app.command("register", epilog="Example: nodeseal model register ./llama")
def register_model(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say that this sealed model is what it should be, so that keys may be released for it."""
    content = read_document(LocalFolder(directory), CONTENT_NAME, MAX_CONTENT)
    with connect(client) as verifier:
        model = verifier.models.RegisterModel(pb.RegisterModelRequest(content=content), timeout=CALL_SECONDS)
    _print(model, as_json=as_json)


@app.command("list", epilog="Example: nodeseal model list")
def list_models(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List the registered models."""
    with connect(client) as verifier:
        models = verifier.models.ListModels(pb.ListModelsRequest(), timeout=CALL_SECONDS).models
    if as_json:
        output.print_json([output.message_json(model) for model in models])
        return
    rows = ((m.model_id, str(m.version), m.digest, f"{m.size:,}", output.show_time(m.registered)) for m in models)
    output.print_table(("model", "version", "digest", "bytes", "registered"), rows, empty="no models")


@app.command("show", epilog="Example: nodeseal model show DIGEST")
def show_model(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", parser=output.argument(parse_digest))],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one registered model."""
    with connect(client) as verifier:
        model = verifier.models.GetModel(pb.GetModelRequest(digest=digest), timeout=CALL_SECONDS)
    _print(model, as_json=as_json)


def _print(model: pb.Model, *, as_json: bool) -> None:
    if as_json:
        output.print_message(model)
        return
    output.print_facts(
        (
            ("model", model.model_id),
            ("version", str(model.version)),
            ("digest", model.digest),
            ("files", str(model.files)),
            ("bytes", f"{model.size:,}"),
            ("registered", output.show_time(model.registered)),
        )
    )
