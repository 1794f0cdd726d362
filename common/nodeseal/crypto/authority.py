"""The verifier's certificate authority: one P-256 authority for each trust domain.

It signs the certificates of verifiers, nodes and people, told apart by their SPIFFE ID and their extended key usage
(:mod:`nodeseal.crypto.tls_identity`). Only the key of a certificate request is used, after the request's signature
proved possession; names and extensions that a requester writes are ignored. The authority's certificate has no name
constraints, because it signs for one trust domain only. Times are arguments.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodeseal.crypto.algorithms import is_accepted_curve
from nodeseal.crypto.tls_identity import PeerKind, spiffe_id
from nodeseal.crypto.tls_key import common_name, hash_for, private_pem, requested_key
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.ids import NodeId, PersonId, parse_node_id, parse_person_id

BACK_DATED: Final = timedelta(minutes=5)
"""Time by which not-before lies in the past, so that a peer whose clock is slow accepts a new certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    common_name: str
    names: tuple[x509.GeneralName, ...]
    usage: x509.ObjectIdentifier


class CertificateAuthority:
    """Certificate and private key that sign the certificates of one trust domain."""

    __slots__ = ("_certificate", "_key")

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate: Final = certificate
        self._key: Final = key

    def __repr__(self) -> str:
        return f"CertificateAuthority({self._certificate.subject.rfc4514_string()!r})"

    @classmethod
    def create(cls, name: str, at: datetime, days: int) -> Self:
        """Create a P-256 authority, valid from ``at`` for ``days``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = common_name(name)
        builder = (
            _builder(subject, subject, key.public_key(), at, at + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes) -> Self:
        """Load an authority from PEM.

        Raises:
            MalformedInput: not PEM, not an authority's certificate, not an EC key on P-256, P-384 or P-521, or a
                key of another certificate.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = serialization.load_pem_private_key(key_pem, password=None)
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise MalformedInput(f"certificate authority: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_accepted_curve(key.curve):
            raise MalformedInput("certificate authority: the key is not on P-256, P-384 or P-521")
        if key.public_key() != certificate.public_key():
            raise MalformedInput("certificate authority: the key does not belong to the certificate")
        if not constraints.ca:
            raise MalformedInput("certificate authority: the certificate may not sign others")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM, which peers trust as root."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def certificate_der(self) -> bytes:
        """The certificate in DER."""
        return self._certificate.public_bytes(serialization.Encoding.DER)

    def private_key_pem(self) -> bytes:
        """Return the private key in PEM (PKCS #8, not encrypted), for storage of the authority only."""
        return private_pem(self._key)

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
            hosts: DNS names and IP addresses of the verifier.
            at: current time.
            lifetime: validity after ``at``; it ends with the authority's own at the latest.

        Raises:
            MalformedInput: the request, the trust domain or a host does not parse.
            ProofFailed: the request is not signed by its key, or the key is not accepted.
            Unavailable: the authority has expired.
        """
        uri = x509.UniformResourceIdentifier(spiffe_id(trust_domain, PeerKind.VERIFIER.value))
        subject = _Subject(
            common_name="verifier", names=(uri, *map(_host, hosts)), usage=ExtendedKeyUsageOID.SERVER_AUTH
        )
        return self._issue(subject, request_der, at, lifetime)

    def issue_node(
        self, request_der: bytes, trust_domain: str, node_id: NodeId, at: datetime, lifetime: timedelta
    ) -> bytes:
        """Return a node's client certificate in DER, for the requested key.

        Args:
            request_der: PKCS #10; only its key is used.
            trust_domain: SPIFFE trust domain.
            node_id: the node.
            at: current time.
            lifetime: validity after ``at``; it ends with the authority's own at the latest.

        Raises:
            MalformedInput: the request, the trust domain or the node id does not parse.
            ProofFailed: the request is not signed by its key, or the key is not accepted.
            Unavailable: the authority has expired.
        """
        uri = spiffe_id(trust_domain, PeerKind.NODE.value, parse_node_id(node_id))
        return self._issue(_client(node_id, uri), request_der, at, lifetime)

    def issue_person(
        self, request_der: bytes, trust_domain: str, person: PersonId, at: datetime, lifetime: timedelta
    ) -> bytes:
        """Return a person's client certificate in DER, for the requested key.

        Args:
            request_der: PKCS #10; only its key is used.
            trust_domain: SPIFFE trust domain.
            person: name of the person.
            at: current time.
            lifetime: validity after ``at``; it ends with the authority's own at the latest.

        Raises:
            MalformedInput: the request, the trust domain or the name does not parse.
            ProofFailed: the request is not signed by its key, or the key is not accepted.
            Unavailable: the authority has expired.
        """
        uri = spiffe_id(trust_domain, PeerKind.PERSON.value, parse_person_id(person))
        return self._issue(_client(person, uri), request_der, at, lifetime)

    def _issue(self, subject: _Subject, request_der: bytes, at: datetime, lifetime: timedelta) -> bytes:
        key = requested_key(request_der)
        until = min(at + lifetime, self._certificate.not_valid_after_utc)
        if until <= at:
            raise Unavailable("the certificate authority has run out", remedy="make a new one: nodeseal-verifier init")
        certificate = (
            _builder(common_name(subject.common_name), self._certificate.subject, key, at, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([subject.usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(subject.names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hash_for(self._key))
        )
        return certificate.public_bytes(serialization.Encoding.DER)


def _client(name: str, uri: str) -> _Subject:
    names = (x509.UniformResourceIdentifier(uri),)
    return _Subject(common_name=name, names=names, usage=ExtendedKeyUsageOID.CLIENT_AUTH)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise MalformedInput(f"host: neither a DNS name nor an IP address: {text[:80]!a}") from error


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
