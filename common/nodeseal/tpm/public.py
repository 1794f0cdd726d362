"""Public areas of TPM keys and their names (TPMT_PUBLIC, TPM Library Part 2; names: Part 1, "Names").

Only asymmetric keys are decoded. ``None`` stands for TPM_ALG_NULL. Coordinates and moduli keep the TPM's spelling,
because a name is a hash over exactly those bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from nodeseal.tpm.algorithms import (
    ATTRIBUTE_BITS,
    Alg,
    CurveId,
    HashAlg,
    ObjectAttributes,
    decode_alg,
    decode_curve,
    decode_hash,
)
from nodeseal.tpm.buffer import MAX_DIGEST, Reader, sized, u16, u32

RSA_KEY_BITS = (1024, 2048, 3072, 4096)
DEFAULT_EXPONENT = 65537
"""Public exponent of an RSA key whose public area says 0 (TPMS_RSA_PARMS)."""
_AES_KEY_BITS = (128, 192, 256)
_NULL = u16(Alg.NULL)
_RSA_SCHEMES = (Alg.RSASSA, Alg.RSAPSS, Alg.OAEP)
_ECC_SCHEMES = (Alg.ECDSA, Alg.ECDH)


@dataclass(frozen=True, slots=True)
class Symmetric:
    """TPMT_SYM_DEF_OBJECT: AES in CFB mode. No other cipher of a storage key is accepted."""

    key_bits: int

    def encode(self) -> bytes:
        """Return the bytes of a TPMT_SYM_DEF_OBJECT."""
        return u16(Alg.AES) + u16(self.key_bits) + u16(Alg.CFB)


@dataclass(frozen=True, slots=True)
class Scheme:
    """TPMT_RSA_SCHEME or TPMT_ECC_SCHEME: how a key signs or decrypts."""

    alg: Alg
    hash_alg: HashAlg

    def encode(self) -> bytes:
        """Return the bytes of the scheme."""
        return u16(self.alg) + u16(self.hash_alg)

    def __str__(self) -> str:
        return f"{self.alg.name.lower()}-{self.hash_alg.hashlib_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Public(ABC):
    """Public area: the fields that all keys have.

    Attributes:
        name_alg: hash of the name and of the policy.
        attributes: permitted uses of the key.
        auth_policy: digest of the policy that authorises use; empty: none.
        symmetric: cipher that protects children of a storage key.
        scheme: fixed scheme of the key; None: the caller chooses.
    """

    name_alg: HashAlg
    attributes: ObjectAttributes
    auth_policy: bytes
    symmetric: Symmetric | None
    scheme: Scheme | None

    def encode(self) -> bytes:
        """Return the TPMT_PUBLIC."""
        return b"".join(
            (
                u16(self._type),
                u16(self.name_alg),
                u32(self.attributes),
                sized(self.auth_policy),
                self.symmetric.encode() if self.symmetric else _NULL,
                self.scheme.encode() if self.scheme else _NULL,
                self._rest(),
            )
        )

    def name(self) -> bytes:
        """Return the key's name: nameAlg and the hash over the TPMT_PUBLIC (Part 1, "Names")."""
        return u16(self.name_alg) + self.name_alg.digest(self.encode())

    @property
    @abstractmethod
    def _type(self) -> Alg:
        """TPMI_ALG_PUBLIC of the object."""

    @abstractmethod
    def _rest(self) -> bytes:
        """Return the bytes behind the scheme: the type's own parameters, and unique."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RsaPublic(_Public):
    """An RSA key (TPMS_RSA_PARMS).

    Attributes:
        key_bits: size of the modulus.
        exponent: public exponent as written; 0 means 65537.
        modulus: modulus, big-endian; in a template empty, or input of the key's derivation.
    """

    key_bits: int
    exponent: int
    modulus: bytes

    @property
    def public_exponent(self) -> int:
        """Public exponent of the key."""
        return self.exponent or DEFAULT_EXPONENT

    @property
    def _type(self) -> Alg:
        return Alg.RSA

    def _rest(self) -> bytes:
        return u16(self.key_bits) + u32(self.exponent) + sized(self.modulus)


@dataclass(frozen=True, slots=True, kw_only=True)
class EccPublic(_Public):
    """A key on a NIST curve (TPMS_ECC_PARMS), without key derivation scheme.

    Attributes:
        curve: the curve.
        x: coordinate, big-endian.
        y: coordinate, big-endian.
    """

    curve: CurveId
    x: bytes
    y: bytes

    @property
    def _type(self) -> Alg:
        return Alg.ECC

    def _rest(self) -> bytes:
        return u16(self.curve) + _NULL + sized(self.x) + sized(self.y)


TpmPublic = RsaPublic | EccPublic


def decode_public(raw: bytes) -> TpmPublic:
    """Decode a TPMT_PUBLIC.

    Raises:
        MalformedInput: cut off, trailing bytes, reserved attributes set, or an algorithm, size or curve that is
            not accepted.
    """
    reader = Reader(raw, "TPMT_PUBLIC")
    kind = decode_alg(reader, "type")
    if kind not in (Alg.RSA, Alg.ECC):
        raise reader.fault("type", f"is {kind.name}, neither RSA nor ECC")
    decode = _decode_rsa if kind is Alg.RSA else _decode_ecc
    public = decode(reader)
    reader.end()
    return public


def decode_public_2b(raw: bytes) -> TpmPublic:
    """Decode a TPM2B_PUBLIC: a size and a TPMT_PUBLIC.

    Raises:
        MalformedInput: the size is wrong, or the TPMT_PUBLIC does not decode.
    """
    reader = Reader(raw, "TPM2B_PUBLIC")
    area = reader.sized("publicArea", len(raw))
    reader.end()
    return decode_public(area)


def encode_public_2b(public: TpmPublic) -> bytes:
    """Return the TPM2B_PUBLIC."""
    return sized(public.encode())


def _decode_rsa(reader: Reader) -> RsaPublic:
    name_alg, attributes, auth_policy = _decode_head(reader)
    symmetric, scheme = _decode_symmetric(reader), _decode_scheme(reader, _RSA_SCHEMES)
    key_bits = reader.u16("keyBits")
    if key_bits not in RSA_KEY_BITS:
        raise reader.fault("keyBits", f"is {key_bits}, none of {RSA_KEY_BITS}")
    return RsaPublic(
        name_alg=name_alg,
        attributes=attributes,
        auth_policy=auth_policy,
        symmetric=symmetric,
        scheme=scheme,
        key_bits=key_bits,
        exponent=reader.u32("exponent"),
        modulus=reader.sized("unique.rsa", key_bits // 8),
    )


def _decode_ecc(reader: Reader) -> EccPublic:
    name_alg, attributes, auth_policy = _decode_head(reader)
    symmetric, scheme = _decode_symmetric(reader), _decode_scheme(reader, _ECC_SCHEMES)
    curve = decode_curve(reader, "curveID")
    if (kdf := decode_alg(reader, "kdf")) is not Alg.NULL:
        raise reader.fault("kdf", f"is {kdf.name}, not NULL")
    return EccPublic(
        name_alg=name_alg,
        attributes=attributes,
        auth_policy=auth_policy,
        symmetric=symmetric,
        scheme=scheme,
        curve=curve,
        x=reader.sized("unique.ecc.x", curve.coordinate_size),
        y=reader.sized("unique.ecc.y", curve.coordinate_size),
    )


def _decode_head(reader: Reader) -> tuple[HashAlg, ObjectAttributes, bytes]:
    name_alg = decode_hash(reader, "nameAlg")
    attributes = reader.u32("objectAttributes")
    if attributes & ~ATTRIBUTE_BITS:
        raise reader.fault("objectAttributes", f"is 0x{attributes:08x}, with reserved bits")
    policy = reader.sized("authPolicy", MAX_DIGEST)
    if len(policy) not in (0, name_alg.digest_size):
        raise reader.fault("authPolicy", f"has {len(policy)} bytes, not those of a {name_alg.hashlib_name} digest")
    return name_alg, ObjectAttributes(attributes), policy


def _decode_symmetric(reader: Reader) -> Symmetric | None:
    alg = decode_alg(reader, "symmetric")
    if alg is Alg.NULL:
        return None
    if alg is not Alg.AES:
        raise reader.fault("symmetric", f"is {alg.name}, neither AES nor NULL")
    key_bits = reader.u16("symmetric.keyBits")
    if key_bits not in _AES_KEY_BITS:
        raise reader.fault("symmetric.keyBits", f"is {key_bits}, none of {_AES_KEY_BITS}")
    if (mode := decode_alg(reader, "symmetric.mode")) is not Alg.CFB:
        raise reader.fault("symmetric.mode", f"is {mode.name}, not CFB")
    return Symmetric(key_bits)


def _decode_scheme(reader: Reader, accepted: tuple[Alg, ...]) -> Scheme | None:
    alg = decode_alg(reader, "scheme")
    if alg is Alg.NULL:
        return None
    if alg not in accepted:
        raise reader.fault("scheme", f"is {alg.name}, none of {', '.join(each.name for each in accepted)} and NULL")
    return Scheme(alg, decode_hash(reader, "scheme.hashAlg"))
