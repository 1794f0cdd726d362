"""The service ``Log`` of ``nodeseal.v1``: checkpoints, proofs and exports, for auditors."""
# ruff: noqa: N802, D102, ARG002 - methods are named, described and shaped in log.proto

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from grpc import aio

from nodeseal.errors import OutOfOrder, Unavailable
from nodeseal.tlog.checkpoint import SignedCheckpoint, log_key
from nodeseal.v1 import log_pb2, log_pb2_grpc
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.tree.proofs import prove_consistency, prove_record
from nodeseal.verifier.results.log_export import LogExport, Moment
from nodeseal.wire.transfer import in_parts

_EXPORT_SECONDS: Final = 600
_Context = aio.ServicerContext[Any, Any]
_Parts = aio.ServicerContext[Any, log_pb2.ExportPart]


class LogService(log_pb2_grpc.LogServicer):
    """Gives out what is signed, and nothing that is not kept outside the database yet."""

    def __init__(self, ledger: Ledger, public: bytes) -> None:
        self._ledger: Final = ledger
        self._public: Final = public
        self._export: Final = LogExport(ledger, public)
        self._exporting: Final = asyncio.Lock()

    async def GetCheckpoint(self, request: log_pb2.GetCheckpointRequest, context: _Context) -> log_pb2.Checkpoint:
        return self._message(await self._signed())

    async def ProveRecord(self, request: log_pb2.ProveRecordRequest, context: _Context) -> log_pb2.RecordProof:
        signed = await self._signed()
        proved = await self._ledger.store.read(
            partial(prove_record, signed=signed, sequence=request.sequence, size=request.size)
        )
        return log_pb2.RecordProof(note=signed.raw, index=proved.place, path=proved.path, content=proved.envelope)

    async def ProveConsistency(
        self, request: log_pb2.ProveConsistencyRequest, context: _Context
    ) -> log_pb2.ConsistencyProof:
        signed = await self._signed()
        path = await self._ledger.store.read(
            partial(prove_consistency, signed=signed, old=request.old_size, size=request.size)
        )
        return log_pb2.ConsistencyProof(path=path)

    async def ExportLog(  # type: ignore[override]  # the generated stubs know no handlers that write
        self, request: log_pb2.ExportLogRequest, context: _Parts
    ) -> None:
        async with self._exporting:
            try:
                async with asyncio.timeout(_EXPORT_SECONDS):
                    await self._send(await self._export.moment(), context)
            except TimeoutError as error:
                raise OutOfOrder(f"the export was not read within {_EXPORT_SECONDS} seconds") from error

    async def _send(self, moment: Moment, context: _Parts) -> None:
        await context.write(log_pb2.ExportPart(checkpoint=self._message(moment.signed)))
        async for page in self._export.leaves(moment):
            for row, leaf in page:
                act = log_pb2.ExportedAct(
                    sequence=(row.leaf_index or 0) + 1, envelope=row.envelope, body=row.body, leaf_hash=leaf
                )
                await context.write(log_pb2.ExportPart(act=act))
        for digest in moment.documents:
            for part in in_parts(await self._export.document(digest)):
                await context.write(log_pb2.ExportPart(document=log_pb2.ExportedDocument(digest=digest, data=part)))
        for content in moment.rows:
            await context.write(log_pb2.ExportPart(row=log_pb2.ExportedRow(content=content)))

    async def _signed(self) -> SignedCheckpoint:
        await self._ledger.sequence()  # so that people see what they did a moment ago
        if self._ledger.published is None:
            raise Unavailable("the log has no checkpoint yet", remedy="try again in a second")
        return self._ledger.published

    def _message(self, signed: SignedCheckpoint) -> log_pb2.Checkpoint:
        return log_pb2.Checkpoint(note=signed.raw, key=log_key(signed.checkpoint.origin, self._public).text)
