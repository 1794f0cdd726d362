"""Goldens as people handle them: captured from nodes, activated, retired. Every change judges every node anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, NotFound, OutOfOrder
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, NodeId
from nodeseal.quote import QuotedPcrs
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.verifier import audit
from nodeseal.verifier.fleet import Fleet, Transaction
from nodeseal.verifier.store.database import Store
from nodeseal.verifier.store.policy import GoldenRecord, activate_golden, find_golden, list_goldens, retire_golden

_RUNTIME_PCR: Final = 10
"""IMA's: goldens never pin it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What to make a golden of.

    Attributes:
        name: of the golden.
        nodes: whose values are allowed.
        pcrs: which to pin; empty: all that are quoted and may be pinned.
    """

    name: str
    nodes: tuple[NodeId, ...]
    pcrs: frozenset[int]


class Goldens:
    """The goldens of one verifier."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    def capture(self, wanted: Capture) -> bytes:
        """Return the YAML of a golden that allows what these nodes have proved; nothing is stored or activated.

        Raises:
            MalformedInput: no node, a bad name, or a PCR that is not quoted or must not be pinned.
            NotFound: a node is not enrolled.
            OutOfOrder: a node has proved no values since the verifier started.
        """
        if not wanted.nodes:
            raise MalformedInput("golden capture: names no node")
        proved = [self._proved(node_id) for node_id in wanted.nodes]
        selection = self._fleet.settings.selection
        left_out = {_RUNTIME_PCR, self._fleet.settings.cap_pcr}
        pinned = wanted.pcrs or {pcr for _, pcr in selection.indices()} - left_out
        banks: dict[HashAlg, dict[int, frozenset[bytes]]] = {}
        for bank, pcrs in selection.banks:
            banks[bank] = {pcr: frozenset(map(partial(_value, bank=bank, pcr=pcr), proved)) for pcr in pinned & {*pcrs}}
        quoted = {pcr for _, pcr in selection.indices()}
        if not pinned <= quoted:
            raise MalformedInput(f"golden capture: PCRs {sorted(pinned - quoted)} are not quoted")
        return dump_golden(Golden(name=wanted.name, pcrs={bank: rows for bank, rows in banks.items() if rows}))

    async def activate(self, document: bytes, actor: str) -> GoldenRecord:
        """Let a golden count from now on.

        Raises:
            MalformedInput: it does not parse, or pins PCRs that are not quoted.
            OutOfOrder: it is active already.
            Unavailable: it cannot be recorded now.
        """
        golden = parse_golden(document, "golden")
        self._require_quoted(golden)
        at = self._fleet.clock.wall()
        record = GoldenRecord(digest=golden.digest, name=golden.name, document=document, activated=at)

        def prepare() -> Transaction[None]:
            if golden.digest in {active.digest for active in self._fleet.policy.goldens}:
                raise OutOfOrder(f"golden {golden.name} is active already")

            def work(connection: sa.Connection) -> None:
                activate_golden(connection, record)
                audit.append(connection, _entry("golden.activated", record, actor, at))

            goldens = (*self._fleet.policy.goldens, golden)
            return Transaction(work=work, effect=lambda _: self._fleet.use_goldens(goldens))

        await self._fleet.transact(prepare)
        return record

    async def retire(self, digest: Digest, actor: str) -> GoldenRecord:
        """Let a golden count no more.

        Raises:
            NotFound: no golden of that digest is active.
            Unavailable: it cannot be recorded now.
        """
        at = self._fleet.clock.wall()

        def work(connection: sa.Connection) -> GoldenRecord:
            record = find_golden(connection, digest)
            if record is None or record.retired is not None:
                raise NotFound(f"no golden {digest} is active", remedy="nodeseal golden list")
            retire_golden(connection, digest, at)
            audit.append(connection, _entry("golden.retired", record, actor, at))
            return replace(record, retired=at)

        def effect(_: GoldenRecord) -> None:
            self._fleet.use_goldens(golden for golden in self._fleet.policy.goldens if golden.digest != digest)

        return await self._fleet.transact(lambda: Transaction(work=work, effect=effect))

    async def list(self, *, include_retired: bool) -> Sequence[GoldenRecord]:
        """Return goldens by digest; errors as :meth:`get`."""
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

    def _proved(self, node_id: NodeId) -> QuotedPcrs:
        baseline = self._fleet.get(node_id).baseline
        if baseline is None or baseline.judgement is None:
            raise OutOfOrder(f"{node_id} has proved no values yet", remedy="wait until its agent is connected")
        return baseline.judgement.pcrs

    def _require_quoted(self, golden: Golden) -> None:
        quoted = set(self._fleet.settings.selection.indices())
        missing = [f"{bank.hashlib_name}:{pcr}" for bank, pcr, _ in golden.rows() if (bank, pcr) not in quoted]
        if missing:
            raise MalformedInput(
                f"golden {golden.name}: pins PCRs that are not quoted: {', '.join(missing)}",
                remedy="add them to attestation.pcrs in verifier.yaml",
            )


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
    """Return the goldens that count; errors as :func:`load_golden`."""
    return map(load_golden, await store.read(partial(list_goldens, include_retired=False)))


def _value(proved: QuotedPcrs, bank: HashAlg, pcr: int) -> bytes:
    value = proved.get(bank, pcr)
    if value is None:
        raise OutOfOrder(f"PCR {pcr} of {bank.hashlib_name} is not proved yet", remedy="try again after the next round")
    return value


def _entry(action: str, golden: GoldenRecord, actor: str, at: datetime) -> audit.Record:
    subject, details = f"golden/{golden.digest}", {"name": golden.name}
    return audit.Record(time=at, actor=actor, action=action, subject=subject, details=details)
