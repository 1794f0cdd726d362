"""Documents larger than gRPC's messages: cut into parts by the sender, put together within a limit by the receiver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nodeseal.errors import MalformedInput

PART_SIZE: Final = 256 * 1024
"""Bytes of a document in one message."""


def in_parts(document: bytes) -> Iterator[bytes]:
    """Yield a document part by part; an empty document is one empty part."""
    for start in range(0, max(len(document), 1), PART_SIZE):
        yield document[start : start + PART_SIZE]


class Assembly:
    """A document that arrives in parts.

    Args:
        limit: bytes that it may have.
        what: name of the document, for the error.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit: Final = limit
        self._what: Final = what
        self._document = bytearray()

    def add(self, part: bytes) -> None:
        """Take in the next part.

        Raises:
            MalformedInput: the document is larger than its limit.
        """
        self._document += part
        if len(self._document) > self._limit:
            raise MalformedInput(f"{self._what} has more than {self._limit >> 20} MiB")

    def whole(self) -> bytes:
        """Return all parts together."""
        return bytes(self._document)
