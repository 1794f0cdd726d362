"""What a decision returns, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa

from nodeseal.ids import Digest, NodeId
from nodeseal.verifier.ledger.acts import Act
from nodeseal.verifier.ledger.documents import Document
from nodeseal.verifier.ledger.leaf import Entry
from nodeseal.verifier.store.nodes import NodeProgress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decided(Generic[T]):
    """A decision.

    Attributes:
        result: for the caller.
        acts: what is recorded, in this order; empty: nothing changes.
        documents: what the acts name by digest.
        contents: goldens and content documents of models, which their rows keep.
        progress: what steady rounds have moved until now, of nodes that the acts are about.
    """

    result: T
    acts: tuple[Act, ...] = ()
    documents: tuple[Document, ...] = ()
    contents: tuple[Document, ...] = ()
    progress: tuple[tuple[NodeId, NodeProgress], ...] = ()


Decide: TypeAlias = Callable[[sa.Connection], Decided[T]]
"""Decides inside the transaction, on the rows of that moment; raises a :class:`~nodeseal.errors.NodesealError` to
refuse."""


class Recorded(NamedTuple):
    """An act on the disk.

    Attributes:
        entry: the act, with its versions.
        leaf: its leaf hash.
        documents: what the acts of its decision name by digest, goldens and content documents among them.
    """

    entry: Entry
    leaf: Digest
    documents: Mapping[Digest, bytes]


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """A decision that is on the disk.

    Attributes:
        result: what the decision returned.
        recorded: its acts.
        size: bytes that the log has grown by.
    """

    result: T
    recorded: tuple[Recorded, ...]
    size: int
