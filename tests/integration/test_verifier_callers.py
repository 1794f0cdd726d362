"""Who may call what, tried against a running verifier: every method by every kind of caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.ids import NodeId, PersonId
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.people.roles import ALLOWED
from nodeseal.verifier.states import PEOPLE, Role
from support.fake_node import FakeNode
from support.verifier import TRUST_DOMAIN, Refusal, RunningVerifier, a_verifier, refusal_of, refused

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("callers")) as running:
        for role in PEOPLE:
            running.add_person(role.value, role)
        yield running


def outcome(address: str, credentials: grpc.ChannelCredentials, method: str) -> Refusal | None:
    """Call ``method`` with one empty message and return how it failed, or None if it answered."""
    with grpc.secure_channel(address, credentials, [("grpc.enable_http_proxy", 0)]) as channel:
        open_call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        call = open_call(iter([b""]), timeout=10)
        try:
            next(iter(call), None)
        except grpc.RpcError as error:
            return refusal_of(error)
        finally:
            call.cancel()
    return None


def client_of(role: Role, verifier: RunningVerifier, node: FakeNode) -> tuple[str, grpc.ChannelCredentials]:
    if role is Role.ANONYMOUS:
        return verifier.listen_enrol, grpc.ssl_channel_credentials(verifier.ca)
    if role is Role.NODE:
        return verifier.listen, grpc.ssl_channel_credentials(verifier.ca, node.key, to_pem(*node.chain))
    folder = verifier.folder / "persons" / role.value
    key, chain = (folder / "person.key").read_bytes(), (folder / "person.pem").read_bytes()
    return verifier.listen, grpc.ssl_channel_credentials(verifier.ca, key, chain)


@pytest.mark.parametrize("role", Role)
def test_every_method_refuses_every_role_that_the_table_does_not_name(
    verifier: RunningVerifier, node: FakeNode, role: Role
) -> None:
    address, credentials = client_of(role, verifier, node)
    for method, allowed in ALLOWED.items():
        refusal = outcome(address, credentials, method)
        refused = refusal is not None and (
            refusal.findings == ("person.role",) or refusal.code is grpc.StatusCode.UNIMPLEMENTED
        )
        assert refused is (role not in allowed), (method, role, refusal)


def test_a_call_without_a_certificate_does_not_reach_the_main_port(verifier: RunningVerifier) -> None:
    credentials = grpc.ssl_channel_credentials(verifier.ca)
    refusal = outcome(verifier.listen, credentials, "/grpc.health.v1.Health/Check")
    assert refusal is not None
    assert refusal.code is grpc.StatusCode.UNAVAILABLE


def test_a_method_that_nobody_serves_is_refused(verifier: RunningVerifier, node: FakeNode) -> None:
    refusal = outcome(*client_of(Role.NODE, verifier, node), "/nodeseal.v1.Keys/ExportKey")
    assert refusal is not None
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED


def person_chain(authority: CertificateAuthority, key: bytes, at: datetime, domain: str = TRUST_DOMAIN) -> bytes:
    request = certificate_request(key, "admin")
    return to_pem(authority.issue_person(request, domain, PersonId("admin"), at, DAY))


def node_chain(authority: CertificateAuthority, key: bytes, at: datetime, node_id: str) -> bytes:
    return to_pem(authority.issue_node(certificate_request(key, "node"), TRUST_DOMAIN, NodeId(node_id), at, DAY))


def test_certificates_that_are_not_the_callers_own_are_refused_before_a_handler_runs(
    verifier: RunningVerifier, node: FakeNode
) -> None:
    own, now = verifier.authority(), datetime.now(UTC)
    foreign = CertificateAuthority.create("somebody else", now, 10)
    key = new_tls_key()
    persons = {
        "another certificate of a known person": (person_chain(own, key, now), ("person.unknown",)),
        "another trust domain": (person_chain(own, key, now, "other.example"), ("tls.certificate",)),
        "another authority": (person_chain(foreign, key, now), None),
        "a certificate that has ended": (person_chain(own, key, now - 2 * DAY), None),
    }
    nodes = {
        "another certificate of a known node": (node_chain(own, key, now, node.node_id), ("node.unknown",)),
        "a node that never enrolled": (node_chain(own, key, now, "n-" + "a" * 26), ("node.unknown",)),
    }

    for method, table in (("Nodes/ListNodes", persons), ("Attestation/Attest", nodes)):
        for what, (chain, findings) in table.items():
            credentials = grpc.ssl_channel_credentials(verifier.ca, key, chain)
            refusal = outcome(verifier.listen, credentials, f"/nodeseal.v1.{method}")
            assert refusal is not None, what
            expected = grpc.StatusCode.UNAVAILABLE if findings is None else grpc.StatusCode.UNAUTHENTICATED
            assert refusal.code is expected, what  # UNAVAILABLE: TLS itself refused
            assert findings is None or refusal.findings == findings, what


def test_a_removed_person_may_do_nothing_from_the_next_call_on(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        verifier.add_person("kim", Role.VIEWER)
        async with verifier.person("kim") as kim:
            await kim.nodes.ListNodes(admin_pb2.ListNodesRequest())
            verifier.remove_person("kim")
            refusal = await refused(kim.nodes.ListNodes(admin_pb2.ListNodesRequest()))
        assert refusal.findings == ("person.unknown",)
        assert verifier.actions("person/kim") == ["person.added", "person.removed"]

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case(verifier))
