"""Services for people: ``Nodes``, ``Goldens``, ``Keys``, ``Models`` and ``Audit`` of ``nodeseal.v1``.

Every handler is message → value, one call, value → message. :mod:`nodeseal.verifier.people.roles` lists who may call
them.
"""
# ruff: noqa: N802, D102, ARG002 - methods are named, described and shaped in admin.proto

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from grpc import aio

from nodeseal.errors import OutOfOrder
from nodeseal.golden.document import MAX_GOLDEN
from nodeseal.ids import parse_digest, parse_key_id, parse_node_id
from nodeseal.sealed.slots import Slots
from nodeseal.v1 import admin_pb2, admin_pb2_grpc
from nodeseal.verifier.fleet.admin import NodeAdmin, parse_reason
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger import first_log
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.log import read_whole
from nodeseal.verifier.people.suspensions import Suspensions
from nodeseal.verifier.release.rotation import Rotation
from nodeseal.verifier.results.exports import Exports
from nodeseal.verifier.results.tokens import Tokens
from nodeseal.verifier.services.convert_admin import (
    act_to_proto,
    evidence_parts,
    filter_from_proto,
    first_page,
    golden_parts,
    golden_to_proto,
    grant_from_proto,
    key_to_proto,
    model_to_proto,
    new_key_from_proto,
    node_to_proto,
    outlook_to_proto,
    rewrap_from_proto,
)
from nodeseal.verifier.services.interceptor import caller
from nodeseal.verifier.store.acts import first_of_newest, log_page
from nodeseal.verifier.trust.goldens import Goldens
from nodeseal.verifier.trust.keys import ModelKeys, Revocation
from nodeseal.verifier.trust.models import Models
from nodeseal.wire.transfer import Assembly

_PAGE: Final = 1000
_TRANSFER_SECONDS: Final = 120
_Context = aio.ServicerContext[Any, Any]
_Part = TypeVar("_Part")


class NodesService(admin_pb2_grpc.NodesServicer):
    """Shows nodes to people and takes their decisions."""

    def __init__(self, fleet: Fleet, admin: NodeAdmin, exports: Exports, tokens: Tokens) -> None:
        self._fleet: Final = fleet
        self._admin: Final = admin
        self._exports: Final = exports
        self._tokens: Final = tokens

    async def ListNodes(self, request: admin_pb2.ListNodesRequest, context: _Context) -> admin_pb2.ListNodesResponse:
        limit = min(request.limit or _PAGE, _PAGE)
        nodes = sorted((node for node in self._fleet if node.record.node_id > request.after), key=_node_id)[:limit]
        return admin_pb2.ListNodesResponse(nodes=first_page(map(self._message, nodes)))

    async def GetNode(self, request: admin_pb2.GetNodeRequest, context: _Context) -> admin_pb2.Node:
        return self._message(self._fleet.get(parse_node_id(request.node_id)))

    async def AdmitNode(self, request: admin_pb2.AdmitNodeRequest, context: _Context) -> admin_pb2.Node:
        return self._message(await self._admin.admit(parse_node_id(request.node_id), caller().authority))

    async def QuarantineNode(self, request: admin_pb2.QuarantineNodeRequest, context: _Context) -> admin_pb2.Node:
        node_id = parse_node_id(request.node_id)
        return self._message(await self._admin.quarantine(node_id, request.reason, caller().actor))

    async def RetireNode(self, request: admin_pb2.RetireNodeRequest, context: _Context) -> admin_pb2.Node:
        node_id = parse_node_id(request.node_id)
        return self._message(await self._admin.retire(node_id, request.reason, caller().actor))

    async def LabelNode(self, request: admin_pb2.LabelNodeRequest, context: _Context) -> admin_pb2.Node:
        node_id = parse_node_id(request.node_id)
        return self._message(await self._admin.label(node_id, dict(request.labels), caller().authority))

    async def GetEvidence(  # type: ignore[override]  # the generated stubs know no handlers that write
        self, request: admin_pb2.GetEvidenceRequest, context: aio.ServicerContext[Any, admin_pb2.EvidencePart]
    ) -> None:
        async with self._exports.seats.one():
            files = await self._exports.evidence(parse_node_id(request.node_id), caller().actor)
            await _send(evidence_parts(files), context)

    async def GetToken(self, request: admin_pb2.GetTokenRequest, context: _Context) -> admin_pb2.Token:
        token = self._tokens.token(parse_node_id(request.node_id), request.nonce)
        return admin_pb2.Token(token=token, public_jwk=self._tokens.public_jwk)

    def _message(self, node: Node) -> admin_pb2.Node:
        return node_to_proto(node, self._fleet.clock.steady())


class GoldensService(admin_pb2_grpc.GoldensServicer):
    """Activates, retires and returns goldens."""

    def __init__(self, goldens: Goldens) -> None:
        self._goldens: Final = goldens

    async def ActivateGolden(
        self, requests: AsyncIterator[admin_pb2.ActivateGoldenRequest], context: _Context
    ) -> admin_pb2.Golden:
        async with self._goldens.arriving.one():
            document = await _collected(requests)
            return golden_to_proto(await self._goldens.activate(document, caller().authority))

    async def ForeseeGolden(  # type: ignore[override]  # the generated stubs know no handlers that write
        self,
        requests: AsyncIterator[admin_pb2.ActivateGoldenRequest],
        context: aio.ServicerContext[Any, admin_pb2.GoldenOutlook],
    ) -> None:
        async with self._goldens.arriving.one():
            found = await self._goldens.foresee(await _collected(requests))
            now = self._goldens.steady()
            await _send((outlook_to_proto(node, outlook, now) for node, outlook in found), context)

    async def RetireGolden(self, request: admin_pb2.RetireGoldenRequest, context: _Context) -> admin_pb2.Golden:
        return golden_to_proto(await self._goldens.retire(parse_digest(request.digest), caller().actor))

    async def ListGoldens(
        self, request: admin_pb2.ListGoldensRequest, context: _Context
    ) -> admin_pb2.ListGoldensResponse:
        goldens = await self._goldens.list(include_retired=request.include_retired)
        return admin_pb2.ListGoldensResponse(goldens=map(golden_to_proto, goldens))

    async def GetGolden(  # type: ignore[override]  # the generated stubs know no handlers that write
        self, request: admin_pb2.GetGoldenRequest, context: aio.ServicerContext[Any, admin_pb2.Golden]
    ) -> None:
        async with self._goldens.leaving.one():
            await _send(golden_parts(await self._goldens.get(parse_digest(request.digest))), context)


class KeysService(admin_pb2_grpc.KeysServicer):
    """Creates, grants, revokes and rotates model keys."""

    def __init__(self, keys: ModelKeys, rotation: Rotation, suspensions: Suspensions) -> None:
        self._keys: Final = keys
        self._suspensions: Final = suspensions
        self._rotation: Final = rotation

    async def CreateKey(self, request: admin_pb2.CreateKeyRequest, context: _Context) -> admin_pb2.Key:
        return key_to_proto(await self._keys.create(new_key_from_proto(request), caller().authority))

    async def ListKeys(self, request: admin_pb2.ListKeysRequest, context: _Context) -> admin_pb2.ListKeysResponse:
        return admin_pb2.ListKeysResponse(keys=map(key_to_proto, await self._keys.list()))

    async def GetKey(self, request: admin_pb2.GetKeyRequest, context: _Context) -> admin_pb2.Key:
        return key_to_proto(await self._keys.get(parse_key_id(request.key_id)))

    async def GrantKey(self, request: admin_pb2.GrantKeyRequest, context: _Context) -> admin_pb2.Key:
        return key_to_proto(await self._keys.grant(*grant_from_proto(request), caller().authority))

    async def SetKeyPolicy(self, request: admin_pb2.SetKeyPolicyRequest, context: _Context) -> admin_pb2.Key:
        key_id = parse_key_id(request.key_id)
        return key_to_proto(await self._keys.set_silence(key_id, request.silence_seconds, caller().authority))

    async def RevokeKey(self, request: admin_pb2.RevokeKeyRequest, context: _Context) -> admin_pb2.Key:
        revocation = Revocation(
            key_id=parse_key_id(request.key_id),
            node_id=parse_node_id(request.node_id) if request.node_id else None,
            reason=parse_reason(request.reason),
            actor=caller().actor,
        )
        return key_to_proto(await self._keys.revoke(revocation))

    async def SuspendKey(self, request: admin_pb2.SuspendKeyRequest, context: _Context) -> admin_pb2.Key:
        key_id = parse_key_id(request.key_id)
        await self._suspensions.suspend_key(key_id, parse_reason(request.reason), caller().actor)
        return key_to_proto(await self._keys.get(key_id))

    async def ResumeKey(self, request: admin_pb2.ResumeKeyRequest, context: _Context) -> admin_pb2.Key:
        key_id = parse_key_id(request.key_id)
        await self._suspensions.resume_key(key_id, caller().authority)
        return key_to_proto(await self._keys.get(key_id))

    async def RewrapSlots(
        self, request: admin_pb2.RewrapSlotsRequest, context: _Context
    ) -> admin_pb2.RewrapSlotsResponse:
        rewrap = rewrap_from_proto(request, caller().authority)
        slots = Slots(rewrap.model_digest, await self._rotation.rewrap(rewrap))
        return admin_pb2.RewrapSlotsResponse(slots=slots.encode())


class ModelsService(admin_pb2_grpc.ModelsServicer):
    """Registers and retires models."""

    def __init__(self, models: Models) -> None:
        self._models: Final = models

    async def RegisterModel(self, request: admin_pb2.RegisterModelRequest, context: _Context) -> admin_pb2.Model:
        model = await self._models.register(request.content, caller().authority, again=request.again)
        return model_to_proto(model, with_content=False)

    async def RetireModel(self, request: admin_pb2.RetireModelRequest, context: _Context) -> admin_pb2.Model:
        digest, reason = parse_digest(request.digest), parse_reason(request.reason)
        return model_to_proto(await self._models.retire(digest, reason, caller().actor), with_content=False)

    async def ListModels(self, request: admin_pb2.ListModelsRequest, context: _Context) -> admin_pb2.ListModelsResponse:
        models = await self._models.list()
        return admin_pb2.ListModelsResponse(models=[model_to_proto(model, with_content=False) for model in models])

    async def GetModel(self, request: admin_pb2.GetModelRequest, context: _Context) -> admin_pb2.Model:
        return model_to_proto(await self._models.get(parse_digest(request.digest)), with_content=True)


class AuditService(admin_pb2_grpc.AuditServicer):
    """Returns acts of the log, and records of the closed log before it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger: Final = ledger
        self._store: Final = ledger.store

    async def ListRecords(  # type: ignore[override]  # the generated stubs know no handlers that write
        self, request: admin_pb2.ListRecordsRequest, context: aio.ServicerContext[Any, admin_pb2.AuditRecord]
    ) -> None:
        await self._ledger.sequence()  # so that people see what they did a moment ago
        pages = self._closed_pages(request) if request.closed else self._pages(request)
        async for page in pages:
            for record in page:
                await context.write(record)

    async def GetRecord(self, request: admin_pb2.GetRecordRequest, context: _Context) -> admin_pb2.AuditRecord:
        await self._ledger.sequence()
        return act_to_proto(*await self._store.read(partial(read_whole, sequence=request.sequence)))

    async def _pages(self, request: admin_pb2.ListRecordsRequest) -> AsyncIterator[list[admin_pb2.AuditRecord]]:
        wanted, left = filter_from_proto(request), request.limit or sys.maxsize
        if request.newest and request.limit:
            first = await self._store.read(partial(first_of_newest, wanted=wanted, count=left))
            wanted = replace(wanted, after=first)
        while left:
            rows = await self._store.read(partial(log_page, wanted=wanted, limit=min(left, _PAGE)))
            if not rows:
                return
            yield list(map(act_to_proto, rows))
            left -= len(rows)
            wanted = replace(wanted, after=(rows[-1].leaf_index or 0) + 1)

    async def _closed_pages(self, request: admin_pb2.ListRecordsRequest) -> AsyncIterator[list[admin_pb2.AuditRecord]]:
        after, left = filter_from_proto(request).after, request.limit or sys.maxsize
        if request.newest and request.limit:
            after = max(after, await self._store.read(partial(first_log.before_newest, count=left)))
        while left:
            size = min(left, _PAGE)
            rows = await self._store.read(partial(first_log.page, after=after, limit=size))
            yield [
                admin_pb2.AuditRecord(sequence=sequence, leaf_hash=leaf, content=content)
                for sequence, leaf, content in rows
            ]
            if len(rows) < size:
                return
            after, left = rows[-1][0], left - len(rows)


def _node_id(node: Node) -> str:
    return node.record.node_id


async def _collected(requests: AsyncIterator[admin_pb2.ActivateGoldenRequest]) -> bytes:
    document = Assembly(MAX_GOLDEN, "the golden")
    try:
        async with asyncio.timeout(_TRANSFER_SECONDS):
            async for request in requests:
                document.add(request.document)
    except TimeoutError as error:
        raise OutOfOrder(f"the golden did not arrive within {_TRANSFER_SECONDS} seconds") from error
    return document.whole()


async def _send(parts: Iterable[_Part], context: aio.ServicerContext[Any, _Part]) -> None:
    """Write parts within a time limit: a slow reader keeps others from their turn."""
    try:
        async with asyncio.timeout(_TRANSFER_SECONDS):
            for part in parts:
                await context.write(part)
    except TimeoutError as error:
        raise OutOfOrder(f"the answer was not read within {_TRANSFER_SECONDS} seconds") from error
