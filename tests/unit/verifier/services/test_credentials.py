"""The server's certificate while a verifier runs: no pair that clients refuse takes the place of a good one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.files import PRIVATE, write_file
from nodeseal.ids import PersonId
from nodeseal.verifier.config import TlsSettings
from nodeseal.verifier.services.credentials import ServerFiles

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
AUTHORITY = CertificateAuthority.create("authority", NOW - 10 * DAY, 3650)
Issue = Callable[[bytes], bytes]


def served(at: datetime) -> Issue:
    return lambda request: AUTHORITY.issue_verifier(request, "test.example", ["localhost"], at, DAY)


def put(folder: Path, issue: Issue) -> TlsSettings:
    """Put a new pair in the place of what is there."""
    key = new_tls_key()
    pair = {"server.key": key, "server.pem": to_pem(issue(certificate_request(key, "verifier")))}
    for name, content in pair.items():
        (folder / name).unlink(missing_ok=True)
        write_file(folder / name, content, PRIVATE)
    return TlsSettings(
        ca=folder / "ca.pem",
        ca_key=folder / "ca.key",
        certificate=folder / "server.pem",
        key=folder / "server.key",
        node_hours=24,
    )


USELESS: dict[str, Issue] = {
    "expired": served(NOW - 5 * DAY),
    "not valid yet": served(NOW + 5 * DAY),
    "for no server": lambda request: AUTHORITY.issue_person(request, "test.example", PersonId("kim"), NOW, DAY),
}


@pytest.mark.parametrize("why", USELESS)
def test_a_useless_certificate_is_not_taken(tmp_path: Path, why: str) -> None:
    files = ServerFiles(put(tmp_path, served(NOW)), None)
    put(tmp_path, USELESS[why])
    assert files.changed() is None
    put(tmp_path, served(NOW))
    assert files.changed() is not None
    assert files.changed() is None
