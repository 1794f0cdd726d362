"""The server's certificate and key: read again for each handshake if their files have changed.

gRPC asks for them when a client connects, in a thread of its own. A pair that does not fit, that no client would
accept, or that cannot be read is not taken: the one before goes on, and the log says why once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

import grpc
import structlog

from nodeseal.crypto.tls_files import certificates_in, public_key_in
from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.files import read_file, read_private
from nodeseal.verifier.config import TlsSettings

_log: Final = structlog.get_logger()
_Stamp = tuple[tuple[int, int, int], ...]


class ServerFiles:
    """Certificate and key of one server.

    Args:
        settings: the files.
        roots: the authority of clients in PEM, or None if they show no certificate.
    """

    def __init__(self, settings: TlsSettings, roots: bytes | None) -> None:
        self._settings: Final = settings
        self._roots: Final = roots
        self._lock: Final = Lock()
        self._stamp = self._look()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files.

        Raises:
            MalformedInput: a file cannot be read, does not parse, or they do not belong together.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            self.changed,  # type: ignore[arg-type]  # gRPC's stubs forget that None means: unchanged
            require_client_authentication=self._roots is not None,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the pair if it has changed since the last look and may be served; None: go on with the one before."""
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            try:
                return self._read()
            except NodesealError as error:
                remedy = "nodeseal-verifier check; the certificate of before is still served"
                _log.error("server certificate not taken", error=str(error), remedy=remedy)
                return None

    def _look(self) -> _Stamp:
        return tuple(map(_stamp, (self._settings.certificate, self._settings.key)))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        key = read_private(self._settings.key, "tls.key")
        certificate = read_file(self._settings.certificate, "tls.certificate")
        facts = certificates_in(certificate)[0]
        if public_key_in(key) != facts.public_key:
            raise MalformedInput("tls.key: not the key of tls.certificate")
        if not facts.not_before <= (now := datetime.now(UTC)) < facts.not_after:
            span = f"{facts.not_before:%Y-%m-%d %H:%M} to {facts.not_after:%Y-%m-%d %H:%M}"
            raise MalformedInput(
                f"tls.certificate: valid from {span} UTC; this machine's clock says {now:%Y-%m-%d %H:%M}"
            )
        if not (facts.serves and facts.hosts):
            raise MalformedInput("tls.certificate: not for servers, or names no host, so no client accepts it")
        _log.info("server certificate", names=facts.hosts, until=facts.not_after.isoformat())
        return grpc.ssl_server_certificate_configuration([(key, certificate)], self._roots)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
