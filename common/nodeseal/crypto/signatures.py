"""Verification of signatures by TPM keys.

Accepted: RSASSA (PKCS #1 v1.5) and RSAPSS from 2048 bits and ECDSA on P-256, P-384 and P-521, over SHA-256 or better,
in the scheme that the key declares. SHA-1 is refused; :class:`InsecureSha1Verifier` is for forensics on old quotes, and
no decision about trust uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature

from nodeseal.crypto.algorithms import ACCEPTED_CURVES, HASHES, MIN_RSA_BITS
from nodeseal.crypto.keys import PublicKey, public_key_of
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.algorithms import STRONG_HASHES, Alg, HashAlg
from nodeseal.tpm.public import DEFAULT_EXPONENT, RsaPublic, Scheme, TpmPublic
from nodeseal.tpm.signature import EccSignature, RsaSignature, TpmSignature, decode_signature

_RSA_SIGNING = frozenset({Alg.RSASSA, Alg.RSAPSS})
_ECC_SIGNING = frozenset({Alg.ECDSA})


class SignatureVerifier:
    """A TPM key prepared for many checks.

    Args:
        public: the key; its scheme says which signatures it makes (restricted keys always have one).

    Raises:
        MalformedInput: the point is not on its curve, or the modulus or exponent is impossible.
        ProofFailed: ``quote.algorithm``: no scheme, or a size, curve, scheme or hash that is not accepted.
    """

    accepted_hashes: ClassVar[frozenset[HashAlg]] = frozenset(STRONG_HASHES)

    def __init__(self, public: TpmPublic) -> None:
        self._scheme = self._accept(public)
        self._check = _check_with(public_key_of(public), self._scheme)

    @property
    def hash_alg(self) -> HashAlg:
        """Hash of the key's scheme: of signatures, and of the digest over quoted PCR values."""
        return self._scheme.hash_alg

    def verify(self, raw_signature: bytes, message: bytes) -> None:
        """Verify a TPMT_SIGNATURE over ``message``.

        Raises:
            ProofFailed: ``quote.malformed``: it does not parse; ``quote.algorithm``: another scheme or hash than the
                key's; ``quote.signature``: it does not hold.
        """
        try:
            signature = decode_signature(raw_signature)
        except MalformedInput as error:
            raise _failed(FindingId.QUOTE_MALFORMED, "a TPMT_SIGNATURE", str(error)) from error
        self.verify_decoded(signature, message)

    def verify_decoded(self, signature: TpmSignature, message: bytes) -> None:
        """Verify a decoded signature over ``message``.

        Raises:
            ProofFailed: ``quote.algorithm``: another scheme or hash than the key's; ``quote.signature``: it does not
                hold.
        """
        if signature.scheme is not self._scheme.alg or signature.hash_alg is not self._scheme.hash_alg:
            seen = Scheme(signature.scheme, signature.hash_alg)
            raise _failed(FindingId.QUOTE_ALGORITHM, f"a signature by {self._scheme}", str(seen))
        try:
            self._check(signature, message)
        except InvalidSignature as error:
            raise _failed(FindingId.QUOTE_SIGNATURE, "a signature by this key", "one that does not hold") from error

    def _accept(self, public: TpmPublic) -> Scheme:
        if isinstance(public, RsaPublic):
            schemes, seen = _RSA_SIGNING, f"RSA {public.key_bits} with exponent {public.exponent}"
            sound = public.key_bits >= MIN_RSA_BITS and public.public_exponent == DEFAULT_EXPONENT
        else:
            schemes, seen = _ECC_SIGNING, public.curve.name
            sound = public.curve in ACCEPTED_CURVES
        if not sound:
            raise _failed(FindingId.QUOTE_ALGORITHM, "RSA from 2048 bits with 65537, P-256, P-384 or P-521", seen)
        scheme = public.scheme
        if scheme is None or scheme.alg not in schemes:
            raise _failed(FindingId.QUOTE_ALGORITHM, "a key that declares a signing scheme", str(scheme))
        if scheme.hash_alg not in self.accepted_hashes:
            raise _failed(FindingId.QUOTE_ALGORITHM, "SHA-256 or better", str(scheme))
        return scheme


class InsecureSha1Verifier(SignatureVerifier):
    """Verifier that accepts SHA-1 as well. For forensics only: collisions forge SHA-1 signatures."""

    accepted_hashes = SignatureVerifier.accepted_hashes | {HashAlg.SHA1}


def decode_plain_signature(raw: bytes, scheme: Scheme, public: TpmPublic) -> TpmSignature:
    """Decode a signature that has no TPMT_SIGNATURE around it.

    Args:
        raw: RSA: as long as the modulus. ECDSA: DER (RFC 3279 §2.2.3), or r and s, each as long as a coordinate.
        scheme: scheme of the signature, as claimed.
        public: key of the supposed signer.

    Raises:
        MalformedInput: an ECDSA signature of neither form, or a scheme of another type of key.
    """
    if isinstance(public, RsaPublic) and scheme.alg in _RSA_SIGNING:
        return RsaSignature(scheme.alg, scheme.hash_alg, raw)
    if isinstance(public, RsaPublic) or scheme.alg not in _ECC_SIGNING:
        raise MalformedInput(f"signature: {scheme} is not a scheme of this type of key")
    size = public.curve.coordinate_size
    if len(raw) == 2 * size:
        return EccSignature(scheme.hash_alg, int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big"))
    try:
        return EccSignature(scheme.hash_alg, *decode_dss_signature(raw))
    except ValueError as error:
        raise MalformedInput(f"signature: neither DER nor {2 * size} bytes of r and s") from error


def _check_with(key: PublicKey, scheme: Scheme) -> Callable[[TpmSignature, bytes], None]:
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_check(key, scheme.alg, HASHES[scheme.hash_alg])
    return _ecdsa_check(key, scheme.hash_alg)


def _rsa_check(
    key: rsa.RSAPublicKey, scheme: Alg, hash_alg: hashes.HashAlgorithm
) -> Callable[[TpmSignature, bytes], None]:
    # Part 1, annex on RSA: the salt is as long as fits, or under FIPS 186 as long as the hash; hence AUTO
    pss = padding.PSS(padding.MGF1(hash_alg), padding.PSS.AUTO)
    form = padding.PKCS1v15() if scheme is Alg.RSASSA else pss

    def check(signature: TpmSignature, message: bytes) -> None:
        if isinstance(signature, EccSignature):
            raise InvalidSignature
        key.verify(signature.signature, message, form, hash_alg)

    return check


def _ecdsa_check(key: ec.EllipticCurvePublicKey, hash_alg: HashAlg) -> Callable[[TpmSignature, bytes], None]:
    # for a short message, hashlib is far faster than setting up a hash of cryptography
    ecdsa = ec.ECDSA(Prehashed(HASHES[hash_alg]))

    def check(signature: TpmSignature, message: bytes) -> None:
        if isinstance(signature, RsaSignature):
            raise InvalidSignature
        key.verify(encode_dss_signature(signature.r, signature.s), hash_alg.digest(message), ecdsa)

    return check


def _failed(finding: FindingId, expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=finding, expected=expected, seen=seen))
