"""Whether a server can be reached: one that answers well, and one fact changed."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeseal.checks.faults import Fault
from nodeseal.checks.files import Named
from nodeseal.checks.reach import Server, reach_faults
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key

NOW = datetime.now(UTC)
AUTHORITY = CertificateAuthority.create("test", NOW - timedelta(days=50), 400)


@contextmanager
def serving(
    folder: Path, *, at: datetime = NOW, days: int = 10, hosts: tuple[str, ...] = ("localhost",)
) -> Iterator[Server]:
    """Serve TLS with a certificate of :data:`AUTHORITY` on a free port."""
    key = new_tls_key()
    der = AUTHORITY.issue_verifier(certificate_request(key, "v"), "x.example", hosts, at, timedelta(days=days))
    (folder / "server").write_bytes(to_pem(der) + key)
    (folder / "ca.pem").write_bytes(AUTHORITY.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server")
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening, context))
        thread.start()
        try:
            yield Server(
                field="verifier",
                address=f"localhost:{listening.getsockname()[1]}",
                ca=Named("ca", folder / "ca.pem"),
            )
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as spoken:
            spoken.recv(1)


def only(server: Server) -> Fault:
    (fault,) = reach_faults(server)
    assert fault.remedy
    return fault


def test_a_server_that_answers_well_has_no_fault(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert list(reach_faults(server)) == []


def test_another_name_is_told_with_the_names_that_the_certificate_has(tmp_path: Path) -> None:
    with serving(tmp_path, hosts=("verifier.example", "192.0.2.7")) as server:
        fault = only(server)
        assert "is for verifier.example, 192.0.2.7, not for localhost" in fault.what
        assert not fault.fatal
        assert list(reach_faults(replace(server, server_name="verifier.example"))) == []


@pytest.mark.parametrize("name", [".example", "x" * 300, "a..b"])
def test_a_server_name_that_is_none_is_a_fault(tmp_path: Path, name: str) -> None:
    with serving(tmp_path) as server:
        fault = only(replace(server, server_name=name))
    assert "is no name of a server" in fault.what
    assert "server_name" in fault.remedy


def test_another_authority_is_fatal(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.ca.path.write_bytes(CertificateAuthority.create("other", NOW, 9).certificate_pem)
        fault = only(server)
    assert "not of the authority" in fault.what
    assert fault.fatal


def test_a_file_of_the_authority_that_is_being_replaced_ends_no_check(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.ca.path.write_bytes(b"")
        assert list(reach_faults(server)) == []  # the check of that file says so


def test_an_expired_certificate_is_told_with_its_end(tmp_path: Path) -> None:
    with serving(tmp_path, at=NOW - timedelta(days=20)) as server:
        fault = only(server)
    assert f"expired on {NOW - timedelta(days=10):%Y-%m-%d}" in fault.what
    assert "renew-server" in fault.remedy
    assert not fault.fatal


def test_a_certificate_of_tomorrow_names_the_clock(tmp_path: Path) -> None:
    with serving(tmp_path, at=NOW + timedelta(days=1)) as server:
        fault = only(server)
    assert "is not valid before" in fault.what
    assert "clock" in fault.remedy


def test_a_closed_port_a_name_without_an_address_and_an_address_that_is_none(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pass
    assert "does not answer: Connection refused" in only(server).what
    assert "the name nowhere.invalid has no address" in only(replace(server, address="nowhere.invalid:1")).what
    assert "not HOST:PORT" in only(replace(server, address="localhost")).what


def test_a_server_without_tls_is_told(tmp_path: Path) -> None:
    with serving(tmp_path) as server, closing(socket.socket()) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        fault = only(replace(server, address=f"localhost:{plain.getsockname()[1]}"))
        thread.join()
    assert "does not speak TLS" in fault.what


@pytest.mark.parametrize("host", ["[::1]"])
def test_an_address_of_ipv6_is_reached(tmp_path: Path, host: str) -> None:
    with serving(tmp_path) as server, closing(socket.socket(socket.AF_INET6)) as free:
        free.bind(("::1", 0))
        fault = only(replace(server, address=f"{host}:{free.getsockname()[1]}"))
    assert "Connection refused" in fault.what
