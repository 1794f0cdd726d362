"""Goldens: activated, listed and retired by people. After each change every node is judged again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import sqlalchemy as sa

from nodeseal.appraisal.banks import pcrs_in
from nodeseal.appraisal.kinds.ima import compile_runtime
from nodeseal.appraisal.outlook import Outlook, foresee
from nodeseal.errors import MalformedInput, NotFound, OutOfOrder
from nodeseal.golden.document import parse_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest
from nodeseal.tpm.pcr_usage import IMA_PCR
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import GoldenActivated, GoldenRetired
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.limits import Seats
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import Store
from nodeseal.verifier.store.policy import (
    GoldenRecord,
    active_digests,
    find_golden,
    list_goldens,
    read_active_goldens,
)

_AT_ONCE: Final = 2
"""Documents each way, up to 64 MiB each, that are in memory at once."""


class Goldens:
    """The goldens of one verifier.

    Attributes:
        arriving: seats; the caller holds one while a document arrives and is activated.
        leaving: seats; the caller holds one while a document is read and sent, so readers do not delay approvers.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet
        self.arriving: Final = Seats(_AT_ONCE, "goldens that arrive")
        self.leaving: Final = Seats(_AT_ONCE, "goldens that are read")

    async def activate(self, document: bytes, by: Mandate) -> GoldenRecord:
        """Activate a golden.

        Raises:
            MalformedInput: it does not parse, or pins PCRs that are not quoted.
            PolicyRefused: the mandate does not allow it.
            OutOfOrder: it is active already.
            Unavailable: it cannot be recorded now.
        """
        golden = await asyncio.to_thread(_prepared, document)
        self._require_quoted(golden)
        self._fleet.memory.prepared[golden.digest] = golden
        name, content = golden.name, document_of(document)

        def decide(connection: sa.Connection) -> Decided[None]:
            if golden.digest in active_digests(connection):
                raise OutOfOrder(f"golden {name} is active already")
            act = GoldenActivated(digest=golden.digest, name=name, document=content.digest)
            return Decided(None, (act,), contents=(content,))

        try:
            recorded = (await self._fleet.ledger.commit(by.actor, by.over(decide))).recorded
        finally:
            self._fleet.memory.prepared.pop(golden.digest, None)
        return GoldenRecord(digest=golden.digest, name=name, document=document, activated=recorded[0].entry.at)

    async def foresee(self, document: bytes) -> Sequence[tuple[Node, Outlook]]:
        """Return what a golden would say of each node, by what is known of it. Nothing is changed.

        Raises:
            MalformedInput: it does not parse, or pins PCRs that are not quoted.
        """
        golden = await asyncio.to_thread(parse_golden, document, "golden")
        self._require_quoted(golden)
        now, found = self._fleet.clock.wall(), list[tuple[Node, Outlook]]()
        for node in tuple(self._fleet.memory.nodes.values()):
            if node.state is not NodeState.RETIRED:
                found.append((node, foresee(golden, node.known, now)))
                await asyncio.sleep(0)  # others' calls and rounds go on in between
        return found

    def steady(self) -> float:
        """Return the time by the steady clock."""
        return self._fleet.clock.steady()

    async def retire(self, digest: Digest, actor: str) -> GoldenRecord:
        """Retire a golden.

        Raises:
            NotFound: no golden of that digest is active.
            NotRecorded: it is in force, and its record waits for the store.
            Unavailable: the store cannot be asked now.
        """
        record = await self.get(digest)
        if record.retired is not None:
            raise NotFound(f"no golden {digest} is active", remedy="nodeseal golden list")
        await self._fleet.restrict(GoldenRetired(digest=digest, name=record.name), actor)
        return await self.get(digest)

    async def list(self, *, include_retired: bool) -> Sequence[GoldenRecord]:
        """Return goldens by digest, without their documents.

        Raises:
            Unavailable: the store cannot be asked now.
        """
        return await self._fleet.store.read(partial(list_goldens, include_retired=include_retired))

    async def get(self, digest: Digest) -> GoldenRecord:
        """Return a golden, active or not.

        Raises:
            NotFound: there is none of that digest.
            Unavailable: the store cannot be asked now.
        """
        record = await self._fleet.store.read(lambda connection: find_golden(connection, digest))
        if record is None:
            raise NotFound(f"there is no golden {digest}", remedy="nodeseal golden list --retired")
        return record

    def _require_quoted(self, golden: Golden) -> None:
        asked = self._fleet.settings.selection
        missing = [f"{bank.hashlib_name}:{pcr}" for bank, pcr, _ in golden.rows() if pcr not in pcrs_in(asked, bank)]
        if golden.runtime is not None and all(pcr != IMA_PCR for _, pcr in asked.indices()):
            missing.append(str(IMA_PCR))
        if missing:
            raise MalformedInput(
                f"golden {golden.name}: judges PCRs that are not quoted: {', '.join(missing)}",
                remedy="add them to attestation.pcrs in verifier.yaml",
            )


def _prepared(document: bytes) -> Golden:
    """Parse a golden and compile its list, which takes seconds if it is long."""
    golden = parse_golden(document, "golden")
    if golden.runtime is not None:
        compile_runtime(golden)
    return golden


def load_golden(record: GoldenRecord) -> Golden:
    """Return the golden of a record, if its document is still the one that was activated.

    Raises:
        MalformedInput: the document was changed in the database.
    """
    golden = parse_golden(record.document, f"golden {record.name}")
    if golden.digest != record.digest:
        raise MalformedInput(f"golden {record.name}: its document was changed in the database")
    return golden


async def active_goldens(store: Store) -> Iterable[Golden]:
    """Return the active goldens.

    Raises:
        MalformedInput: a document was changed in the database.
        Unavailable: the store cannot be asked now.
    """
    return map(load_golden, await store.read(read_active_goldens))
