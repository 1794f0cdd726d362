"""``nodeseal reseal``: a sealed model under a new data key, made on a node where it opens."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli.expected import DigestOption, agent_keys
from nodeseal.cli.output import JsonOption
from nodeseal.cli.progress import progress_bar
from nodeseal.cli.seal import check_apart, ending_cleanly, say_leftovers, show_sealed
from nodeseal.files import read_small
from nodeseal.loader import open_model
from nodeseal.loader.agent_keys import DEFAULT_SOCKET
from nodeseal.loader.reseal import next_label, reseal_model
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, parse_model_key


def reseal(  # noqa: PLR0913 - a command's options
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    keys: Annotated[
        list[Path], typer.Option("--key", metavar="PUBLIC", exists=True, help="A model key's public file. Repeatable.")
    ],
    destination: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The folder to make.")],
    version: Annotated[
        int | None, typer.Option(min=2, help="Version of the new model; the next one if left out.")
    ] = None,
    socket: Annotated[Path, typer.Option(metavar="PATH", help="The agent's key socket.")] = DEFAULT_SOCKET,
    *,
    digest: DigestOption = "",
    as_json: JsonOption = False,
) -> None:
    """Seal a sealed model again, under a new data key, for when the old one may have leaked.

    Opens it through this node's agent and writes ciphertext only.
    """
    check_apart(directory, destination)
    say_leftovers(destination)
    recipients = [parse_model_key(read_small(path, MAX_MODEL_KEY_FILE), str(path)) for path in keys]
    started = time.monotonic()
    with open_model(directory, agent_keys(socket, digest)) as model:
        label = next_label(model.content, datetime.now(UTC), version)
        with ending_cleanly(destination), progress_bar("resealing", model.content.size) as done:
            content = reseal_model(model, destination, recipients, label, progress=done)
    show_sealed(content, destination, time.monotonic() - started, as_json=as_json)
