"""Which sealed model is meant, for commands that take one from storage that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.ids import parse_digest
from nodeseal.loader import AgentKeys, KeyProvider, OnlyModel
from nodeseal.loader.keys import require_model
from nodeseal.sealed.slots import Slots

DigestOption = Annotated[
    str, typer.Option("--digest", metavar="HEX", help="The model that is meant; another one in DIR is refused.")
]


def agent_keys(socket: Path, digest: str) -> KeyProvider:
    """Return what asks this node's agent, for no other model than ``digest`` if one is given."""
    keys = AgentKeys(socket)
    return OnlyModel(keys, digest) if digest else keys


def refuse_other(slots: Slots, digest: str) -> None:
    """Refuse slots of another model than ``digest``, if one is given.

    Raises:
        ProofFailed: they are.
    """
    if digest:
        require_model(slots, parse_digest(digest))
