"""Checks whether a server can be reached: its name, TCP, TLS with its certificate. Nothing follows the handshake.

gRPC says ``Socket closed`` or ``failed to connect to all addresses`` for most of these. Here each step has a fault of
its own.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nodeseal.checks.certificates import CLOCK, spell
from nodeseal.checks.faults import Fault
from nodeseal.checks.files import Named
from nodeseal.crypto.tls_files import CertificateFacts, certificates_in
from nodeseal.errors import MalformedInput
from nodeseal.files import MAX_PEM, read_small

_CONNECT_SECONDS: Final = 5.0
_SHOWN: Final = 80
_NOT_YET: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NAMES: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that settings name.

    Attributes:
        field: the setting with its address.
        address: ``host:port``.
        ca: the authority that its certificate must chain to.
        server_name: name that its certificate must have; empty: the host.
    """

    field: str
    address: str
    ca: Named
    server_name: str = ""

    @property
    def host(self) -> str:
        """The host alone."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> str:
        """The port alone."""
        return self.address.rpartition(":")[2]

    def fault(self, what: str, remedy: str, *, fatal: bool = False) -> Fault:
        """Return a fault of it; most heal without a restart, so few are fatal."""
        return Fault(field=self.field, file=self.address, what=what, remedy=remedy, fatal=fatal)


def reach_faults(server: Server) -> Iterator[Fault]:
    """Check one step after the other; the first that fails is the fault."""
    if not server.host or not server.port.isdecimal():
        yield server.fault("not HOST:PORT", f"correct {server.field}", fatal=True)
        return
    try:
        addresses = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        remedy = f"correct {server.field}, or let {server.host} be resolved (/etc/hosts, DNS)"
        yield server.fault(f"the name {server.host} has no address: {getattr(error, 'strerror', error)}", remedy)
        return
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(_CONNECT_SECONDS)
                connection.connect(address)
                yield from _tls_faults(server, connection)
                return
        except OSError as error:
            failure = error
    said = getattr(failure, "strerror", None) or str(failure)
    yield server.fault(f"does not answer: {said}", "is nodeseal-verifier running there, and does a firewall let it?")


def _tls_faults(server: Server, connection: socket.socket) -> Iterator[Fault]:
    """Shake hands on an open connection."""
    try:
        context = _context(server.ca)
    except (ssl.SSLError, ValueError, MalformedInput):  # ValueError: an empty file, such as one that is being replaced
        return  # the check of that file says so
    name = server.server_name or server.host
    if not _is_name(name):
        yield server.fault(f"{name[:_SHOWN]!a} is no name of a server", "correct server_name, or leave it out")
        return
    try:
        with context.wrap_socket(connection, server_hostname=name):
            return
    except ssl.SSLCertVerificationError as error:
        yield _certificate_fault(server, error)
    except (ssl.SSLError, OSError) as error:
        said = getattr(error, "reason", None) or error.strerror or str(error)
        yield server.fault(f"does not speak TLS: {said}", f"is {server.field} the address of nodeseal-verifier?")


def _is_name(text: str) -> bool:
    """Tell whether TLS takes a text for the name of a server; Python raises other errors than TLS for what is none."""
    try:
        return bool(text.encode("idna")) and not text.startswith(".")
    except UnicodeError:
        return False


def _context(ca: Named) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=read_small(ca.path, MAX_PEM).decode("ascii", "replace"))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    return context


def _certificate_fault(server: Server, error: ssl.SSLCertVerificationError) -> Fault:
    shown = _shown(server)
    if error.verify_code in _NAMES:
        names = ", ".join(shown.hosts) if shown else "others"
        wanted = server.server_name or server.host
        remedy = f"name the verifier by one of these, or say server_name: {names.split(', ')[0]}"
        return server.fault(f"its certificate is for {names}, not for {wanted}", remedy)
    if error.verify_code == _EXPIRED:
        when = f" on {spell(shown.not_after)}" if shown else ""
        return server.fault(
            f"its certificate expired{when}", f"on the verifier's host: nodeseal-verifier renew-server; {CLOCK}"
        )
    if error.verify_code == _NOT_YET:
        when = f" before {spell(shown.not_before)}" if shown else ""
        return server.fault(f"its certificate is not valid{when}", CLOCK)
    remedy = f"let {server.ca.field} name the verifier's own ca.pem"
    what = f"its certificate is not of the authority in {server.ca.path} ({error.verify_message})"
    return server.fault(what, remedy, fatal=True)


def _shown(server: Server) -> CertificateFacts | None:
    """Return the certificate that a server shows, unverified, to say what is in it."""
    try:
        pem = ssl.get_server_certificate((server.host, int(server.port)), timeout=_CONNECT_SECONDS)
        return certificates_in(pem.encode())[0]
    except (OSError, ValueError, MalformedInput):
        return None
