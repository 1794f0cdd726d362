"""Identities that certificates carry in TLS: one SPIFFE ID each (X509-SVID §2, §4).

::

    spiffe://TRUST-DOMAIN/verifier         server authentication
    spiffe://TRUST-DOMAIN/node/NODE-ID     client authentication
    spiffe://TRUST-DOMAIN/person/NAME      client authentication

Each kind has exactly one extended key usage. Peers take identities from URI names alone. This module does not verify
chains: TLS has done that before it calls :func:`peer_identity`.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import parse_node_id, parse_person_id, parse_trust_domain
from nodeseal.x509.certificate import MAX_CERTIFICATE


class PeerKind(Enum):
    """Kind of a peer. The value is the first part of its SPIFFE path."""

    NODE = "node"
    PERSON = "person"
    VERIFIER = "verifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Holder of a certificate.

    Attributes:
        kind: node, person or verifier.
        name: the node id, the person's name, or ``verifier``.
        trust_domain: the SPIFFE trust domain.
        certificate_sha256: SHA-256 of the certificate in DER; quotes are bound to it.
        not_before: start of validity.
        not_after: end of validity. TLS checks it in the handshake only; a connection that stays open must check it
            again.
    """

    kind: PeerKind
    name: str
    trust_domain: str
    certificate_sha256: bytes
    not_before: datetime
    not_after: datetime


def peer_identity(certificate_der: bytes) -> PeerIdentity:
    """Return the holder of a certificate of this system. TLS has verified its chain; this function does not.

    Raises:
        MalformedInput: not a certificate.
        ProofFailed: ``tls.certificate``: not exactly one URI name, no SPIFFE ID of a known form, or another extended
            key usage than its kind's.
    """
    if len(certificate_der) > MAX_CERTIFICATE:
        raise MalformedInput(f"peer certificate: {len(certificate_der)} bytes, at most {MAX_CERTIFICATE}")
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        extensions = certificate.extensions
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise MalformedInput(f"peer certificate: {error}") from error
    trust_domain, kind, name = _parse_spiffe(_only_uri(extensions))
    _require_usage(extensions, kind)
    return PeerIdentity(
        kind=kind,
        name=name,
        trust_domain=trust_domain,
        certificate_sha256=hashlib.sha256(certificate_der).digest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def to_pem(*certificates_der: bytes) -> bytes:
    """Return certificates in PEM in the given order, as TLS libraries take them."""
    return b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in certificates_der)


def spiffe_id(trust_domain: str, *path: str) -> str:
    """Return the SPIFFE ID with this path.

    Raises:
        MalformedInput: the trust domain does not parse.
    """
    return "/".join((f"spiffe://{parse_trust_domain(trust_domain)}", *path))


def _only_uri(extensions: x509.Extensions) -> str:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise _refused("one URI name", "no names") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _refused("one URI name", f"{len(uris)} URI names")
    return uris[0]


def _parse_spiffe(uri: str) -> tuple[str, PeerKind, str]:
    """Split a SPIFFE ID into trust domain, kind and name. Every part has one spelling, so nothing is normalised."""
    with contextlib.suppress(MalformedInput):
        match uri.removeprefix("spiffe://").split("/"):
            case [domain, "verifier"] if uri == spiffe_id(domain, "verifier"):
                return domain, PeerKind.VERIFIER, "verifier"
            case [domain, "node", node] if uri == spiffe_id(domain, "node", node):
                return domain, PeerKind.NODE, parse_node_id(node)
            case [domain, "person", person] if uri == spiffe_id(domain, "person", person):
                return domain, PeerKind.PERSON, parse_person_id(person)
    raise _refused("a SPIFFE ID of this system", f"{uri[:120]!a}")


def _require_usage(extensions: x509.Extensions, kind: PeerKind) -> None:
    expected = ExtendedKeyUsageOID.SERVER_AUTH if kind is PeerKind.VERIFIER else ExtendedKeyUsageOID.CLIENT_AUTH
    try:
        usages = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = []
    if usages != [expected]:
        seen = ", ".join(usage.dotted_string for usage in usages) or "none"
        raise _refused(f"only extended key usage {expected.dotted_string}", seen)


def _refused(expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.TLS_CERTIFICATE, expected=expected, seen=seen))
