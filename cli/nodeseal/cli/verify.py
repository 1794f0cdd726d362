"""``nodeseal verify``: check every bit of a sealed model that this node's agent can open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.expected import DigestOption, agent_keys
from nodeseal.cli.output import FactList, JsonOption
from nodeseal.cli.progress import progress_bar, speed
from nodeseal.loader import open_model
from nodeseal.loader.agent_keys import DEFAULT_SOCKET
from nodeseal.sealed.content import Content


def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    socket: Annotated[Path, typer.Option(metavar="PATH", help="The agent's key socket.")] = DEFAULT_SOCKET,
    *,
    digest: DigestOption = "",
    as_json: JsonOption = False,
) -> None:
    """Verify every byte of a sealed model. Keeps no plaintext and shows no content."""
    with open_model(directory, agent_keys(socket, digest)) as model:
        started = time.monotonic()
        with progress_bar("verifying", model.content.size) as done:
            for file in model.files():
                model.verify(file.path, progress=done)
        seconds = time.monotonic() - started
        output.show(_plain_verified(model.content, seconds), _verified_facts(model.content, seconds), as_json=as_json)


def _plain_verified(content: Content, seconds: float) -> dict[str, object]:
    return {
        "model_digest": content.digest,
        "model_id": content.model_id,
        "version": content.version,
        "files": len(content.files),
        "bytes": content.size,
        "seconds": round(seconds, 3),
    }


def _verified_facts(content: Content, seconds: float) -> FactList:
    return FactList(
        [
            ("whole", f"{content.model_id}, version {content.version}"),
            ("digest", content.digest),
            ("files", str(len(content.files))),
            ("bytes", speed(content.size, seconds)),
        ]
    )
