"""Whether an endorsement key is trusted (DESIGN §4, step 2): pure, no I/O, no clock.

A key is trusted if its certificate chains to a configured root, or if its SHA-256 is on the allow list. The list holds
the SHA-256 of the TPMT_PUBLIC, so that it names the key with its attributes and policy; for the usual keys it is what
follows ``000b`` in the key's TPM name (``tpm2_readpublic -n``, ``tpm2_createek -f tpmt`` and ``sha256sum``). An empty
policy trusts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.crypto.endorsement import certified_form, verify_ek_chain
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, digest_of
from nodeseal.tpm.public import RsaPublic, TpmPublic
from nodeseal.x509.certificate import (
    Certificate,
    decode_certificate,
    decode_certificate_file,
    split_certificates,
)
from nodeseal.x509.extensions import TpmModel

MAX_CHAIN: Final = 64 * 1024
"""Bytes of all authorities' certificates that one node may present."""
_VENDOR: Final = re.compile(r"id:([0-9A-Fa-f]{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentPolicy:
    """Which endorsement keys are trusted.

    Attributes:
        roots: authorities that are trusted.
        intermediates: authorities that help to find a path and are not trusted by themselves.
        ek_allow: SHA-256 of the TPMT_PUBLIC of endorsement keys that need no certificate.
    """

    roots: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...]
    ek_allow: frozenset[Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEndorsement:
    """An endorsement key and the certificates that a node shows for it.

    Attributes:
        key: the public area.
        raw: the public area as it arrived (TPMT_PUBLIC).
        certificates: of the key, as read from NV; only the first counts.
        chain: certificates of authorities, one or several in each, with or without filler.
    """

    key: TpmPublic
    raw: bytes
    certificates: tuple[bytes, ...]
    chain: tuple[bytes, ...]


def enrolment_policy(files: Mapping[str, bytes], ek_allow: frozenset[Digest]) -> EnrolmentPolicy:
    """Sort authorities' certificates (file name to PEM or DER): self-issued ones are roots, others intermediates.

    Raises:
        MalformedInput: a file does not decode; names it.
    """
    authorities = [each for name, raw in files.items() for each in decode_certificate_file(raw, name)]
    return EnrolmentPolicy(
        roots=tuple(each for each in authorities if each.subject == each.issuer),
        intermediates=tuple(each for each in authorities if each.subject != each.issuer),
        ek_allow=ek_allow,
    )


def verify_endorsement(shown: ShownEndorsement, policy: EnrolmentPolicy, at: datetime) -> TpmModel:
    """Return what the certificate says of the TPM, if the endorsement key is trusted; empty for the allow list.

    Raises:
        ProofFailed: it is not trusted; carries every finding.
        MalformedInput: the presented authorities take more room than accepted.
    """
    digest = digest_of(shown.raw)
    if digest in policy.ek_allow:
        return TpmModel()
    if not shown.certificates:
        raise ProofFailed(
            Finding(
                id=FindingId.EK_ABSENT,
                expected="a certificate, or this key on the allow list",
                seen=f"no certificate, and SHA-256 of the public area {digest}",
            )
        )
    try:
        leaf = decode_certificate(shown.certificates[0])
    except MalformedInput as error:
        raise ProofFailed(_malformed(error)) from error
    findings = [] if leaf.key == certified_form(shown.key) else [_another_key(digest)]
    presented, unreadable = _presented(shown.chain)
    try:
        chain = verify_ek_chain(leaf, (*policy.intermediates, *presented), policy.roots, at)
    except ProofFailed as error:
        raise ProofFailed(*findings, *error.findings, *unreadable) from error
    if findings:
        raise ProofFailed(*findings)
    return chain.tpm_model


def _presented(ek_chain: tuple[bytes, ...]) -> tuple[list[Certificate], list[Finding]]:
    """Decode presented authorities. A finding about them counts only if no path is found without them."""
    size = sum(map(len, ek_chain))
    if size > MAX_CHAIN:
        raise MalformedInput(f"EK certificate chain: {size} bytes, at most {MAX_CHAIN}")
    try:
        return [decode_certificate(raw) for raw in split_certificates(b"".join(ek_chain))], []
    except MalformedInput as error:
        return [], [_malformed(error, "certificate chain")]


def vendor_id(model: TpmModel) -> str:
    """Return the maker's TCG vendor id as goldens name it: ``IFX``, or ``id:00001014`` where it is no word.

    The certificate writes ``id:`` and four bytes in hex, filled up with zeros or spaces (EK Credential Profile,
    tpmManufacturer; TCG TPM Vendor ID Registry). Empty if it says nothing of the kind.
    """
    match = _VENDOR.fullmatch(model.manufacturer)
    if match is None:
        return ""
    word = bytes.fromhex(match[1]).rstrip(b"\0 ")
    return word.decode("ascii") if word.isalnum() else f"id:{match[1].upper()}"


def algorithm_name(ek: TpmPublic) -> str:
    """Return the kind of an endorsement key as goldens name it (``nodeseal.golden.rules.EK_ALGORITHMS``)."""
    return f"rsa{ek.key_bits}" if isinstance(ek, RsaPublic) else f"ecc-{ek.curve.name.lower()}"


def _malformed(error: MalformedInput, where: str = "") -> Finding:
    return Finding(id=FindingId.EK_MALFORMED, expected="an X.509 certificate", seen=str(error), where=where)


def _another_key(digest: Digest) -> Finding:
    return Finding(
        id=FindingId.EK_KEY_MISMATCH,
        expected="a certificate of the key shown",
        seen=f"a certificate of another key; SHA-256 of the public area shown {digest}",
    )
