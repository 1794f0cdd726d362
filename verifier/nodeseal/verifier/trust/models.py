"""Registered models: keys are released for them until somebody retires them. A model's version never goes back.

Retiring ends no lease: a node that has opened the model keeps it until its lease ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import NotFound, OutOfOrder
from nodeseal.ids import Digest, digest_of
from nodeseal.sealed.content import parse_content
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.store.policy import (
    ModelRecord,
    add_model,
    find_model,
    latest_version,
    list_models,
    restore_model,
    retire_model,
)


class Models:
    """The models of one verifier."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def register(self, content: bytes, actor: str, *, again: bool) -> ModelRecord:
        """Register the model whose ``nodeseal.model.json`` is ``content``; a registered one stays as it is.

        Args:
            content: exact bytes.
            actor: who decided.
            again: whether a retired model is registered again.

        Raises:
            MalformedInput: it does not parse.
            OutOfOrder: this or a later version of the model was registered before, with other content; or the model was
                retired and ``again`` is not set.
            Unavailable: it cannot be recorded now.
        """
        parsed = parse_content(content)
        at = self._fleet.clock.wall()
        record = ModelRecord(
            digest=digest_of(content),
            model_id=parsed.model_id,
            version=parsed.version,
            size=parsed.size,
            files=len(parsed.files),
            content=content,
            registered=at,
        )

        def work(connection: sa.Connection) -> ModelRecord:
            known = find_model(connection, record.digest)
            if known is None:
                _refuse_rollback(connection, record)
                add_model(connection, record)
            elif known.retired is None:
                return known
            elif again:
                restore_model(connection, record.digest, at)
            else:
                raise _retired(record, known.retired)
            details = {"size": record.size, "again": known is not None}
            audit.append(connection, _entry("model.registered", record, actor, at, details))
            return record

        return await self._fleet.transact(lambda: Transaction(work=work, effect=lambda _: None))

    async def retire(self, digest: Digest, reason: str, actor: str) -> ModelRecord:
        """Retire a model: from now on no key is released and no slot is rewrapped for it. Running leases go on.

        Raises:
            NotFound: no model of that digest is registered.
            Unavailable: it cannot be recorded now.
        """
        at = self._fleet.clock.wall()

        def work(connection: sa.Connection) -> ModelRecord:
            record = find_model(connection, digest)
            if record is None or record.retired is not None:
                raise NotFound(f"no model {digest} is registered", remedy="nodeseal model list")
            retire_model(connection, digest, at)
            audit.append(connection, _entry("model.retired", record, actor, at, {"reason": reason}))
            return replace(record, retired=at)

        return await self._fleet.transact(lambda: Transaction(work=work, effect=lambda _: None))

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


def _refuse_rollback(connection: sa.Connection, record: ModelRecord) -> None:
    latest = latest_version(connection, record.model_id)
    if latest is not None and record.version <= latest:
        raise OutOfOrder(
            f"model {record.model_id}: version {latest} was registered, so version {record.version} is not accepted",
            remedy=f"seal it again with --version {latest + 1}",
        )


def _retired(record: ModelRecord, at: datetime) -> OutOfOrder:
    return OutOfOrder(
        f"model {record.model_id}: {record.digest} is retired since {at.isoformat(timespec='seconds')}",
        remedy="nodeseal audit list says why; if it may be opened after all: nodeseal model register DIR --again",
    )


def _entry(action: str, model: ModelRecord, actor: str, at: datetime, details: Mapping[str, object]) -> audit.Record:
    facts = {"model_id": model.model_id, "version": model.version, **details}
    return audit.Record(time=at, actor=actor, action=action, subject=f"model/{model.digest}", details=facts)
