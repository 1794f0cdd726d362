"""Facts of the certificates and keys in TLS files, to check a setup with; nothing here trusts a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodeseal.errors import MalformedInput

E = TypeVar("E", bound=x509.ExtensionType)
EXPIRES_SOON: Final = timedelta(weeks=6)
"""How long before its end a certificate is said to expire, wherever that is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        subject: its name, for people.
        not_before: start of validity.
        not_after: end of validity.
        hosts: DNS names and IP addresses.
        uris: URI names.
        authority: whether it may sign others.
        serves: whether TLS servers may use it.
        public_key: in DER.
        certificate: the certificate itself.
    """

    subject: str
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...]
    uris: tuple[str, ...]
    authority: bool
    serves: bool
    public_key: bytes
    certificate: x509.Certificate

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Return the facts of a certificate.

        Raises:
            MalformedInput: an extension does not parse.
        """
        try:
            names = _extension(certificate, x509.SubjectAlternativeName)
            constraints = _extension(certificate, x509.BasicConstraints)
            usage = _extension(certificate, x509.ExtendedKeyUsage)
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            raise MalformedInput(f"certificate: {error}") from error
        dns = names.get_values_for_type(x509.DNSName) if names else []
        addresses = names.get_values_for_type(x509.IPAddress) if names else []
        return cls(
            subject=certificate.subject.rfc4514_string(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            hosts=(*dns, *map(str, addresses)),
            uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
            authority=constraints is not None and constraints.ca,
            serves=usage is None or ExtendedKeyUsageOID.SERVER_AUTH in usage,
            public_key=key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            certificate=certificate,
        )

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issued_by(self, authority: CertificateFacts) -> bool:
        """Tell whether the key of ``authority`` signed it."""
        try:
            self.certificate.verify_directly_issued_by(authority.certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def fits(self, host: str) -> bool:
        """Tell whether a client that calls ``host`` accepts its names (RFC 9525 §6.3)."""
        wanted = host.lower().rstrip(".")
        return any(name.lower() == wanted or _covers(name.lower(), wanted) for name in self.hosts)


def certificates_in(pem: bytes) -> tuple[CertificateFacts, ...]:
    """Return the certificates of a PEM file, in its order; at least one.

    Raises:
        MalformedInput: not PEM, or a certificate does not parse.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedInput("not certificates in PEM") from error
    return tuple(map(CertificateFacts.of, found))


def public_key_in(pem: bytes) -> bytes:
    """Return the public half of a private key in PEM, in DER.

    Raises:
        MalformedInput: not a private key in PEM, or one with a password.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput("not a private key in PEM without a password") from error
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _covers(name: str, host: str) -> bool:
    first, _, rest = host.partition(".")
    return bool(first) and name.startswith("*.") and name[2:] == rest
