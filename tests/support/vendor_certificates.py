"""Real certificates of TPM makers: PEM files with comments and DER files with filler."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from support.data import shared_data

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def certificates_in(path: Path) -> list[bytes]:
    """Return the DER of every certificate in a file, filler included."""
    raw = path.read_bytes()
    found = _PEM.findall(raw.decode("latin-1"))
    return [ssl.PEM_cert_to_DER_cert(text) for text in found] or [raw]


def ek_certificate(file_name: str) -> bytes:
    """Return one real EK certificate as it was read."""
    return shared_data("ek-certs", file_name).read_bytes()


def vendor_authorities() -> list[bytes]:
    """Return all authorities' certificates."""
    return [raw for _, raw in every_certificate("vendor-ca")]


def every_certificate(*folders: str) -> Iterator[tuple[str, bytes]]:
    """Yield (file and index, DER) of every real certificate below the folders."""
    for folder in folders:
        top = shared_data(folder)
        for path in sorted(each for each in top.rglob("*") if each.is_file()):
            for index, raw in enumerate(certificates_in(path)):
                yield f"{path.relative_to(top.parent)}#{index}", raw
