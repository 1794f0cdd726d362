"""The log as an export: acts with their leaf hashes, documents, and what is in force, as of one moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

import sqlalchemy as sa

from nodeseal.errors import Unavailable
from nodeseal.ids import Digest, digest_of
from nodeseal.tlog.checkpoint import SignedCheckpoint
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.tree.log_tree import read_head, tree_in
from nodeseal.verifier.ledger.tree.state import state_rows
from nodeseal.verifier.store.acts import ActRow, Filter, log_page, unnumbered
from nodeseal.verifier.store.schema import DOCUMENTS, GOLDENS, MODELS, PROPOSALS

_PAGE: Final = 500
_ATTEMPTS: Final = 50
"""Looks for a moment at which every recorded act has its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is read in one transaction.

    Attributes:
        signed: the checkpoint over every act.
        first: index of the act that is leaf 0 of its tree.
        rows: what is in force.
        documents: digests of what acts name.
    """

    signed: SignedCheckpoint
    first: int
    rows: tuple[bytes, ...]
    documents: tuple[Digest, ...]


class ExportedLeaf(NamedTuple):
    """An act and the hash that the stored tree has of it; empty: it is in the tree of an older log."""

    row: ActRow
    leaf: bytes


class LogExport:
    """Reads the log for an export."""

    def __init__(self, ledger: Ledger, public: bytes) -> None:
        self._ledger: Final = ledger
        self._public: Final = public

    async def moment(self) -> Moment:
        """Return the head of the log and what is in force then.

        Raises:
            Unavailable: acts are recorded faster than they are numbered.
        """
        for _ in range(_ATTEMPTS):
            await self._ledger.sequence()
            found = await self._ledger.store.read(partial(_moment, public=self._public))
            if found is not None:
                return found
        raise Unavailable("the log does not stand still for an export", remedy="try again")

    async def leaves(self, moment: Moment) -> AsyncIterator[list[ExportedLeaf]]:
        """Yield the acts of a moment in the order of the log, page by page."""
        after, end = 0, moment.first + moment.signed.checkpoint.size
        while after < end:
            page = await self._ledger.store.read(
                partial(_page, after=after, limit=min(_PAGE, end - after), first=moment.first)
            )
            yield page
            after += len(page)

    async def document(self, digest: Digest) -> bytes:
        """Return a document, a golden or the content of a model.

        Raises:
            Unavailable: it is not there any more.
        """
        return await self._ledger.store.read(partial(_document, digest=digest))


def _moment(connection: sa.Connection, public: bytes) -> Moment | None:
    if unnumbered(connection, 1):
        return None
    head = read_head(connection, public)
    named = [Digest(row.digest) for row in connection.execute(sa.select(DOCUMENTS.c.digest))]
    contents = [*connection.execute(sa.select(GOLDENS.c.document)), *connection.execute(sa.select(MODELS.c.content))]
    contents += connection.execute(sa.select(PROPOSALS.c.attachment).where(PROPOSALS.c.attachment != b""))
    digests = dict.fromkeys([*named, *(digest_of(content) for (content,) in contents)])
    return Moment(signed=head.signed, first=head.first, rows=tuple(state_rows(connection)), documents=tuple(digests))


def _page(connection: sa.Connection, after: int, limit: int, first: int) -> list[ExportedLeaf]:
    tree = tree_in(connection, first)
    rows = log_page(connection, Filter(after=after), limit)
    return [
        ExportedLeaf(row, tree.subtree(0, (row.leaf_index or 0) - first) if (row.leaf_index or 0) >= first else b"")
        for row in rows
    ]


def _document(connection: sa.Connection, digest: Digest) -> bytes:
    found = connection.scalar(sa.select(DOCUMENTS.c.content).where(DOCUMENTS.c.digest == digest))
    if found is None:
        found = connection.scalar(sa.select(MODELS.c.content).where(MODELS.c.digest == digest))
    if found is None:
        documents = chain(
            connection.scalars(sa.select(GOLDENS.c.document)), connection.scalars(sa.select(PROPOSALS.c.attachment))
        )
        found = next((content for content in documents if digest_of(content) == digest), None)
    if found is None:
        raise Unavailable(f"document {digest} is not there any more", remedy="try again")
    return bytes(found)
