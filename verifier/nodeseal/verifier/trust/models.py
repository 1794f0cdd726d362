"""Registered models: keys are released for them until somebody retires them. A model's version never goes back.

Retiring a model ends the leases of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import NotFound, OutOfOrder
from nodeseal.ids import Digest
from nodeseal.sealed.content import parse_content
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.ledger.acts import ModelRegistered, ModelRetired
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.store.policy import ModelRecord, find_model, latest_version, list_models


class Models:
    """The models of one verifier."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def register(self, content: bytes, by: Mandate, *, again: bool) -> ModelRecord:
        """Register the model whose ``nodeseal.model.json`` is ``content``; a registered one stays as it is.

        Args:
            content: exact bytes.
            by: on whose authority.
            again: whether a retired model is registered again.

        Raises:
            MalformedInput: it does not parse.
            PolicyRefused: the mandate does not allow it.
            OutOfOrder: this or a later version of the model was registered before, with other content; or the model was
                retired and ``again`` is not set.
            Unavailable: it cannot be recorded now.
        """
        parsed, document = parse_content(content), document_of(content)
        act = ModelRegistered(
            digest=document.digest,
            model_id=parsed.model_id,
            model_version=parsed.version,
            size=parsed.size,
            files=len(parsed.files),
            again=False,
        )

        def decide(connection: sa.Connection) -> Decided[None]:
            known = find_model(connection, act.digest)
            if known is None:
                _refuse_rollback(connection, act)
                return Decided(None, (act,), contents=(document,))
            if known.retired is None:
                return Decided(None)
            if not again:
                raise _retired(known, known.retired)
            return Decided(None, (replace(act, again=True),))

        await self._fleet.ledger.commit(by.actor, by.over(decide))
        return await self.get(act.digest)

    async def retire(self, digest: Digest, reason: str, actor: str) -> ModelRecord:
        """Retire a model: from now on no key is released and no slot is rewrapped for it, and its leases end.

        Raises:
            NotFound: no model of that digest is registered.
            NotRecorded: it is in force, and its record waits for the store.
            Unavailable: the store cannot be asked now.
        """
        record = await self.get(digest)
        if record.retired is not None:
            raise NotFound(f"no model {digest} is registered", remedy="nodeseal model list")
        act = ModelRetired(digest=digest, model_id=record.model_id, model_version=record.version, reason=reason)
        await self._fleet.restrict(act, actor)
        return await self.get(digest)

    async def list(self) -> Sequence[ModelRecord]:
        """Return all models by name and version, retired or not.

        Raises:
            Unavailable: the store cannot be asked now.
        """
        return await self._fleet.store.read(list_models)

    async def get(self, digest: Digest) -> ModelRecord:
        """Return a model, retired or not.

        Raises:
            NotFound: none of that digest was ever registered.
            Unavailable: the store cannot be asked now.
        """
        record = await self._fleet.store.read(lambda connection: find_model(connection, digest))
        if record is None:
            raise NotFound(f"there is no model {digest}", remedy="nodeseal model list")
        return record


def _refuse_rollback(connection: sa.Connection, act: ModelRegistered) -> None:
    latest = latest_version(connection, act.model_id)
    if latest is not None and act.model_version <= latest:
        raise OutOfOrder(
            f"model {act.model_id}: version {latest} was registered, so version {act.model_version} is not accepted",
            remedy=f"seal it again with --version {latest + 1}",
        )


def _retired(record: ModelRecord, at: datetime) -> OutOfOrder:
    return OutOfOrder(
        f"model {record.model_id}: {record.digest} is retired since {at.isoformat(timespec='seconds')}",
        remedy="nodeseal audit list says why; if it may be opened after all: nodeseal model register DIR --again",
    )
