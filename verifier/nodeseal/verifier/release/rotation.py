"""Rotation of model keys: the data key of a sealed model, sealed to other keys of the same verifier.

The data key stays in memory here for as long as that takes; the caller gets slots. The model must be registered and not
retired. No revoked key is used, neither to open a slot nor to seal one, since that would undo the revocation. The act,
also that of a refusal, is on disk before the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.secret import wipe
from nodeseal.errors import NotFound, OutOfOrder, PolicyRefused, ProofFailed
from nodeseal.ids import Digest
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.slots import Slot, Slots
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.keys.keystore import HeldKey, KeyStore
from nodeseal.verifier.ledger.acts import RewrapDenied, SlotsRewrapped, key_subject, model_subject
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import findings_document
from nodeseal.verifier.ledger.tree.explained import rotation_places
from nodeseal.verifier.release.entitlement import ROTATION, Choice, Wanted, entitle
from nodeseal.verifier.store.policy import find_key, read_facts

_SLOTS_OF_AN_ACT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrap:
    """A request for slots of other keys.

    Attributes:
        model_digest: the model.
        slots: its slots; the first one that can be opened here is opened.
        keys: the keys to seal to, as their public files have them.
        by: on whose authority.
    """

    model_digest: Digest
    slots: tuple[Slot, ...]
    keys: tuple[ModelKey, ...]
    by: Mandate


class Rotation:
    """Rewraps slots."""

    def __init__(self, fleet: Fleet, keys: KeyStore) -> None:
        self._fleet: Final = fleet
        self._keys: Final = keys

    async def rewrap(self, rewrap: Rewrap) -> tuple[Slot, ...]:
        """Return a slot for each of the keys, in their order.

        Raises:
            PolicyRefused: the mandate does not allow it; or the model is not registered; or no slot is of a key
                held here and in force.
            NotFound: one of the keys is not held here as its file has it, or was revoked or suspended.
            ProofFailed: ``release.slot``: the slot does not open.
            Unavailable: the key store does not answer, or it cannot be recorded now.
        """
        try:
            return await self._rewrap(rewrap)
        except (PolicyRefused, ProofFailed) as error:
            codes, findings = findings_document(error.findings)
            act = RewrapDenied(digest=rewrap.model_digest, codes=codes, findings=findings.digest)
            await self._fleet.ledger.commit(rewrap.by.actor, lambda _: Decided(None, (act,), (findings,)))
            raise

    async def _rewrap(self, rewrap: Rewrap) -> tuple[Slot, ...]:
        slot, data_key = await self._open(rewrap)
        try:
            made = tuple(target.slot(rewrap.model_digest, data_key) for target in rewrap.keys)
        finally:
            wipe(data_key)
        acts = tuple(_acts(rewrap.model_digest, slot, made))

        def decide(connection: sa.Connection) -> Decided[None]:
            self._allowed(connection, rewrap)  # people may have changed their minds
            return Decided(None, acts)

        self._refuse_withheld(rewrap)
        result = Slots(rewrap.model_digest, made).encode()
        await self._fleet.ledger.commit(rewrap.by.actor, rewrap.by.over(decide, result))
        self._refuse_withheld(rewrap)
        return made

    async def _open(self, rewrap: Rewrap) -> tuple[Slot, bytearray]:
        await self._fleet.store.read(lambda connection: rewrap.by.allow(connection, b""))
        slot, key = await self._fleet.store.read(lambda connection: self._allowed(connection, rewrap))
        held = HeldKey(key.model_key, key.place)
        return slot, await asyncio.to_thread(self._keys.open_slot, held, rewrap.model_digest, slot.sealed)

    def _allowed(self, connection: sa.Connection, rewrap: Rewrap) -> Choice:
        """Return the slot to open and its key."""
        wanted = Wanted(model_digest=rewrap.model_digest, slots=rewrap.slots)
        named = (*wanted.key_ids, *(key.key_id for key in rewrap.keys))
        self._fleet.ledger.explained.require(connection, rotation_places(wanted.model_digest, named))
        for key in rewrap.keys:
            _require_current(connection, key)
        return entitle(read_facts(connection, wanted.model_digest, wanted.key_ids), wanted, ROTATION).require()

    def _refuse_withheld(self, rewrap: Rewrap) -> None:
        """Refuse what a person has taken away a moment ago, whose record waits."""
        keys = {key.key_id for key in rewrap.keys} | {slot.key_id for slot in rewrap.slots}
        subjects = (model_subject(rewrap.model_digest), *map(key_subject, keys))
        if self._fleet.memory.withheld(subjects) is not None:
            remedy = "nodeseal audit list says by whom"
            raise OutOfOrder(f"model {rewrap.model_digest}, or one of its keys, was taken away", remedy=remedy)


def _require_current(connection: sa.Connection, key: ModelKey) -> None:
    record = find_key(connection, key.key_id)
    if record is None or record.revoked is not None or record.suspended is not None or record.model_key != key:
        raise NotFound(
            f"version {key.key_version} of {key.key_id} with that public half is not in force here",
            remedy=f"nodeseal key show {key.key_id} --public FILE",
        )


def _acts(model: Digest, opened: Slot, made: tuple[Slot, ...]) -> Iterator[SlotsRewrapped]:
    """Yield acts that together name all slots that were made."""
    for start in range(0, len(made), _SLOTS_OF_AN_ACT):
        part = tuple(map(_named, made[start : start + _SLOTS_OF_AN_ACT]))
        yield SlotsRewrapped(digest=model, opened=_named(opened), made=part)


def _named(slot: Slot) -> str:
    return f"{slot.key_id} version {slot.key_version}"
