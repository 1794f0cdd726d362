"""A TPM vendor's endorsement key certificates, for software TPMs, tests and load generators.

Root and intermediate are P-256. Certificates follow the TCG EK Credential Profile for TPM Family 2.0, v2.5: empty
subject, therefore a critical subjectAltName with manufacturer, model and version; extended key usage
tcg-kp-EKCertificate; key usage by kind of key. To trust such a root is to trust software.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nodeseal.crypto.authority import BACK_DATED
from nodeseal.crypto.keys import public_key_of
from nodeseal.tpm.public import EccPublic, TpmPublic
from nodeseal.x509.extensions import EK_CERTIFICATE, TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION

_LIFETIME: Final = timedelta(days=3650)
_TPM_NAME: Final = (
    (x509.ObjectIdentifier(TPM_MANUFACTURER), "id:4E534C00"),
    (x509.ObjectIdentifier(TPM_MODEL), "synthetic"),
    (x509.ObjectIdentifier(TPM_VERSION), "id:00010000"),
)
"""tcg-at-tpmManufacturer ("NSL", which the TCG has assigned to no one), tpmModel and tpmVersion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorKeys:
    """A TPM vendor's certificate authority.

    Attributes:
        root_pem: certificate of the root, whose key is not kept.
        intermediate_pem: certificate that signs endorsement key certificates.
        signing_key_pem: private key of the intermediate, PKCS #8 without password.
    """

    root_pem: bytes
    intermediate_pem: bytes
    signing_key_pem: bytes

    def __repr__(self) -> str:
        return "VendorKeys(...)"


def create_vendor(name: str, at: datetime) -> VendorKeys:
    """Create root and intermediate of the vendor ``name``, valid for ten years from ``at``."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, intermediate_name = _name(f"{name} root"), _name(f"{name} intermediate")
    root = _authority(root_name, root_name, key=root_key, signer=root_key, path_length=1, at=at)
    intermediate = _authority(intermediate_name, root_name, key=key, signer=root_key, path_length=0, at=at)
    return VendorKeys(
        root_pem=root.public_bytes(serialization.Encoding.PEM),
        intermediate_pem=intermediate.public_bytes(serialization.Encoding.PEM),
        signing_key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def issue_ek_certificate(vendor: VendorKeys, ek: TpmPublic, at: datetime) -> bytes:
    """Return the certificate of ``ek`` in DER, valid for ten years from ``at``.

    Raises:
        MalformedInput: the point is not on its curve, or the modulus or exponent is impossible.
    """
    issuer = x509.load_pem_x509_certificate(vendor.intermediate_pem)
    signer = serialization.load_pem_private_key(vendor.signing_key_pem, password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("a vendor signs with an EC key")
    alternative = x509.Name([x509.NameAttribute(oid, value) for oid, value in _TPM_NAME])
    builder = (
        _builder(x509.Name([]), issuer.subject, at)
        .public_key(public_key_of(ek))
        .add_extension(x509.SubjectAlternativeName([x509.DirectoryName(alternative)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("key_agreement" if isinstance(ek, EccPublic) else "key_encipherment"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(EK_CERTIFICATE)]), critical=False)
        .add_extension(_key_identifier(signer), critical=False)
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def pem_to_der(certificate_pem: bytes) -> bytes:
    """Return the DER of one certificate in PEM."""
    return x509.load_pem_x509_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)


def _authority(  # noqa: PLR0913 # one call per certificate of the chain, all of it named
    subject: x509.Name,
    issuer: x509.Name,
    *,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    path_length: int,
    at: datetime,
) -> x509.Certificate:
    builder = (
        _builder(subject, issuer, at)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_identifier(signer), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, at: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACK_DATED)
        .not_valid_after(at + _LIFETIME)
    )


def _key_identifier(signer: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _usage(*granted: str) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in granted for name in names})
