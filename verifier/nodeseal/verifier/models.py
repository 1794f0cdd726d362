"""Registered models: only what somebody registered is ever released, and a model's version never goes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import NotFound, OutOfOrder
from nodeseal.ids import Digest, digest_of
from nodeseal.sealed.content import parse_content
from nodeseal.verifier import audit
from nodeseal.verifier.fleet import Fleet, Transaction
from nodeseal.verifier.store.policy import ModelRecord, add_model, find_model, latest_version, list_models


class Models:
    """The models of one verifier."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet

    async def register(self, content: bytes, actor: str) -> ModelRecord:
        """Register the model whose ``nodeseal.model.json`` is ``content``; the same again changes nothing.

        Raises:
            MalformedInput: it does not parse.
            OutOfOrder: this or a later version of the model is registered already, with other content.
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
            if known is not None:
                return known
            _refuse_rollback(connection, record)
            add_model(connection, record)
            details = {"model_id": record.model_id, "version": record.version, "size": record.size}
            subject = f"model/{record.digest}"
            audit.append(
                connection,
                audit.Record(time=at, actor=actor, action="model.registered", subject=subject, details=details),
            )
            return record

        return await self._fleet.transact(lambda: Transaction(work=work, effect=lambda _: None))

    async def list(self) -> Sequence[ModelRecord]:
        """Return all models by name and version; errors as :meth:`get`."""
        return await self._fleet.store.read(list_models)

    async def get(self, digest: Digest) -> ModelRecord:
        """Return a model.

        Raises:
            NotFound: none of that digest is registered.
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
            f"model {record.model_id}: version {latest} is registered, so version {record.version} is not accepted",
            remedy=f"seal it again with --version {latest + 1}",
        )
