"""Extreme values in every field of every request: refused by name, never a fault of the verifier's own.

The requests are made from the descriptors of the services, so a new call or field is tried without a line here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from nodeseal.crypto.tls_key import certificate_request
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, key_release_pb2, log_pb2
from support.admin import trusted_node
from support.fake_node import FakeNode
from support.floods import faults
from support.releases import joined
from support.verifier import RunningVerifier, a_verifier

FILES = (admin_pb2, attestation_pb2, enrollment_pb2, key_release_pb2, log_pb2)
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
LARGE = 150_000
"""Bytes: below what one message may have on either port."""
DEPTH = 4
NOBODY = "n-" + "a" * 26
KEY = "extremes"
INTEGERS = {
    FieldDescriptor.TYPE_UINT32: (1, 2**31, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), -1, 2**63 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), -1, 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (1, 2**31 - 1, -1),
}
TEXTS = ("x", "x" * LARGE, "\0", "\x1b[2J", "n-" + "a" * 26, "ff" * 32, "\U0010ffff" * 100)
BYTES = (b"\0", bytes(LARGE), b"\xff" * LARGE, b"\x30\x84\xff\xff\xff\xff", b"\x00\x01" * 40, b"{" * 5000)
OF_ONE_NODE = 8
HUNG_UP = "Internal error from Core"
"""What grpc.aio's client says when a call ended while it wrote; the verifier's own faults say something else."""
FAULTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    folder: Path = tmp_path_factory.mktemp("extremes")
    with a_verifier(folder, answer_within_seconds=2) as running:
        yield running


@pytest.fixture(scope="module")
def node(verifier: RunningVerifier) -> FakeNode:
    async def made() -> FakeNode:
        async with verifier.person() as admin:
            await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=KEY))
        return await trusted_node(verifier)

    return asyncio.run(made())


Edit = Callable[[Any], None]


def edits(kind: Descriptor, depth: int = DEPTH) -> Iterator[Edit]:
    """Yield changes of a message: each sets one field, somewhere in it, to one extreme."""
    for field in kind.fields if depth else ():
        name, of_message = field.name, field.message_type
        if of_message is not None and of_message.GetOptions().map_entry:
            yield from (partial(_replace, name=name, value={key: key}) for key in TEXTS)
            yield partial(_replace, name=name, value={str(number): "x" for number in range(5000)})
        elif of_message is not None and not field.is_repeated:
            yield from (partial(_within, name=name, edit=edit) for edit in edits(of_message, depth - 1))
        elif of_message is not None:
            for edit in edits(of_message, depth - 1):
                yield partial(_appended, name=name, edit=edit)
        else:
            for value in _extremes(field):
                yield partial(_replace, name=name, value=[value] if field.is_repeated else value)
                if field.is_repeated and len(str(value)) < 100:
                    yield partial(_replace, name=name, value=[value] * 5000)


def _extremes(field: FieldDescriptor) -> tuple[Any, ...]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return TEXTS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BYTES
    return (True,) if field.type == FieldDescriptor.TYPE_BOOL else INTEGERS[field.type]


def _replace(message: Any, name: str, value: Any) -> None:
    message.ClearField(name)
    message.MergeFrom(type(message)(**{name: value}))


def _within(message: Any, name: str, edit: Edit) -> None:
    getattr(message, name).SetInParent()
    edit(getattr(message, name))


def _appended(message: Any, name: str, edit: Edit) -> None:
    edit(getattr(message, name).add())


def requests(path: str, node: FakeNode) -> Iterator[Message]:
    """Yield an empty request, a good one where there is a short way to it, and both with one extreme each."""
    kind = GetMessageClass(METHODS[path].input_type)
    for base in (kind(), *(make(node) for make in GOOD.get(path, ()))):
        yield base
        for edit in edits(METHODS[path].input_type):
            changed = kind()
            changed.CopyFrom(base)
            edit(changed)
            yield changed


def _evidence(node: FakeNode) -> attestation_pb2.Evidence:
    banks = [attestation_pb2.PcrSelection.Bank(hash=0x000B, pcrs=range(8))]
    selection = attestation_pb2.PcrSelection(banks=banks)
    return node.evidence(attestation_pb2.Challenge(nonce=bytes(32), pcr_selection=selection))


GOOD: dict[str, tuple[Callable[[FakeNode], Message], ...]] = {
    "/nodeseal.v1.Nodes/LabelNode": (lambda node: admin_pb2.LabelNodeRequest(node_id=node.node_id, labels={"a": "b"}),),
    "/nodeseal.v1.Nodes/QuarantineNode": (lambda _: admin_pb2.QuarantineNodeRequest(node_id=NOBODY, reason="odd"),),
    "/nodeseal.v1.Nodes/RetireNode": (lambda _: admin_pb2.RetireNodeRequest(node_id=NOBODY, reason="sold"),),
    "/nodeseal.v1.Nodes/GetToken": (lambda node: admin_pb2.GetTokenRequest(node_id=node.node_id, nonce=bytes(8)),),
    "/nodeseal.v1.Keys/CreateKey": (lambda _: admin_pb2.CreateKeyRequest(key_id="extreme"),),
    "/nodeseal.v1.Keys/SetKeyPolicy": (lambda _: admin_pb2.SetKeyPolicyRequest(key_id=KEY),),
    "/nodeseal.v1.Keys/GrantKey": (
        lambda node: admin_pb2.GrantKeyRequest(key_id=KEY, grant=admin_pb2.Grant(node_id=node.node_id, max_leases=1)),
    ),
    "/nodeseal.v1.Keys/RevokeKey": (lambda _: admin_pb2.RevokeKeyRequest(key_id=KEY, node_id=NOBODY, reason="x"),),
    "/nodeseal.v1.Audit/ListRecords": (
        lambda _: admin_pb2.ListRecordsRequest(newest=True, limit=2),
        lambda _: admin_pb2.ListRecordsRequest(newest=True, limit=2, closed=True),
        lambda _: admin_pb2.ListRecordsRequest(closed=True),
    ),
    "/nodeseal.v1.Log/ProveRecord": (lambda _: log_pb2.ProveRecordRequest(sequence=1, size=1),),
    "/nodeseal.v1.Log/ProveConsistency": (lambda _: log_pb2.ProveConsistencyRequest(old_size=1, size=2),),
    "/nodeseal.v1.Enrollment/Enroll": (
        lambda node: enrollment_pb2.EnrollRequest(identity=node.identity()),
        lambda _: enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=bytes(32))),
    ),
    "/nodeseal.v1.Attestation/Attest": (_evidence,),
    "/nodeseal.v1.Attestation/Renew": (
        lambda node: attestation_pb2.RenewRequest(certificate_request=certificate_request(node.key, "node")),
    ),
    "/nodeseal.v1.KeyRelease/Return": (lambda _: key_release_pb2.ReturnRequest(lease_ids=["l-" + "a" * 26]),),
}
"""Good requests, from which one field is changed, so that what is checked later is reached as well."""


async def outcome(channel: aio.Channel, path: str, request: Message) -> tuple[grpc.StatusCode, str]:
    """Make a call with one request; return how it ended."""
    call: Any = channel.stream_stream(path, request_serializer=lambda message: message.SerializeToString())(timeout=60)
    try:
        await call.write(request)
        await call.done_writing()
        while await call.read() is not aio.EOF:
            pass
    except (aio.AioRpcError, asyncio.InvalidStateError):
        pass
    return await call.code(), str(await call.details())


def channel_of(verifier: RunningVerifier, node: FakeNode, path: str) -> aio.Channel:
    if "Enrollment" in path:
        return verifier.enrolment_channel()
    if "Attestation" in path or "KeyRelease" in path:
        return node.channel()
    folder = verifier.folder / "persons" / "admin"
    return verifier.channel((folder / "person.key").read_bytes(), (folder / "person.pem").read_bytes())


async def outcomes(verifier: RunningVerifier, node: FakeNode, path: str) -> list[tuple[str, grpc.StatusCode, str]]:
    """Make all calls of a method; a node makes few of them, since so many a minute are refused unread."""
    of_nodes, count = "Attestation" in path or "KeyRelease" in path, len(list(requests(path, node)))
    seen: list[tuple[str, grpc.StatusCode, str]] = []
    for start in range(0, count, OF_ONE_NODE if of_nodes else count):
        caller = await joined(verifier) if of_nodes else node
        few = islice(requests(path, caller), start, start + OF_ONE_NODE if of_nodes else None)
        async with channel_of(verifier, caller, path) as channel:
            seen += [(str(request)[:80], *await outcome(channel, path, request)) for request in few]
    return seen


@pytest.mark.parametrize("path", METHODS)
def test_d02_extreme_values_are_refused_and_no_fault(verifier: RunningVerifier, node: FakeNode, path: str) -> None:
    before = len(faults(verifier))
    seen = asyncio.run(outcomes(verifier, node, path))
    assert [each for each in seen if each[1] in FAULTS and each[2] != HUNG_UP] == []
    assert faults(verifier)[before:] == []


@pytest.mark.parametrize("field", ["subject", "actor", "kind"])
def test_d02_a_filter_that_is_too_long_is_refused_by_name(
    verifier: RunningVerifier, node: FakeNode, field: str
) -> None:
    async def case() -> None:
        path = "/nodeseal.v1.Audit/ListRecords"
        async with channel_of(verifier, node, path) as channel:
            request = admin_pb2.ListRecordsRequest()
            setattr(request, field, "x" * 257)
            code, details = await outcome(channel, path, request)
            assert (code, details.partition(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)

    asyncio.run(case())
