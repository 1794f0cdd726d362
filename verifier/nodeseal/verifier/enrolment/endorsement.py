"""Whether an endorsement key is trusted (DESIGN §4, step 2): pure, no I/O, no clock.

A key is trusted if its certificate chains to a configured root, or if its SHA-256 is on the allow list. The list holds
the SHA-256 of the TPMT_PUBLIC, so that it names the key with its attributes and policy; for the usual keys it is what
follows ``000b`` in the key's TPM name (``tpm2_readpublic -n``, ``tpm2_createek -f tpmt`` and ``sha256sum``). An empty
policy trusts nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from nodeseal.crypto.endorsement import Oddity, certified_form, verify_ek_chain
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, digest_of
from nodeseal.tpm.public import RsaPublic, TpmPublic
from nodeseal.verifier.enrolment.vendors import Vendors
from nodeseal.x509.certificate import Certificate, decode_certificate, split_certificates
from nodeseal.x509.extensions import TpmModel

MAX_CHAIN: Final = 64 * 1024
"""Bytes of all authorities' certificates that one node may present."""
_VENDOR: Final = re.compile(r"id:([0-9A-Fa-f]{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentPolicy:
    """Which endorsement keys are trusted.

    Attributes:
        vendors: the authorities that are trusted, and those that help to find a path to them.
        ek_allow: SHA-256 of the TPMT_PUBLIC of endorsement keys that need no certificate.
    """

    vendors: Vendors
    ek_allow: frozenset[Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedEndorsement:
    """What is known of a trusted endorsement key. Only :func:`verify_endorsement` builds one.

    Attributes:
        tpm_model: what the certificate says of the TPM; empty for a key on the allow list.
        oddities: what was tolerated in its chain.
    """

    tpm_model: TpmModel = field(default_factory=TpmModel)
    oddities: tuple[Oddity, ...] = ()


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


def verify_endorsement(shown: ShownEndorsement, policy: EnrolmentPolicy, at: datetime) -> TrustedEndorsement:
    """Return what is known of the TPM, if the endorsement key is trusted.

    Raises:
        ProofFailed: it is not trusted; carries every finding.
        MalformedInput: the presented authorities take more room than accepted.
    """
    digest = digest_of(shown.raw)
    if digest in policy.ek_allow:
        return TrustedEndorsement()
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
        chain = verify_ek_chain(leaf, (*policy.vendors.intermediates, *presented), policy.vendors.roots, at)
    except ProofFailed as error:
        raise ProofFailed(*findings, *error.findings, *unreadable) from error
    if findings:
        raise ProofFailed(*findings)
    return TrustedEndorsement(tpm_model=chain.tpm_model, oddities=chain.oddities)


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
