"""Signatures in words."""

from __future__ import annotations

import hashlib

from nodeseal.uefi.signature_database import SignatureEntry, decode_signature_lists
from nodeseal.uefi.signature_text import (
    CertificateSummary,
    count_signatures,
    describe_signature,
    describe_signatures,
    summarise_certificate,
)
from support.certificates import root
from support.uefi import OWNER, SHA256_KIND, X509_KIND, signature_list

NO_CERTIFICATE = b"\x30\x03\x02\x01\x05"


def entry(kind: str, data: bytes) -> SignatureEntry:
    return SignatureEntry(kind=kind, owner=OWNER, data=data)


def test_a_certificate_is_known_by_subject_serial_and_hash() -> None:
    certificate = root()
    known = summarise_certificate(certificate)
    assert known.sha256 == hashlib.sha256(certificate).hexdigest()
    assert known.subject == known.issuer != ""
    assert known.not_after is not None
    line = describe_signature(entry("x509", certificate))
    assert line == f"certificate {known.subject}, serial {known.serial}, sha256 {known.sha256}"


def test_of_a_certificate_that_does_not_decode_only_the_hash_is_known() -> None:
    sha256 = hashlib.sha256(NO_CERTIFICATE).hexdigest()
    assert summarise_certificate(NO_CERTIFICATE) == CertificateSummary(sha256=sha256)
    assert describe_signature(entry("x509", NO_CERTIFICATE)) == f"certificate unreadable, sha256 {sha256}"


def test_other_signatures_are_shown_as_they_are_and_not_without_end() -> None:
    assert describe_signature(entry("sha256", b"\1" * 32)) == f"sha256 {'01' * 32}"
    assert describe_signature(entry("rsa2048", b"\1" * 256)) == f"rsa2048 {'01' * 64}…"


def test_lists_are_counted_by_kind_and_long_ones_are_cut() -> None:
    hashes = signature_list(SHA256_KIND, *(bytes([n]) * 32 for n in range(7)))
    lists = decode_signature_lists(signature_list(X509_KIND, NO_CERTIFICATE) + hashes + hashes)
    assert count_signatures(lists) == "1 x509, 14 sha256"
    assert count_signatures(()) == "empty"
    lines = list(describe_signatures(lists))
    assert len(lines) == 1 + 2 * 5
    assert lines[5] == lines[-1] == "… and 3 more"


def test_a_list_of_four_is_shown_whole() -> None:
    lists = decode_signature_lists(signature_list(SHA256_KIND, *(bytes([n]) * 32 for n in range(4))))
    assert list(describe_signatures(lists))[-1] == f"sha256 {'03' * 32}"
