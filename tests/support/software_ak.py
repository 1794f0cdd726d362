"""Attestation keys in software, of every scheme that is accepted and some that are not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from nodeseal.crypto.keys import public_of_key
from nodeseal.tpm.algorithms import Alg, HashAlg, ObjectAttributes
from nodeseal.tpm.public import RsaPublic, Scheme, TpmPublic
from nodeseal.tpm.signature import EccSignature, RsaSignature, TpmSignature, encode_signature

HASHES: dict[HashAlg, hashes.HashAlgorithm] = {
    HashAlg.SHA1: hashes.SHA1(),  # noqa: S303  # to see it refused
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
    HashAlg.SHA512: hashes.SHA512(),
}
CURVES: dict[str, ec.EllipticCurve] = {
    "P192": ec.SECP192R1(),
    "P224": ec.SECP224R1(),
    "P256": ec.SECP256R1(),
    "P384": ec.SECP384R1(),
    "P521": ec.SECP521R1(),
}
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@lru_cache
def private_key(kind: str, number: int = 0) -> Private:
    """Return the key of ``kind``, ``P256`` or ``2048`` for instance; another for each ``number``."""
    del number
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind])
    return rsa.generate_private_key(65537, int(kind))


@dataclass(frozen=True)
class SoftwareAk:
    """A restricted signing key whose private half is here."""

    private: Private
    scheme: Scheme

    @classmethod
    def of(cls, kind: str, scheme: str, number: int = 0) -> SoftwareAk:
        """Return a key for a scheme such as ``rsapss-sha256``."""
        alg, _, hash_name = scheme.partition("-")
        return cls(private_key(kind, number), Scheme(Alg[alg.upper()], HashAlg.from_name(hash_name)))

    @property
    def public(self) -> TpmPublic:
        """The public area, with the scheme and a restricted key's attributes."""
        attributes = ObjectAttributes.FIXED_TPM | ObjectAttributes.RESTRICTED | ObjectAttributes.SIGN_ENCRYPT
        return replace(public_of_key(self.private.public_key()), scheme=self.scheme, attributes=attributes)

    def pem(self) -> bytes:
        """Return the public key as PEM."""
        return self._public_bytes(serialization.Encoding.PEM)

    def der(self) -> bytes:
        """Return the public key as DER."""
        return self._public_bytes(serialization.Encoding.DER)

    def sign(self, message: bytes) -> TpmSignature:
        """Sign as a TPM would."""
        plain = self.sign_plain(message)
        if self.scheme.alg is Alg.ECDSA:
            return EccSignature(self.scheme.hash_alg, *decode_dss_signature(plain))
        return RsaSignature(self.scheme.alg, self.scheme.hash_alg, plain)

    def sign_raw(self, message: bytes) -> bytes:
        """Sign; return the TPMT_SIGNATURE."""
        public = self.public
        return encode_signature(
            self.sign(message), 0 if isinstance(public, RsaPublic) else public.curve.coordinate_size
        )

    def sign_plain(self, message: bytes) -> bytes:
        """Return a signature as OpenSSL encodes it."""
        hash_alg = HASHES[self.scheme.hash_alg]
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(message, ec.ECDSA(hash_alg))
        if self.scheme.alg is Alg.RSASSA:
            return self.private.sign(message, padding.PKCS1v15(), hash_alg)
        salt = padding.PSS(padding.MGF1(hash_alg), padding.PSS.MAX_LENGTH)
        return self.private.sign(message, salt, hash_alg)

    def _public_bytes(self, encoding: serialization.Encoding) -> bytes:
        return self.private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
