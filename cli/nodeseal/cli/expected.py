"""The expected model, for commands that read a sealed model from untrusted storage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.ids import parse_digest
from nodeseal.loader import AgentKeys, KeyProvider, OnlyModel
from nodeseal.loader.keys import require_model
from nodeseal.sealed.slots import Slots

DigestOption = Annotated[
    str, typer.Option("--digest", metavar="HEX", help="The expected model; another one in DIR is refused.")
]


def agent_keys(socket: Path, digest: str) -> KeyProvider:
    """Return keys from this node's agent, for the model ``digest`` only unless that is empty."""
    keys = AgentKeys(socket)
    return OnlyModel(keys, digest) if digest else keys


def refuse_other(slots: Slots, digest: str) -> None:
    """Refuse slots of another model than ``digest``, unless that is empty.

    Raises:
        ProofFailed: the slots belong to another model.
    """
    if digest:
        require_model(slots, parse_digest(digest))
