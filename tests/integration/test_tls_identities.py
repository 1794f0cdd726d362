"""Certificates of the authority in real TLS handshakes: grpc (BoringSSL) on loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import grpc
import pytest

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import PeerIdentity, peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.ids import NodeId

NODE = NodeId("n-" + "b" * 26)
DOMAIN = "example.org"
DAY = timedelta(days=1)
METHOD = "/test.Echo/WhoAmI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    authority: CertificateAuthority
    address: str
    seen: list[PeerIdentity]


def _identify(context: grpc.ServicerContext, seen: list[PeerIdentity]) -> bytes:
    # the stubs say bytes, the library gives a list of them
    pems = cast("list[bytes]", context.auth_context()["x509_pem_cert"])
    identity = peer_identity(ssl.PEM_cert_to_DER_cert(pems[0].decode()))
    seen.append(identity)
    return identity.name.encode()


@pytest.fixture
def server() -> Iterator[Server]:
    now = datetime.now(UTC)
    authority = CertificateAuthority.create("test", now, 2)
    key = new_tls_key()
    der = authority.issue_verifier(certificate_request(key, "v"), DOMAIN, ["localhost", "127.0.0.1"], now, DAY)
    credentials = grpc.ssl_server_credentials(
        [(key, to_pem(der))], root_certificates=authority.certificate_pem, require_client_auth=True
    )
    seen: list[PeerIdentity] = []
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda _request, context: _identify(context, seen)
    )
    listening = grpc.server(futures.ThreadPoolExecutor(2))
    listening.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", {"WhoAmI": handler})])
    port = listening.add_secure_port("127.0.0.1:0", credentials)
    listening.start()
    yield Server(authority=authority, address=f"127.0.0.1:{port}", seen=seen)
    listening.stop(None).wait()


def _call(address: str, root: bytes, key: bytes | None, certificate: bytes | None) -> bytes:
    credentials = grpc.ssl_channel_credentials(root, key, certificate)
    with grpc.secure_channel(address, credentials) as channel:
        who_am_i: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return who_am_i(b"", timeout=5)


def _node(authority: CertificateAuthority, at: datetime) -> tuple[bytes, bytes]:
    key = new_tls_key()
    return key, to_pem(authority.issue_node(certificate_request(key, "x"), DOMAIN, NODE, at, DAY))


def test_both_ends_prove_who_they_are(server: Server) -> None:
    key, certificate = _node(server.authority, datetime.now(UTC))
    assert _call(server.address, server.authority.certificate_pem, key, certificate).decode() == NODE
    assert server.seen[0].trust_domain == DOMAIN


@pytest.mark.parametrize("case", ["no certificate", "expired", "not yet valid", "another authority", "server's kind"])
def test_other_clients_do_not_reach_the_handler(server: Server, case: str) -> None:
    now = datetime.now(UTC)
    key: bytes | None
    certificate: bytes | None
    match case:
        case "no certificate":
            key = certificate = None
        case "expired":
            key, certificate = _node(server.authority, now - 3 * DAY)
        case "not yet valid":
            key, certificate = _node(server.authority, now + DAY)
        case "another authority":
            key, certificate = _node(CertificateAuthority.create("test", now, 2), now)
        case _:
            key = new_tls_key()
            request = certificate_request(key, "x")
            certificate = to_pem(server.authority.issue_verifier(request, DOMAIN, ["a.example"], now, DAY))
    with pytest.raises(grpc.RpcError):
        _call(server.address, server.authority.certificate_pem, key, certificate)
    assert server.seen == []


def test_a_client_certificate_is_no_server(server: Server) -> None:
    key, certificate = _node(server.authority, datetime.now(UTC))
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    impostor = grpc.server(futures.ThreadPoolExecutor(1))
    port = impostor.add_secure_port("127.0.0.1:0", credentials)
    impostor.start()
    try:
        with pytest.raises(grpc.RpcError):
            _call(f"127.0.0.1:{port}", server.authority.certificate_pem, None, None)
    finally:
        impostor.stop(None).wait()
