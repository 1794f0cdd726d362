"""``nodeseal verify``: whether a sealed model is whole, to the last bit, as this node's agent lets it open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.expected import DigestOption, agent_keys
from nodeseal.cli.output import Facts, JsonOption
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
    """Verify every byte of a sealed model. Keeps no plaintext and says nothing of what is in it."""
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


def _verified_facts(content: Content, seconds: float) -> Facts:
    return Facts(
        [
            ("whole", f"{content.model_id}, version {content.version}"),
            ("digest", content.digest),
            ("files", str(len(content.files))),
            ("bytes", speed(content.size, seconds)),
        ]
    )
