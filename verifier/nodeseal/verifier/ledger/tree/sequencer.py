"""The sequencer: gives recorded acts their index in the log, without gaps, and the log a signed tree over them.

The index sets the order of nothing but proofs and readers. One transaction numbers acts, writes tiles and signs the
checkpoint. Then the checkpoint goes to its file, and only then to anybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import sqlalchemy as sa

from nodeseal.tlog.checkpoint import SignedCheckpoint
from nodeseal.verifier.ledger.acts import PersonAdded, PersonCertificateReplaced, PersonRemoved
from nodeseal.verifier.ledger.decided import Recorded
from nodeseal.verifier.ledger.leaf import MacKey, leaf_hash, read_entry
from nodeseal.verifier.ledger.record import checked_versions
from nodeseal.verifier.store.acts import log_size, number_acts, unnumbered
from nodeseal.verifier.store.database import Store

_AT_ONCE: Final = 4096
_OF_COMMANDS: Final = frozenset({PersonAdded.kind, PersonRemoved.kind, PersonCertificateReplaced.kind})
"""Acts of commands on the verifier's host (people/persons.py); memory learns of them when they are numbered."""


class Tree(Protocol):
    """What grows with the log (:class:`nodeseal.verifier.ledger.tree.log_tree.LogTree`)."""

    def last(self, connection: sa.Connection) -> SignedCheckpoint | None:
        """Return the checkpoint in the database, if it goes on from the one outside; None: there is no tree."""

    def extend(self, connection: sa.Connection, envelopes: Sequence[bytes], index: int) -> SignedCheckpoint | None:
        """Add leaves and sign, in the transaction that numbers them."""

    def publish(self, signed: SignedCheckpoint) -> None:
        """Keep a checkpoint outside the database."""


class Sequencer:
    """Numbers the acts of one database."""

    def __init__(self, store: Store, mac_key: MacKey, tree: Tree) -> None:
        self._store: Final = store
        self._mac_key: Final = mac_key
        self._tree: Final = tree
        self._turn: Final = asyncio.Lock()
        self._unpublished: SignedCheckpoint | None = None
        self.published: SignedCheckpoint | None = None
        """The last checkpoint that may be given out."""
        self._unsure = True
        """Whether the database may hold a checkpoint that was not published: at first, and after a failure."""

    async def number(self) -> list[Recorded]:
        """Number all acts, and publish the checkpoint over them; return those of commands on the host.

        Raises:
            MalformedInput: a row was not written by this verifier, or the tree is not the one that it signed.
            Unavailable: the store cannot take it now.
        """
        async with self._turn:
            if self._unsure:
                self._unpublished = await self._store.read(self._tree.last)
            self._unsure, of_others = True, list[Recorded]()
            if await self._store.read(lambda connection: unnumbered(connection, 1)):
                of_others, self._unpublished = await self._store.write(self._number)
            if self._unpublished is not None:
                await asyncio.to_thread(self._tree.publish, self._unpublished)
                self.published = self._unpublished
            self._unpublished, self._unsure = None, False
        return of_others

    def _number(self, connection: sa.Connection) -> tuple[list[Recorded], SignedCheckpoint | None]:
        return number_all(connection, self._mac_key, self._tree)


def number_all(
    connection: sa.Connection, mac_key: MacKey, tree: Tree | None
) -> tuple[list[Recorded], SignedCheckpoint | None]:
    """Number all acts in the caller's transaction.

    Args:
        connection: of the transaction.
        mac_key: authenticates the acts.
        tree: grows with them; None: a tree begins afterwards, over some of them.

    Returns:
        Acts that a command on the host may have recorded, and the checkpoint to publish, if there is a new one.

    Raises:
        MalformedInput: a row was not written by this verifier, or the tree is not the one that it signed.
    """
    size, of_others, signed = log_size(connection), list[Recorded](), None
    while rows := unnumbered(connection, _AT_ONCE):
        for row in rows:
            checked_versions(row, mac_key)
            if row.kind in _OF_COMMANDS:
                of_others.append(Recorded(read_entry(row.envelope, row.body), leaf_hash(row.envelope), {}))
        number_acts(connection, rows, size)
        signed = tree.extend(connection, [row.envelope for row in rows], size) if tree else None
        size += len(rows)
    return of_others, signed
