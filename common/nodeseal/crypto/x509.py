"""The verifier's certificate authority and the identities that its certificates carry in TLS.

One P-256 authority per trust domain signs three kinds of certificate, told apart by their only URI name, a SPIFFE
ID (X509-SVID §2, §4), and by their only extended key usage::

    spiffe://TRUST-DOMAIN/verifier         server authentication
    spiffe://TRUST-DOMAIN/node/NODE-ID     client authentication
    spiffe://TRUST-DOMAIN/person/NAME      client authentication

Of a certificate request (PKCS #10, RFC 2986) only the key is used, after its signature proved possession: what a
requester writes into names or extensions is ignored. The authority's certificate has no name constraints: it signs
for one trust domain only, and every peer takes identities from URI names alone.

This module checks no chains: TLS did that before :func:`peer_identity` is asked. Times are arguments everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import NodeId, PersonId, parse_node_id, parse_person_id, parse_trust_domain

BACK_DATED: Final = timedelta(minutes=5)
"""How far not-before lies in the past, so that a peer whose clock runs late accepts a new certificate."""
MAX_REQUEST: Final = 16 * 1024
MAX_CERTIFICATE: Final = 16 * 1024
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class PeerKind(Enum):
    """What a peer is; the value is the first part of its SPIFFE path."""

    NODE = "node"
    PERSON = "person"
    VERIFIER = "verifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Who a certificate speaks for.

    Attributes:
        kind: node, person or verifier.
        name: the node id, the person's name, or ``verifier``.
        trust_domain: the SPIFFE trust domain.
        certificate_sha256: SHA-256 of the certificate in DER; quotes are bound to it.
        not_before: when the certificate begins.
        not_after: when it ends. TLS checks it in the handshake only, so whoever keeps a connection
            open checks it again.
    """

    kind: PeerKind
    name: str
    trust_domain: str
    certificate_sha256: bytes
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    common_name: str
    names: tuple[x509.GeneralName, ...]
    usage: x509.ObjectIdentifier


class CertificateAuthority:
    """A certificate and its private key, which signs the certificates of one trust domain."""

    __slots__ = ("_certificate", "_key")

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate: Final = certificate
        self._key: Final = key

    def __repr__(self) -> str:
        return f"CertificateAuthority({self._certificate.subject.rfc4514_string()!r})"

    @classmethod
    def create(cls, common_name: str, at: datetime, days: int) -> Self:
        """Make a new P-256 authority, valid from ``at`` for ``days``."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name)
        builder = (
            _builder(name, name, key.public_key(), at, at + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes) -> Self:
        """Take an authority from PEM.

        Raises:
            MalformedInput: not PEM, not an authority's certificate, not an EC key on P-256, P-384 or P-521, or a
                key that does not belong to the certificate.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = serialization.load_pem_private_key(key_pem, password=None)
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise MalformedInput(f"certificate authority: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVES):
            raise MalformedInput("certificate authority: the key is not on P-256, P-384 or P-521")
        if key.public_key() != certificate.public_key():
            raise MalformedInput("certificate authority: the key does not belong to the certificate")
        if not constraints.ca:
            raise MalformedInput("certificate authority: the certificate may not sign others")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM: the root that peers trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def certificate_der(self) -> bytes:
        """The certificate in DER."""
        return self._certificate.public_bytes(serialization.Encoding.DER)

    def private_key_pem(self) -> bytes:
        """Return the private key in PEM (PKCS #8, not encrypted): for storing the authority only."""
        return _private_pem(self._key)

    def issue_verifier(
        self,
        request_der: bytes,
        trust_domain: str,
        hosts: Iterable[str],
        at: datetime,
        lifetime: timedelta,
    ) -> bytes:
        """Return a server certificate in DER for the requested key.

        Args:
            request_der: PKCS #10; only its key is used.
            trust_domain: SPIFFE trust domain.
            hosts: DNS names and IP addresses under which clients reach the verifier.
            at: now.
            lifetime: validity after ``at``, cut where the authority's own ends.

        Raises:
            MalformedInput: the request or the trust domain does not parse.
            ProofFailed: the request is not signed by its key, or the key is not accepted.
            Unavailable: the authority has run out.
        """
        uri = x509.UniformResourceIdentifier(_spiffe(trust_domain, PeerKind.VERIFIER.value))
        subject = _Subject(
            common_name="verifier", names=(uri, *map(_host, hosts)), usage=ExtendedKeyUsageOID.SERVER_AUTH
        )
        return self._issue(subject, request_der, at, lifetime)

    def issue_node(
        self, request_der: bytes, trust_domain: str, node_id: NodeId, at: datetime, lifetime: timedelta
    ) -> bytes:
        """Return a node's client certificate in DER; arguments and errors as :meth:`issue_verifier`."""
        uri = _spiffe(trust_domain, PeerKind.NODE.value, parse_node_id(node_id))
        return self._issue(_client(node_id, uri), request_der, at, lifetime)

    def issue_person(
        self, request_der: bytes, trust_domain: str, person: PersonId, at: datetime, lifetime: timedelta
    ) -> bytes:
        """Return a person's client certificate in DER; arguments and errors as :meth:`issue_verifier`."""
        uri = _spiffe(trust_domain, PeerKind.PERSON.value, parse_person_id(person))
        return self._issue(_client(person, uri), request_der, at, lifetime)

    def _issue(self, subject: _Subject, request_der: bytes, at: datetime, lifetime: timedelta) -> bytes:
        key = requested_key(request_der)
        until = min(at + lifetime, self._certificate.not_valid_after_utc)
        if until <= at:
            raise Unavailable("the certificate authority has run out", remedy="make a new one: nodeseal-verifier init")
        certificate = (
            _builder(_name(subject.common_name), self._certificate.subject, key, at, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([subject.usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(subject.names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, _hash_for(self._key))
        )
        return certificate.public_bytes(serialization.Encoding.DER)


def new_tls_key() -> bytes:
    """Return a new P-256 private key in PEM (PKCS #8, not encrypted)."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def certificate_request(key_pem: bytes, common_name: str) -> bytes:
    """Return a PKCS #10 request in DER for a key from :func:`new_tls_key`.

    Raises:
        MalformedInput: ``key_pem`` is not an EC private key in PEM.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput("TLS key: not a private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MalformedInput("TLS key: not an EC key")
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name))
    return request.sign(key, _hash_for(key)).public_bytes(serialization.Encoding.DER)


def to_pem(*certificates_der: bytes) -> bytes:
    """Return certificates in PEM, in the order given: what TLS libraries ask for."""
    return b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in certificates_der)


def requested_key(request_der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate request whose sender proved that it holds it.

    Raises:
        MalformedInput: not a PKCS #10 request.
        ProofFailed: ``tls.request``: not signed by its own key, or not an EC key on P-256, P-384 or P-521.
    """
    if len(request_der) > MAX_REQUEST:
        raise MalformedInput(f"certificate request: {len(request_der)} bytes, at most {MAX_REQUEST}")
    try:
        request = x509.load_der_x509_csr(request_der)
        key = request.public_key()
        proved = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise MalformedInput(f"certificate request: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise _refused(FindingId.TLS_REQUEST, "an EC key on P-256, P-384 or P-521", type(key).__name__)
    if not proved:
        raise _refused(FindingId.TLS_REQUEST, "a request signed by its own key", "a signature that does not hold")
    return key


def peer_identity(certificate_der: bytes) -> PeerIdentity:
    """Read whom a certificate of this system speaks for. Its chain was checked by TLS, not here.

    Raises:
        MalformedInput: not a certificate.
        ProofFailed: ``tls.certificate``: not exactly one URI name, not a SPIFFE ID of a known form, or an extended
            key usage that is not the one of its kind.
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


def _only_uri(extensions: x509.Extensions) -> str:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise _refused(FindingId.TLS_CERTIFICATE, "one URI name", "no names") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _refused(FindingId.TLS_CERTIFICATE, "one URI name", f"{len(uris)} URI names")
    return uris[0]


def _parse_spiffe(uri: str) -> tuple[str, PeerKind, str]:
    """Split a SPIFFE ID into trust domain, kind and name; every part has one spelling, so no form is normalised."""
    with contextlib.suppress(MalformedInput):
        match uri.removeprefix("spiffe://").split("/"):
            case [domain, "verifier"] if uri == _spiffe(domain, "verifier"):
                return domain, PeerKind.VERIFIER, "verifier"
            case [domain, "node", node] if uri == _spiffe(domain, "node", node):
                return domain, PeerKind.NODE, parse_node_id(node)
            case [domain, "person", person] if uri == _spiffe(domain, "person", person):
                return domain, PeerKind.PERSON, parse_person_id(person)
    raise _refused(FindingId.TLS_CERTIFICATE, "a SPIFFE ID of this system", f"{uri[:120]!a}")


def _require_usage(extensions: x509.Extensions, kind: PeerKind) -> None:
    expected = ExtendedKeyUsageOID.SERVER_AUTH if kind is PeerKind.VERIFIER else ExtendedKeyUsageOID.CLIENT_AUTH
    try:
        usages = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = []
    if usages != [expected]:
        seen = ", ".join(usage.dotted_string for usage in usages) or "none"
        raise _refused(FindingId.TLS_CERTIFICATE, f"only extended key usage {expected.dotted_string}", seen)


def _client(name: str, uri: str) -> _Subject:
    names = (x509.UniformResourceIdentifier(uri),)
    return _Subject(common_name=name, names=names, usage=ExtendedKeyUsageOID.CLIENT_AUTH)


def _spiffe(trust_domain: str, *path: str) -> str:
    return "/".join((f"spiffe://{parse_trust_domain(trust_domain)}", *path))


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise MalformedInput(f"host: neither a DNS name nor an IP address: {text[:80]!a}") from error


def _name(common_name: str) -> x509.Name:
    # X.520 allows 64 characters, host names may be longer; nothing is decided by this name
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_whole_seconds(at - BACK_DATED))
        .not_valid_after(_whole_seconds(until))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _whole_seconds(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(UTC).replace(microsecond=0)


def _hash_for(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA256() if key.curve.key_size == ec.SECP256R1.key_size else hashes.SHA384()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _refused(finding: FindingId, expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=finding, expected=expected, seen=seen))
