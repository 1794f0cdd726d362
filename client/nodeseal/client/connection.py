"""A person's connection to the verifier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nodeseal.client.config import load_client

if TYPE_CHECKING:
    from nodeseal.client.verifier import Verifier


@contextmanager
def connect(path: Path) -> Iterator[Verifier]:
    """Connect as the person whose folder ``path`` is. Errors of calls in the block become nodeseal's own.

    Raises:
        Refused: the verifier refused a call.
        Unavailable: the verifier did not answer; the message says why, as far as that can be seen from here.
        MalformedInput: the folder lacks ``client.yaml`` or a file that it names, or the file does not parse.
    """
    from nodeseal.client.channel import open_channel  # noqa: PLC0415 - gRPC is slow to load, and only calls need it

    with open_channel(load_client(path)) as verifier:
        yield verifier
