"""Signatures of a database in words: certificates and hashes. For display only; no decision depends on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.signature_database import X509, SignatureEntry, SignatureList
from nodeseal.x509.certificate import decode_certificate, name_text

_SHOWN_ENTRIES: Final = 4
"""Most entries of a list that are shown; a dbx has hundreds."""
_SHOWN_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSummary:
    """Facts that identify a certificate.

    Attributes:
        sha256: SHA-256 of its DER in hex, as in goldens.
        subject: subject; empty: the certificate does not decode.
        issuer: issuer.
        serial: serial number in hex, with a sign if negative.
        not_after: end of validity.
    """

    sha256: str
    subject: str = ""
    issuer: str = ""
    serial: str = ""
    not_after: datetime | None = None


def summarise_certificate(raw: bytes) -> CertificateSummary:
    """Return the facts that identify a certificate; only its hash if it does not decode."""
    sha256 = HashAlg.SHA256.digest(raw).hex()
    try:
        certificate = decode_certificate(raw)
    except MalformedInput:
        return CertificateSummary(sha256=sha256)
    return CertificateSummary(
        sha256=sha256,
        subject=name_text(certificate.subject),
        issuer=name_text(certificate.issuer),
        serial=f"{certificate.serial:x}",
        not_after=certificate.not_after,
    )


def describe_signature(entry: SignatureEntry) -> str:
    """Return one line about a signature: a certificate's subject, serial number and hash, or the hash itself."""
    if entry.kind != X509:
        return f"{entry.kind} {entry.data[:_SHOWN_BYTES].hex()}{'…' * (len(entry.data) > _SHOWN_BYTES)}"
    certificate = summarise_certificate(entry.data)
    known = f"{certificate.subject}, serial {certificate.serial}" if certificate.subject else "unreadable"
    return f"certificate {known}, sha256 {certificate.sha256}"


def count_signatures(lists: Sequence[SignatureList]) -> str:
    """Return the number of signatures of each kind: ``2 x509, 371 sha256``."""
    counts = Counter[str]()
    for each in lists:
        counts[each.kind] += len(each)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "empty"


def describe_signatures(lists: Sequence[SignatureList]) -> Iterator[str]:
    """Yield a line for each signature. Of a long list, yield the first ones and the number of the others."""
    for each in lists:
        for entry, _ in zip(each.entries(), range(_SHOWN_ENTRIES), strict=False):
            yield describe_signature(entry)
        if len(each) > _SHOWN_ENTRIES:
            yield f"… and {len(each) - _SHOWN_ENTRIES} more"
