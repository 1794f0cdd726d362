"""SSH public keys by which people sign (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4, OpenSSH's PROTOCOL.u2f).

Accepted are Ed25519, ECDSA on P-256, P-384 and P-521, RSA from 3072 bits with exponent 65537, and the two kinds of keys
in FIDO2 tokens. Certificates, DSA, shorter RSA keys and everything else are refused by name.

A key is the bytes of its blob. Comment and options of a line are no part of it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from nodeseal.crypto.algorithms import MAX_RSA_BITS
from nodeseal.errors import MalformedInput
from nodeseal.tpm.buffer import Reader

MIN_SSH_RSA_BITS: Final = 3072
MAX_KEY_LINE: Final = 8192
"""Bytes of a line with a public key."""
_MAX_BLOB: Final = 4096
_MAX_APPLICATION: Final = 256
_EXPONENT: Final = 65537
_ED25519_SIZE: Final = 32
_CERTIFICATE: Final = re.compile(r"-cert(-v\d+)?@openssh\.com$")
_LATER: Final = "ssh-mldsa44-ed25519@openssh.com"
_ACCEPTED: Final = "give an Ed25519, ECDSA, RSA (3072 bits or more) or FIDO2 key: ssh-keygen -t ed25519, or ed25519-sk"

SshVerifier = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class SshKeyKind(Enum):
    """Accepted kinds of keys, by OpenSSH's names."""

    ED25519 = "ssh-ed25519"
    P256 = "ecdsa-sha2-nistp256"
    P384 = "ecdsa-sha2-nistp384"
    P521 = "ecdsa-sha2-nistp521"
    RSA = "ssh-rsa"
    SK_ED25519 = "sk-ssh-ed25519@openssh.com"
    SK_P256 = "sk-ecdsa-sha2-nistp256@openssh.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshPublicKey:
    """A public key of an accepted kind. Only this module's parsers build it.

    Attributes:
        kind: its kind.
        blob: the key as SSH encodes it; two keys are the same if their blobs are.
        application: of a key in a FIDO2 token, what the token was told it is for; otherwise an empty text.
    """

    kind: SshKeyKind
    blob: bytes
    application: str = ""

    @property
    def fingerprint(self) -> str:
        """``SHA256:`` and the digest of the blob, as ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def in_token(self) -> bool:
        """Whether a FIDO2 token holds the private half, so that signatures tell who touched it."""
        return self.kind in {SshKeyKind.SK_ED25519, SshKeyKind.SK_P256}

    @property
    def line(self) -> str:
        """The key in the form of a ``.pub`` file, without a comment."""
        return f"{self.kind.value} {base64.b64encode(self.blob).decode()}"

    def verifier(self) -> SshVerifier:
        """Return the key as an object of ``cryptography``."""
        return _decoded(self.blob)[1]


def parse_ssh_key(line: str) -> SshPublicKey:
    """Return the key of a ``.pub`` file, or of a line of ``authorized_keys`` without options.

    Raises:
        MalformedInput: not one such line, or a key that is not accepted.
    """
    if len(line) > MAX_KEY_LINE:
        raise MalformedInput(f"SSH key: {len(line)} characters, at most {MAX_KEY_LINE}")
    words = line.removesuffix("\n").split(" ", 2)
    if len(words) < 2 or not line.removesuffix("\n").isprintable():  # noqa: PLR2004  # kind and blob
        raise MalformedInput("SSH key: not one line KIND BASE64 [COMMENT]", remedy="give the content of a .pub file")
    kind, text = words[:2]
    _require_accepted(kind)
    key = decode_ssh_key(_canonical_base64(text))
    if key.kind.value != kind:
        raise MalformedInput(f"SSH key: the line says {kind}, the key is {key.kind.value}")
    return key


def decode_ssh_key(blob: bytes) -> SshPublicKey:
    """Decode the blob of a public key.

    Raises:
        MalformedInput: it does not parse, or the key is not accepted.
    """
    if len(blob) > _MAX_BLOB:
        raise MalformedInput(f"SSH key: {len(blob)} bytes, at most {_MAX_BLOB}")
    kind, _, application = _decoded(blob)
    return SshPublicKey(kind=kind, blob=blob, application=application)


def read_string(reader: Reader, field: str, maximum: int) -> bytes:
    """Read a string of SSH (RFC 4251 §5): a UINT32 size, at most ``maximum``, and that many bytes.

    Raises:
        MalformedInput: it is longer, or cut off.
    """
    size = reader.u32(field)
    if size > maximum:
        raise reader.fault(field, f"declares {size} bytes, at most {maximum}")
    return reader.take(size, field)


def read_mpint(reader: Reader, field: str, maximum: int) -> int:
    """Read a positive mpint (RFC 4251 §5) in its shortest form.

    Raises:
        MalformedInput: negative, zero, padded, too long, or cut off.
    """
    raw = read_string(reader, field, maximum)
    value = int.from_bytes(raw, "big")
    if value == 0 or raw != value.to_bytes(value.bit_length() // 8 + 1, "big"):
        raise reader.fault(field, "is not a positive integer in its shortest form")
    return value


def _require_accepted(kind: str) -> SshKeyKind:
    if _CERTIFICATE.search(kind):
        raise MalformedInput(f"SSH key: {kind[:80]!a} is a certificate", remedy="give the key itself")
    if kind == _LATER:
        raise MalformedInput(f"SSH key: {kind} is not supported yet", remedy=_ACCEPTED)
    try:
        return SshKeyKind(kind)
    except ValueError as error:
        raise MalformedInput(f"SSH key: {kind[:80]!a} is not an accepted kind of key", remedy=_ACCEPTED) from error


def _canonical_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedInput("SSH key: not Base64") from error
    if base64.b64encode(raw).decode() != text:
        raise MalformedInput("SSH key: not the one Base64 spelling of its bytes")
    return raw


def _decoded(blob: bytes) -> tuple[SshKeyKind, SshVerifier, str]:
    reader = Reader(blob, "SSH key")
    kind = _require_accepted(read_string(reader, "kind", 64).decode("ascii", "replace"))
    try:
        key = _READERS[kind](reader)
    except ValueError as error:
        raise MalformedInput(f"SSH key: {kind.value}: {error}") from error
    application = ""
    if kind in {SshKeyKind.SK_ED25519, SshKeyKind.SK_P256}:
        application = _application(reader)
    reader.end()
    return kind, key, application


def _application(reader: Reader) -> str:
    raw = read_string(reader, "application", _MAX_APPLICATION)
    text = raw.decode("ascii", "replace")
    if not text or not (text.isascii() and text.isprintable()):
        raise reader.fault("application", "is empty, or not printable ASCII")
    return text


def _read_ed25519(reader: Reader) -> SshVerifier:
    raw = read_string(reader, "public key", _ED25519_SIZE)
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _read_ecdsa(name: str, curve: ec.EllipticCurve) -> Callable[[Reader], SshVerifier]:
    size = 1 + 2 * ((curve.key_size + 7) // 8)

    def read(reader: Reader) -> SshVerifier:
        if read_string(reader, "curve", 16) != name.encode():
            raise reader.fault("curve", f"is not {name}")
        point = read_string(reader, "point", size)
        if len(point) != size:
            raise reader.fault("point", "is not uncompressed")
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)

    return read


def _read_rsa(reader: Reader) -> SshVerifier:
    exponent = read_mpint(reader, "exponent", 8)
    modulus = read_mpint(reader, "modulus", MAX_RSA_BITS // 8 + 1)
    bits = modulus.bit_length()
    if not MIN_SSH_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise reader.fault("modulus", f"has {bits} bits, accepted are {MIN_SSH_RSA_BITS} to {MAX_RSA_BITS}")
    if exponent != _EXPONENT:
        raise reader.fault("exponent", f"is not {_EXPONENT}")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


_READERS: Final[Mapping[SshKeyKind, Callable[[Reader], SshVerifier]]] = {
    SshKeyKind.ED25519: _read_ed25519,
    SshKeyKind.SK_ED25519: _read_ed25519,
    SshKeyKind.P256: _read_ecdsa("nistp256", ec.SECP256R1()),
    SshKeyKind.SK_P256: _read_ecdsa("nistp256", ec.SECP256R1()),
    SshKeyKind.P384: _read_ecdsa("nistp384", ec.SECP384R1()),
    SshKeyKind.P521: _read_ecdsa("nistp521", ec.SECP521R1()),
    SshKeyKind.RSA: _read_rsa,
}
