"""Certificates made to order, oddities included: every field is bytes that a test may replace.

Written with a DER writer of its own, because libraries refuse to make what some vendors made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from math import gcd
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

AT: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
"""A time at which certificates from here are valid."""
NULL: Final = b"\x05\x00"
TRUE: Final = b"\x01\x01\xff"
EK_CERTIFICATE: Final = "2.23.133.8.1"


def tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one element."""
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def grow(raw: bytes, *path: int) -> bytes:
    """Return ``raw`` with a NULL put at the end of the element at ``path`` (indices of children), lengths adjusted."""
    tag, content = raw[0], _content(raw)
    if not path:
        return tlv(tag, content, NULL)
    unused_bits = content[:1] if tag == 3 else b""
    children = _children(content[len(unused_bits) :])
    children[path[0]] = grow(children[path[0]], *path[1:])
    return tlv(tag, unused_bits, *children)


def _children(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        size = _size(raw)
        found.append(raw[:size])
        raw = raw[size:]
    return found


def _content(raw: bytes) -> bytes:
    return raw[_header(raw) : _size(raw)]


def _header(raw: bytes) -> int:
    return 2 + (raw[1] & 0x7F if raw[1] & 0x80 else 0)


def _size(raw: bytes) -> int:
    header = _header(raw)
    return header + (raw[1] if header == 2 else int.from_bytes(raw[2:header], "big"))


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    return tlv(6, *(_arc(arc) for arc in (40 * first + second, *rest)))


def _arc(arc: int) -> bytes:
    out = [arc & 0x7F]
    while arc := arc >> 7:
        out.append(0x80 | arc & 0x7F)
    return bytes(reversed(out))


def name(text: str) -> bytes:
    """Encode a Name of one common name."""
    return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(0x0C, text.encode()))))


def extension(identifier: str, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(oid(identifier), TRUE if critical else b"", tlv(4, value))


def constraints(*, ca: bool, path_length: int | None = None) -> bytes:
    length = b"" if path_length is None else integer(path_length)
    return extension("2.5.29.19", sequence(TRUE if ca else b"", length), critical=True)


def usage(*bits: int) -> bytes:
    value = sum(0x80 >> bit for bit in bits)
    return extension("2.5.29.15", tlv(3, bytes([0, value])), critical=True)


def extended_usage(*identifiers: str) -> bytes:
    return extension("2.5.29.37", sequence(*map(oid, identifiers)))


def tpm_names(manufacturer: str = "id:4E534C00", model: str = "Test", version: str = "id:00010002") -> bytes:
    pairs = (("2.23.133.2.1", manufacturer), ("2.23.133.2.2", model), ("2.23.133.2.3", version))
    rdns = (tlv(0x31, sequence(oid(kind), tlv(0x0C, text.encode()))) for kind, text in pairs)
    return extension("2.5.29.17", sequence(tlv(0xA4, sequence(*rdns))), critical=True)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """How a certificate is signed: its AlgorithmIdentifier and how to make the signature."""

    identifier: bytes
    hash_alg: hashes.HashAlgorithm
    pss_salt: int | None = None

    def sign(self, key: PrivateKey, message: bytes) -> bytes:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(message, ec.ECDSA(self.hash_alg))
        if self.pss_salt is not None:
            return key.sign(message, padding.PSS(padding.MGF1(self.hash_alg), self.pss_salt), self.hash_alg)
        return key.sign(message, padding.PKCS1v15(), self.hash_alg)


def rsa_algorithm(number: int, hash_alg: hashes.HashAlgorithm) -> Algorithm:
    return Algorithm(sequence(oid(f"1.2.840.113549.1.1.{number}"), NULL), hash_alg)


def pss_algorithm(hash_oid: str, hash_alg: hashes.HashAlgorithm, salt: int) -> Algorithm:
    hashed = sequence(oid(hash_oid), NULL)
    mask = sequence(oid("1.2.840.113549.1.1.8"), hashed)
    parameters = sequence(tlv(0xA0, hashed), tlv(0xA1, mask), tlv(0xA2, integer(salt)))
    return Algorithm(sequence(oid("1.2.840.113549.1.1.10"), parameters), hash_alg, salt)


RSA_SHA256: Final = rsa_algorithm(11, hashes.SHA256())
RSA_SHA1: Final = rsa_algorithm(5, hashes.SHA1())  # noqa: S303 - to see it refused
ECDSA_SHA256: Final = Algorithm(sequence(oid("1.2.840.10045.4.3.2")), hashes.SHA256())
ECDSA_SHA384: Final = Algorithm(sequence(oid("1.2.840.10045.4.3.3")), hashes.SHA384())


@cache
def ec_key(label: str, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Return the EC key of that label, made once."""
    del label
    return ec.generate_private_key(curve or ec.SECP256R1())


@cache
def rsa_key(label: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the RSA key of that label, made once."""
    del label
    return rsa.generate_private_key(65537, bits)


@cache
def key_with_exponent(exponent: int, bits: int = 3072) -> rsa.RSAPrivateKey:
    """Return an RSA key with that public exponent, made once; libraries make none with a long one."""
    while True:
        numbers = rsa.generate_private_key(65537, bits).private_numbers()
        p, q = numbers.p, numbers.q
        if gcd(exponent, (p - 1) * (q - 1)) == 1:
            break
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    private = rsa.RSAPrivateNumbers(p, q, d, *crt, public)
    return private.private_key(unsafe_skip_rsa_key_validation=True)


def key_info(key: PrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The fields of a certificate, in DER where they have a structure."""

    subject: bytes
    issuer: bytes
    key: bytes
    algorithm: Algorithm
    extensions: tuple[bytes, ...]
    not_before: str = "20250101000000Z"
    not_after: str = "20350101000000Z"
    serial: bytes = field(default=integer(7))
    version: bytes = field(default=tlv(0xA0, integer(2)))
    algorithm_inside: bytes | None = None
    after: bytes = b""
    """Bytes after the extensions."""

    def signed_part(self) -> bytes:
        return sequence(
            self.version,
            self.serial,
            self.algorithm_inside or self.algorithm.identifier,
            self.issuer,
            sequence(tlv(0x18, self.not_before.encode()), tlv(0x18, self.not_after.encode())),
            self.subject,
            self.key,
            tlv(0xA3, sequence(*self.extensions)) if self.extensions else b"",
            self.after,
        )

    def sign(self, key: PrivateKey) -> bytes:
        """Return the certificate."""
        signed = self.signed_part()
        return sequence(signed, self.algorithm.identifier, tlv(3, b"\0", self.algorithm.sign(key, signed)))


ROOT: Final = Facts(
    subject=name("Root"),
    issuer=name("Root"),
    key=key_info(ec_key("root")),
    algorithm=ECDSA_SHA256,
    extensions=(constraints(ca=True), usage(5, 6)),
)
INTERMEDIATE: Final = replace(
    ROOT,
    subject=name("Intermediate"),
    key=key_info(ec_key("intermediate")),
    extensions=(constraints(ca=True, path_length=0), usage(5, 6), extended_usage(EK_CERTIFICATE)),
)
EK: Final = replace(
    INTERMEDIATE,
    subject=sequence(),
    issuer=name("Intermediate"),
    key=key_info(ec_key("ek")),
    extensions=(constraints(ca=False), usage(4), extended_usage(EK_CERTIFICATE), tpm_names()),
)
RSA_EK: Final = replace(
    EK,
    key=key_info(rsa_key("ek")),
    extensions=(constraints(ca=False), usage(2), extended_usage(EK_CERTIFICATE), tpm_names()),
)


def root(facts: Facts = ROOT) -> bytes:
    return facts.sign(ec_key("root"))


def intermediate(facts: Facts = INTERMEDIATE) -> bytes:
    return facts.sign(ec_key("root"))


def ek_certificate(facts: Facts = EK) -> bytes:
    return facts.sign(ec_key("intermediate"))
