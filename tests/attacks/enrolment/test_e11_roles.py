"""Row e11: every method of every service, called by every kind of caller.

The table below is written from the design, not taken from the product; methods come from the descriptors, so a new
one fails here until somebody says who may call it. All handlers are replaced by one that notes that it ran: whatever
is refused is refused before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import OutOfOrder
from nodeseal.ids import NodeId, PersonId
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, governance_pb2, key_release_pb2, log_pb2, people_pb2
from nodeseal.verifier.services.admin import AuditService, GoldensService, KeysService, ModelsService, NodesService
from nodeseal.verifier.services.attestation import AttestationService
from nodeseal.verifier.services.enrolment import EnrolmentService
from nodeseal.verifier.services.governance import ProposalsService, RulesService
from nodeseal.verifier.services.key_release import KeyReleaseService
from nodeseal.verifier.services.log import LogService
from nodeseal.verifier.services.people import PeopleService
from nodeseal.verifier.states import Role
from support.admin import trusted_node
from support.attackers import record_contents, twin_of
from support.fake_node import FakeNode, a_node
from support.in_process import MovableClocks, in_process
from support.verifier import TRUST_DOMAIN, Refusal, RunningVerifier, a_verifier, refusal_of

DAY = timedelta(days=1)
RAN = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the handler ran", ())

ANYBODY = {"viewer", "operator", "approver", "auditor"}
MAY_CALL: Mapping[str, set[str]] = {
    "nodeseal.v1.Enrollment/Enroll": {"anonymous"},
    "nodeseal.v1.Attestation/Attest": {"node"},
    "nodeseal.v1.Attestation/Renew": {"node"},
    "nodeseal.v1.KeyRelease/Release": {"node"},
    "nodeseal.v1.KeyRelease/Return": {"node"},
    "nodeseal.v1.Nodes/ListNodes": ANYBODY,
    "nodeseal.v1.Nodes/GetNode": ANYBODY,
    "nodeseal.v1.Nodes/AdmitNode": {"approver"},
    "nodeseal.v1.Nodes/QuarantineNode": {"operator", "approver"},
    "nodeseal.v1.Nodes/RetireNode": {"operator", "approver"},
    "nodeseal.v1.Nodes/LabelNode": {"approver"},
    "nodeseal.v1.Nodes/GetEvidence": {"operator", "approver", "auditor"},
    "nodeseal.v1.Nodes/GetToken": ANYBODY,
    "nodeseal.v1.Goldens/ActivateGolden": {"approver"},
    "nodeseal.v1.Goldens/ForeseeGolden": {"approver", "operator"},
    "nodeseal.v1.Goldens/RetireGolden": {"operator", "approver"},
    "nodeseal.v1.Goldens/ListGoldens": ANYBODY,
    "nodeseal.v1.Goldens/GetGolden": ANYBODY,
    "nodeseal.v1.Keys/CreateKey": {"approver"},
    "nodeseal.v1.Keys/ListKeys": ANYBODY,
    "nodeseal.v1.Keys/GetKey": ANYBODY,
    "nodeseal.v1.Keys/GrantKey": {"approver"},
    "nodeseal.v1.Keys/SetKeyPolicy": {"approver"},
    "nodeseal.v1.Keys/RevokeKey": {"operator", "approver"},
    "nodeseal.v1.Keys/RewrapSlots": {"approver"},
    "nodeseal.v1.Models/RegisterModel": {"approver"},
    "nodeseal.v1.Models/RetireModel": {"operator", "approver"},
    "nodeseal.v1.Models/ListModels": ANYBODY,
    "nodeseal.v1.Models/GetModel": ANYBODY,
    "nodeseal.v1.Keys/SuspendKey": {"operator", "approver"},
    "nodeseal.v1.Keys/ResumeKey": {"approver"},
    "nodeseal.v1.People/GetSelf": ANYBODY,
    "nodeseal.v1.People/RenewCertificate": ANYBODY,
    "nodeseal.v1.People/ListPeople": ANYBODY,
    "nodeseal.v1.People/InvitePerson": {"approver"},
    "nodeseal.v1.People/RemovePerson": {"approver"},
    "nodeseal.v1.People/AddPersonKey": {"approver"},
    "nodeseal.v1.People/RemovePersonKey": {"approver"},
    "nodeseal.v1.People/SuspendPerson": {"operator", "approver"},
    "nodeseal.v1.People/ResumePerson": {"approver"},
    "nodeseal.v1.Rules/GetRules": ANYBODY,
    "nodeseal.v1.Proposals/DraftProposal": {"operator", "approver"},
    "nodeseal.v1.Proposals/MakeProposal": {"operator", "approver"},
    "nodeseal.v1.Proposals/ListProposals": ANYBODY,
    "nodeseal.v1.Proposals/GetProposal": ANYBODY,
    "nodeseal.v1.Proposals/GetAttachment": ANYBODY,
    "nodeseal.v1.Proposals/ApproveProposal": {"approver"},
    "nodeseal.v1.Proposals/RejectProposal": {"approver"},
    "nodeseal.v1.Proposals/WithdrawProposal": {"operator", "approver"},
    "nodeseal.v1.Audit/ListRecords": {"auditor"},
    "nodeseal.v1.Audit/GetRecord": {"auditor"},
    "nodeseal.v1.Log/GetCheckpoint": {"auditor"},
    "nodeseal.v1.Log/ProveRecord": {"auditor"},
    "nodeseal.v1.Log/ProveConsistency": {"auditor"},
    "nodeseal.v1.Log/ExportLog": {"auditor"},
    "grpc.health.v1.Health/Check": {"anonymous", "node", *ANYBODY},
    "grpc.health.v1.Health/List": {"anonymous", "node", *ANYBODY},
    "grpc.health.v1.Health/Watch": {"anonymous", "node", *ANYBODY},
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
}
ENROLMENT_PORT = {
    "nodeseal.v1.Enrollment/Enroll",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
}
"""All that the port without client certificates serves; everything but enrolment is on the other one."""
SERVICERS = (
    AttestationService,
    AuditService,
    LogService,
    EnrolmentService,
    GoldensService,
    KeyReleaseService,
    KeysService,
    ModelsService,
    NodesService,
    PeopleService,
    ProposalsService,
    ReflectionServicer,
    RulesService,
    health.aio.HealthServicer,
)
FILES = (
    admin_pb2,
    attestation_pb2,
    enrollment_pb2,
    governance_pb2,
    key_release_pb2,
    log_pb2,
    people_pb2,
    health_pb2,
    reflection_pb2,
)


def _methods() -> dict[str, MethodDescriptor]:
    services = (service for file in FILES for service in file.DESCRIPTOR.services_by_name.values())
    return {f"{service.full_name}/{method.name}": method for service in services for method in service.methods}


METHODS = _methods()


@dataclass(frozen=True, slots=True)
class Scene:
    """A verifier in this process whose handlers only note that they ran."""

    verifier: RunningVerifier
    clocks: MovableClocks
    ran: list[str] = field(default_factory=list)


@asynccontextmanager
async def noting(scene: Scene, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Serve with handlers that note that they ran, and fail."""
    for servicer in SERVICERS:
        for name, method in METHODS.items():
            if hasattr(servicer, method.name):
                patch.setattr(servicer, method.name, _note(scene.ran, name))
    async with in_process(scene.verifier, scene.clocks):
        yield


def _note(ran: list[str], name: str) -> Any:
    async def handler(_self: object, _request: object, _context: object) -> None:
        ran.append(name)
        raise OutOfOrder(RAN.details)

    return handler


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with a_verifier(tmp_path_factory.mktemp("e11"), start=False) as verifier:
        yield Scene(verifier, MovableClocks())


@pytest.fixture(scope="module")
def certificates(scene: Scene) -> Mapping[str, tuple[bytes, bytes]]:
    """Key and chain of every kind of caller, made by the real services."""
    return asyncio.run(_certificates(scene.verifier))


async def _certificates(verifier: RunningVerifier) -> dict[str, tuple[bytes, bytes]]:
    found: dict[str, tuple[bytes, bytes]] = {}
    async with in_process(verifier), verifier.person() as admin:
        node = await _enrolled(verifier)
        found["node"] = _pair(node)
        replaced = await _enrolled(verifier)
        found["node that enrolled again since"] = _pair(replaced)
        await FakeNode(verifier, twin_of(replaced.tpm, verifier.vendor)).enrol()
        retired = await _enrolled(verifier)
        found["retired node"] = _pair(retired)
        await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=retired.node_id, reason="sold"))
    for role in (Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.AUDITOR):
        found[role.value] = _person(verifier, role.value, role)
    found["removed person"] = _person(verifier, "kim", *Role)
    verifier.remove_person("kim")
    found["suspended person"] = _person(verifier, "lee", *Role)
    suspend = people_pb2.SuspendPersonRequest(person="lee", reason="laptop stolen")
    async with in_process(verifier), verifier.person() as admin, verifier.person(Role.APPROVER.value) as second:
        await admin.people.SuspendPerson(suspend)
        await second.people.SuspendPerson(suspend)  # alone, it would lapse when a test moves the clock
    return found | _forged(verifier, NodeId(node.node_id))


def _pair(node: FakeNode) -> tuple[bytes, bytes]:
    return node.key, to_pem(*node.chain)


async def _enrolled(verifier: RunningVerifier) -> FakeNode:
    node = a_node(verifier)
    await node.enrol()
    return node


def _person(verifier: RunningVerifier, name: str, *roles: Role) -> tuple[bytes, bytes]:
    people = [role for role in roles if role not in (Role.ANONYMOUS, Role.NODE)]
    folder = verifier.add_person(name, *people)
    return (folder / "person.key").read_bytes(), (folder / "person.pem").read_bytes()


def _forged(verifier: RunningVerifier, node: NodeId) -> dict[str, tuple[bytes, bytes]]:
    """Certificates that are almost right: another authority, another time, another name, another use."""
    own, now, key = verifier.authority(), datetime.now(UTC), new_tls_key()
    foreign = CertificateAuthority.create("somebody else", now, 10)
    request, admin = certificate_request(key, "x"), PersonId("admin")
    made = {
        "expired node": own.issue_node(request, TRUST_DOMAIN, node, now - 2 * DAY, DAY),
        "expired person": own.issue_person(request, TRUST_DOMAIN, admin, now - 2 * DAY, DAY),
        "node of a foreign authority": foreign.issue_node(request, TRUST_DOMAIN, node, now, DAY),
        "person of a foreign authority": foreign.issue_person(request, TRUST_DOMAIN, admin, now, DAY),
        "node of another trust domain": own.issue_node(request, "other.example", node, now, DAY),
        "person of another trust domain": own.issue_person(request, "other.example", admin, now, DAY),
        "node with another certificate": own.issue_node(request, TRUST_DOMAIN, node, now, DAY),
        "node that never enrolled": own.issue_node(request, TRUST_DOMAIN, NodeId("n-" + "a" * 26), now, DAY),
        "person with another certificate": own.issue_person(request, TRUST_DOMAIN, admin, now, DAY),
        "person that nobody added": own.issue_person(request, TRUST_DOMAIN, PersonId("eve"), now, DAY),
        "verifier": own.issue_verifier(request, TRUST_DOMAIN, ("localhost",), now, DAY),
    }
    return {who: (key, to_pem(der)) for who, der in made.items()}


REFUSED_BY_TLS = {
    "expired node",
    "expired person",
    "node of a foreign authority",
    "person of a foreign authority",
    "verifier",  # its certificate is for servers
}
REFUSED_FOR = {
    "node of another trust domain": "tls.certificate",
    "person of another trust domain": "tls.certificate",
    "node with another certificate": "node.unknown",
    "node that never enrolled": "node.unknown",
    "node that enrolled again since": "node.unknown",
    "retired node": "node.retired",
    "person with another certificate": "person.unknown",
    "person that nobody added": "person.unknown",
    "removed person": "person.unknown",
    "suspended person": "person.suspended",
}
CALLERS = ("node", *sorted(ANYBODY))


async def call(channel: grpc.Channel, method: str) -> Refusal | None:
    """Call a method with one empty message; return how it failed, or None if it answered.

    In a thread, because gRPC's asyncio client calls a refusal that overtakes the message an internal error.
    """
    return await asyncio.to_thread(_call, channel, method)


def _call(channel: grpc.Channel, method: str) -> Refusal | None:
    open_call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    rpc = open_call(iter([b""]), timeout=10)
    try:
        next(rpc, None)
    except grpc.RpcError as error:
        return refusal_of(error)
    finally:
        rpc.cancel()
    return None


@contextmanager
def channel_of(
    verifier: RunningVerifier, address: str, pair: tuple[bytes, bytes] | None = None
) -> Iterator[grpc.Channel]:
    """Connect; no connection is shared with another caller."""
    credentials = grpc.ssl_channel_credentials(verifier.ca, *(pair or ()))
    options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options) as channel:
        yield channel


async def outcomes(scene: Scene, address: str, pair: tuple[bytes, bytes] | None) -> dict[str, Refusal | None]:
    """Call every method and note who was refused how; a handler runs if and only if it says so."""
    found = {}
    with channel_of(scene.verifier, address, pair) as channel:
        for name in METHODS:
            before = len(scene.ran)
            found[name] = await call(channel, f"/{name}")
            assert (found[name] == RAN) is (scene.ran[before:] == [name]), (name, found[name])
            assert found[name] == RAN or len(scene.ran) == before, name
    return found


async def table(scene: Scene, patch: pytest.MonkeyPatch, who: str, pair: tuple[bytes, bytes]) -> dict[str, Any]:
    async with noting(scene, patch):
        before = scene.verifier.records()
        found = await outcomes(scene, scene.verifier.listen, pair)
        assert scene.verifier.records() == before, who
        return found


def test_e11_the_table_names_every_method_that_is_served() -> None:
    assert MAY_CALL.keys() == METHODS.keys()


@pytest.mark.parametrize("who", CALLERS)
def test_e11_a_role_reaches_what_the_table_gives_it_and_nothing_else(
    scene: Scene, certificates: Mapping[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    found = asyncio.run(table(scene, monkeypatch, who, certificates[who]))
    for name, refusal in found.items():
        assert refusal is not None
        if name == "nodeseal.v1.Enrollment/Enroll":
            assert refusal.code is grpc.StatusCode.UNIMPLEMENTED  # it is on the other port
        elif who in MAY_CALL[name]:
            assert refusal == RAN, name
        else:
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("person.role",)), name


@pytest.mark.parametrize("who", REFUSED_FOR)
def test_e11_a_certificate_that_does_not_count_reaches_no_handler(
    scene: Scene, certificates: Mapping[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    found = asyncio.run(table(scene, monkeypatch, who, certificates[who]))
    absent = found.pop("nodeseal.v1.Enrollment/Enroll")
    assert absent.code is grpc.StatusCode.UNIMPLEMENTED
    for name, refusal in found.items():
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, (REFUSED_FOR[who],)), name


@pytest.mark.parametrize("who", ["anonymous", *sorted(REFUSED_BY_TLS)])
def test_e11_without_a_valid_certificate_the_handshake_fails(
    scene: Scene, certificates: Mapping[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    async def case() -> None:
        async with noting(scene, monkeypatch):
            for name in METHODS:  # a connection each: none of them is better than the others
                with channel_of(scene.verifier, scene.verifier.listen, certificates.get(who)) as channel:
                    refusal = await call(channel, f"/{name}")
                assert refusal is not None
                assert refusal.code is grpc.StatusCode.UNAVAILABLE, name
            assert scene.ran == before

    before = list(scene.ran)
    asyncio.run(case())


@pytest.mark.parametrize("who", ["anonymous", "node", "approver", "person of a foreign authority"])
def test_e11_the_enrolment_port_serves_enrolment_and_health_whoever_calls(
    scene: Scene, certificates: Mapping[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """It asks for no certificate, so the ones that callers would show are nothing to it."""

    async def case() -> None:
        async with noting(scene, monkeypatch):
            found = await outcomes(scene, scene.verifier.listen_enrol, certificates.get(who))
        for name, refusal in found.items():
            assert refusal is not None
            if name in ENROLMENT_PORT:
                assert refusal == RAN, name
            else:
                assert refusal.code is grpc.StatusCode.UNIMPLEMENTED, name

    asyncio.run(case())


@pytest.mark.parametrize(
    "method",
    [
        "/nodeseal.v1.Keys/ExportKey",
        "/nodeseal.v1.Nodes/listnodes",
        "/nodeseal.v1.Nodes/ListNodes/",
        "//nodeseal.v1.Nodes/ListNodes",
        "/nodeseal.v1.Nodes/../Nodes/ListNodes",
        "/nodeseal.v1.Nodes/ListNodes?",
        "/nodeseal.v2.Nodes/ListNodes",
        "/",
        "/nodeseal.v1.Nodes/" + "x" * 4000,
    ],
)
def test_e11_a_method_by_another_name_reaches_no_handler(
    scene: Scene, certificates: Mapping[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def case() -> None:
        async with noting(scene, monkeypatch):
            for address in (scene.verifier.listen, scene.verifier.listen_enrol):
                with channel_of(scene.verifier, address, certificates["approver"]) as channel:
                    refusal = await call(channel, method)
                assert refusal is not None
                assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
            assert scene.ran == before

    before = list(scene.ran)
    asyncio.run(case())


@pytest.mark.parametrize("who", CALLERS)
def test_e11_a_certificate_that_ends_while_the_connection_lasts_stops_counting(
    scene: Scene, certificates: Mapping[str, tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """TLS looks at a certificate when a connection begins, which may have been days ago."""

    async def case() -> None:
        async with noting(scene, monkeypatch):
            with channel_of(scene.verifier, scene.verifier.listen, certificates[who]) as channel:
                mine = [name for name in METHODS if who in MAY_CALL[name]]
                assert await call(channel, f"/{mine[0]}") == RAN
                scene.clocks.wall_ahead += 1000 * DAY
                before = list(scene.ran)
                for name in mine:
                    refusal = await call(channel, f"/{name}")
                    assert refusal is not None
                    assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("tls.certificate",))
                assert scene.ran == before

    try:
        asyncio.run(case())
    finally:
        scene.clocks.wall_ahead = timedelta()


def test_e11_a_stream_ends_with_the_certificate_that_opened_it(tmp_path: Path) -> None:
    clocks = MovableClocks()

    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier, clocks):
            node = await _enrolled(verifier)
            async with node.attesting() as stream:
                await stream.round()
                evidence = node.evidence(await stream.challenge())
                clocks.wall_ahead += 2 * DAY
                await stream.send(evidence)
                refusal = await stream.end()
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("tls.certificate",))

    with a_verifier(tmp_path, start=False, interval_seconds=0) as verifier:
        asyncio.run(case(verifier))


def test_e11_a_renewal_lets_its_own_certificate_in_and_no_other(tmp_path: Path) -> None:
    """Until a renewed certificate is used there are two that count for a node, not any."""

    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier):
            node, key = await trusted_node(verifier), new_tls_key()
            renewed = await node.renew(key)
            request = certificate_request(key, "node")
            authority, node_id = verifier.authority(), NodeId(node.node_id)
            other = authority.issue_node(request, TRUST_DOMAIN, node_id, datetime.now(UTC), DAY)
            chains = {"other": [other], "old": node.chain, "new": renewed}
            outcome: dict[str, list[object]] = {}
            for name in ("other", "old", "new", "other", "old"):
                pair = (node.key if name == "old" else key, to_pem(*chains[name]))
                with channel_of(verifier, verifier.listen, pair) as sync_channel:
                    refusal = await call(sync_channel, "/nodeseal.v1.KeyRelease/Return")
                let_in = refusal is None or refusal.code is grpc.StatusCode.FAILED_PRECONDITION
                outcome.setdefault(name, []).append("answered" if let_in or refusal is None else refusal.findings)
            refused = ("node.unknown",)
            assert outcome == {"other": [refused, refused], "old": ["answered", refused], "new": ["answered"]}

    with a_verifier(tmp_path, start=False, interval_seconds=0) as verifier:
        asyncio.run(case(verifier))


def test_e11_what_a_caller_may_do_changes_while_the_connection_lasts(tmp_path: Path) -> None:
    """A node that enrolled again, was retired; a person that was removed: their open connections know it at once."""

    async def case(verifier: RunningVerifier) -> None:
        kim = _person(verifier, "kim", Role.VIEWER)
        async with in_process(verifier), verifier.person() as admin:
            nodes = [await _enrolled(verifier) for _ in range(2)]
            renew, listing = "/nodeseal.v1.Attestation/Renew", "/nodeseal.v1.Nodes/ListNodes"
            with (
                channel_of(verifier, verifier.listen, _pair(nodes[0])) as again,
                channel_of(verifier, verifier.listen, _pair(nodes[1])) as retired,
                channel_of(verifier, verifier.listen, kim) as person,
            ):
                assert await call(person, listing) is None
                for channel in (again, retired):
                    refusal = await call(channel, renew)
                    assert refusal is not None
                    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION  # the handler's word on an empty request
                await FakeNode(verifier, twin_of(nodes[0].tpm, verifier.vendor)).enrol()
                await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=nodes[1].node_id, reason="sold"))
                verifier.remove_person("kim")
                before = await record_contents(admin)
                expected = ((again, renew, "node.unknown"), (retired, renew, "node.retired"))
                for channel, method, finding in (*expected, (person, listing, "person.unknown")):
                    refusal = await call(channel, method)
                    assert refusal is not None
                    assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, (finding,))
                assert await record_contents(admin) == before

    with a_verifier(tmp_path, start=False) as verifier:
        asyncio.run(case(verifier))
