"""Rotation of model keys: the data key of a sealed model, sealed to other keys of the same verifier.

The data key stays in memory here for as long as that takes; the caller gets slots. The model must be registered and not
retired. No revoked key is used, neither to open a slot nor to seal one, since that would undo the revocation. The audit
record, also of a refusal, is on disk before the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.secret import wipe
from nodeseal.errors import NotFound, PolicyRefused, ProofFailed
from nodeseal.ids import Digest
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.slots import Slot
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.keys.keystore import HeldKey, KeyStore
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.release.entitlement import ROTATION, Choice, Wanted, entitle
from nodeseal.verifier.store.policy import find_key, read_facts
from nodeseal.wire.findings import plain_findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrap:
    """A request for slots of other keys.

    Attributes:
        model_digest: the model.
        slots: its slots; the first one that can be opened here is opened.
        keys: the keys to seal to, as their public files have them.
        actor: who decided.
    """

    model_digest: Digest
    slots: tuple[Slot, ...]
    keys: tuple[ModelKey, ...]
    actor: str


class Rotation:
    """Rewraps slots."""

    def __init__(self, fleet: Fleet, keys: KeyStore) -> None:
        self._fleet: Final = fleet
        self._keys: Final = keys

    async def rewrap(self, rewrap: Rewrap) -> tuple[Slot, ...]:
        """Return a slot for each of the keys, in their order.

        Raises:
            PolicyRefused: the model is not registered, or retired, or no slot is of a key held here and in force.
            NotFound: one of the keys is not held here as its file has it, or was revoked.
            ProofFailed: ``release.slot``: the slot does not open.
            Unavailable: the key store does not answer, or it cannot be recorded now.
        """
        try:
            return await self._rewrap(rewrap)
        except (PolicyRefused, ProofFailed) as error:
            denied = _record(rewrap, "model.rewrap-denied", {"findings": plain_findings(error.findings)}, self._now())
            await self._fleet.store.write(lambda connection: audit.append(connection, denied))
            raise

    async def _rewrap(self, rewrap: Rewrap) -> tuple[Slot, ...]:
        slot, data_key = await self._open(rewrap)
        try:
            made = tuple(target.slot(rewrap.model_digest, data_key) for target in rewrap.keys)
        finally:
            wipe(data_key)
        facts = {"from": _named(slot), "to": [_named(each) for each in made]}
        record = _record(rewrap, "model.rewrapped", facts, self._now())

        def work(connection: sa.Connection) -> None:
            _allowed(connection, rewrap)  # people may have changed their minds
            audit.append(connection, record)

        await self._fleet.transact(lambda: Transaction(work=work, effect=lambda _: None))
        return made

    async def _open(self, rewrap: Rewrap) -> tuple[Slot, bytearray]:
        slot, key = await self._fleet.store.read(lambda connection: _allowed(connection, rewrap))
        held = HeldKey(key.model_key, key.place)
        return slot, await asyncio.to_thread(self._keys.open_slot, held, rewrap.model_digest, slot.sealed)

    def _now(self) -> datetime:
        return self._fleet.clock.wall()


def _allowed(connection: sa.Connection, rewrap: Rewrap) -> Choice:
    """Return the slot to open and its key."""
    for key in rewrap.keys:
        _require_current(connection, key)
    wanted = Wanted(model_digest=rewrap.model_digest, slots=rewrap.slots)
    return entitle(read_facts(connection, wanted.model_digest, wanted.key_ids), wanted, ROTATION).require()


def _require_current(connection: sa.Connection, key: ModelKey) -> None:
    record = find_key(connection, key.key_id)
    if record is None or record.revoked is not None or record.model_key != key:
        raise NotFound(
            f"version {key.key_version} of {key.key_id} with that public half is not in force here",
            remedy=f"nodeseal key show {key.key_id} --public FILE",
        )


def _named(slot: Slot) -> dict[str, object]:
    return {"key_id": slot.key_id, "key_version": slot.key_version}


def _record(rewrap: Rewrap, action: str, details: Mapping[str, object], at: datetime) -> audit.Record:
    subject = f"model/{rewrap.model_digest}"
    return audit.Record(time=at, actor=rewrap.actor, action=action, subject=subject, details=details)
