"""Signatures of people: ``ssh-keygen -Y sign`` and SSH agents (OpenSSH's PROTOCOL.sshsig and PROTOCOL.u2f).

Stricter than ``ssh-keygen -Y verify``, which says "Good" to a FIDO2 signature that nobody touched. Here user presence
must be proved, user verification where the caller demands it, the reserved field must be empty, and a signature has one
spelling: nothing stands around the armour, and its Base64 is canonical. Hashes are SHA-256 and SHA-512, RSA signatures
``rsa-sha2-256`` and ``rsa-sha2-512``. Who the key belongs to is the caller's question.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from hashlib import sha256, sha512
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from nodeseal.crypto.ssh_key import SshKeyKind, SshPublicKey, decode_ssh_key, read_mpint, read_string
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.buffer import Reader

MAX_SIGNATURE: Final = 16 * 1024
"""Bytes of a signature with its armour."""
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"\n-----END SSH SIGNATURE-----\n"
_LONGEST_LINE: Final = 76
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASHES: Final = {b"sha256": sha256, b"sha512": sha512}
_WEBAUTHN: Final = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
_RSA_HASHES: Final[Mapping[bytes, hashes.HashAlgorithm]] = {
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
}
_CURVE_HASHES: Final[Mapping[SshKeyKind, hashes.HashAlgorithm]] = {
    SshKeyKind.P256: hashes.SHA256(),
    SshKeyKind.SK_P256: hashes.SHA256(),
    SshKeyKind.P384: hashes.SHA384(),
    SshKeyKind.P521: hashes.SHA512(),
}
_MAX_SCALAR: Final = 67
"""Bytes of a coordinate of P-521 with a sign."""


class _TokenFlags(IntFlag):
    """Flags of an authenticator (WebAuthn §6.1)."""

    UP = 0x01
    UV = 0x04
    AT = 0x40
    ED = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class SshProof:
    """What a signature proved. Only :func:`verify_ssh_signature` builds it.

    Attributes:
        key: the key that signed.
        user_present: somebody touched the token: true of every FIDO2 key, false of other keys, which cannot say.
        user_verified: the token knew who: PIN, finger or face.
        counter: the token's counter of signatures; many report 0. None for keys that are in no token.
    """

    key: SshPublicKey
    user_present: bool
    user_verified: bool
    counter: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed:
    """A parsed signature, of which nothing is proved."""

    key: SshPublicKey
    namespace: bytes
    hash_name: bytes
    algorithm: bytes
    rest: bytes


def verify_ssh_signature(
    armour: bytes, message: bytes, namespace: str, *, require_user_verified: bool = False
) -> SshProof:
    """Verify an armoured signature over ``message``, and return what it proves.

    Args:
        armour: the text that ``ssh-keygen -Y sign`` writes.
        message: what was signed.
        namespace: what the signature must be for; one for another purpose does not count.
        require_user_verified: demand that the token knew its user; only FIDO2 keys can prove that.

    Raises:
        MalformedInput: it does not parse, or its key is not accepted; the message names the field.
        ProofFailed: ``ssh.namespace``, ``ssh.algorithm``, ``ssh.signature``, ``ssh.user-presence`` or
            ``ssh.user-verification``.
    """
    claimed = _decoded(_unarmoured(armour))
    if claimed.namespace != namespace.encode():
        seen = claimed.namespace.decode("utf-8", "backslashreplace")
        raise _failed(FindingId.SSH_NAMESPACE, f"a signature for {namespace}", f"one for {seen[:80]!a}")
    hash_function = _HASHES.get(claimed.hash_name)
    if hash_function is None:
        raise _failed(FindingId.SSH_ALGORITHM, "a message hashed with sha256 or sha512", repr(claimed.hash_name))
    signed = _MAGIC + b"".join(
        map(_string, (claimed.namespace, b"", claimed.hash_name, hash_function(message).digest()))
    )
    proof = _proved_by_token(claimed, signed) if claimed.key.in_token else _proved_by_key(claimed, signed)
    if require_user_verified and not proof.user_verified:
        seen = "a touch alone" if claimed.key.in_token else "a key that is in no FIDO2 token"
        raise _failed(FindingId.SSH_USER_VERIFICATION, "a FIDO2 token that knew its user (PIN or finger)", seen)
    return proof


def _unarmoured(armour: bytes) -> bytes:
    if len(armour) > MAX_SIGNATURE:
        raise MalformedInput(f"SSH signature: {len(armour)} bytes, at most {MAX_SIGNATURE}")
    if not armour.startswith(_BEGIN) or not armour.endswith(_END):
        remedy = "give the file that ssh-keygen -Y sign wrote, whole and with nothing around it"
        raise MalformedInput("SSH signature: does not consist of one armoured signature", remedy=remedy)
    lines = armour[len(_BEGIN) : -len(_END)].split(b"\n")
    text = b"".join(lines)
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise MalformedInput("SSH signature: the armour does not hold Base64") from error
    width = len(lines[0])
    whole = all(len(line) == width for line in lines[:-1]) and 0 < len(lines[-1]) <= width <= _LONGEST_LINE
    if base64.b64encode(raw) != text or not whole:
        raise MalformedInput("SSH signature: not the one spelling of its bytes in lines of one length")
    return raw


def _decoded(raw: bytes) -> _Claimed:
    reader = Reader(raw, "SSH signature")
    if reader.take(len(_MAGIC), "magic") != _MAGIC:
        raise reader.fault("magic", "is not SSHSIG")
    if (version := reader.u32("version")) != _VERSION:
        raise reader.fault("version", f"is {version}, not {_VERSION}")
    key = decode_ssh_key(read_string(reader, "publickey", MAX_SIGNATURE))
    namespace = read_string(reader, "namespace", 256)
    if read_string(reader, "reserved", MAX_SIGNATURE):
        raise reader.fault("reserved", "is not empty")
    hash_name = read_string(reader, "hash_algorithm", 64)
    inner = Reader(read_string(reader, "signature", MAX_SIGNATURE), "SSH signature: signature")
    reader.end()
    algorithm = read_string(inner, "algorithm", 64)
    return _Claimed(key=key, namespace=namespace, hash_name=hash_name, algorithm=algorithm, rest=inner.rest())


def _proved_by_key(claimed: _Claimed, signed: bytes) -> SshProof:
    reader = Reader(claimed.rest, "SSH signature: signature")
    blob = read_string(reader, "blob", MAX_SIGNATURE)
    reader.end()
    if claimed.key.kind is SshKeyKind.RSA:
        _require_algorithm(claimed, *_RSA_HASHES)
    else:
        _require_algorithm(claimed, claimed.key.kind.value.encode())
    _check(claimed, blob, signed)
    return SshProof(key=claimed.key, user_present=False, user_verified=False, counter=None)


def _proved_by_token(claimed: _Claimed, signed: bytes) -> SshProof:
    """Verify what a FIDO2 token signed: application, flags, counter, and the message's digest."""
    webauthn = claimed.algorithm == _WEBAUTHN and claimed.key.kind is SshKeyKind.SK_P256
    if not webauthn:
        _require_algorithm(claimed, claimed.key.kind.value.encode())
    reader = Reader(claimed.rest, "SSH signature: signature")
    blob = read_string(reader, "blob", 256)
    flags, counter = _TokenFlags(reader.u8("flags")), reader.u32("counter")
    extensions, client_data = _web_parts(reader, signed) if webauthn else (b"", signed)
    reader.end()
    if flags & _TokenFlags.AT or bool(flags & _TokenFlags.ED) != bool(extensions):
        raise reader.fault("flags", "announce data that is not there")
    head = sha256(claimed.key.application.encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")
    _check(claimed, blob, head + extensions + sha256(client_data).digest())
    if not flags & _TokenFlags.UP:
        raise _failed(FindingId.SSH_USER_PRESENCE, "a touch of the FIDO2 token", f"flags 0x{flags:02x}")
    return SshProof(key=claimed.key, user_present=True, user_verified=bool(flags & _TokenFlags.UV), counter=counter)


def _web_parts(reader: Reader, signed: bytes) -> tuple[bytes, bytes]:
    """Return extensions and client data of a browser's signature; its challenge is what was signed.

    The browser writes the client data's first members in this order (WebAuthn §5.8.1.1); later ones do not matter.
    """
    origin = read_string(reader, "origin", 1024)
    client_data = read_string(reader, "clientData", MAX_SIGNATURE)
    extensions = read_string(reader, "extensions", MAX_SIGNATURE)
    challenge = base64.urlsafe_b64encode(signed).rstrip(b"=")
    start = b'{"type":"webauthn.get","challenge":"' + challenge + b'","origin":"' + origin + b'"'
    if any(byte in b'"\\' or not 0x20 < byte < 0x7F for byte in origin):  # noqa: PLR2004  # printable ASCII
        raise reader.fault("origin", "is no origin")
    if not client_data.startswith(start):
        raise _failed(FindingId.SSH_SIGNATURE, "client data about this message", "another challenge or origin")
    return extensions, client_data


def _require_algorithm(claimed: _Claimed, *accepted: bytes) -> None:
    if claimed.algorithm not in accepted:
        expected = " or ".join(name.decode() for name in accepted)
        raise _failed(FindingId.SSH_ALGORITHM, f"a signature by {expected}", f"{claimed.algorithm!r}")


def _check(claimed: _Claimed, blob: bytes, signed: bytes) -> None:
    key = claimed.key.verifier()
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(blob, signed)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(blob, signed, padding.PKCS1v15(), _RSA_HASHES[claimed.algorithm])
        else:
            key.verify(_dss(blob), signed, ec.ECDSA(_CURVE_HASHES[claimed.key.kind]))
    except InvalidSignature as error:
        seen = "one that does not hold"
        raise _failed(FindingId.SSH_SIGNATURE, f"a signature by {claimed.key.fingerprint}", seen) from error


def _dss(blob: bytes) -> bytes:
    reader = Reader(blob, "SSH signature: ECDSA")
    r, s = read_mpint(reader, "r", _MAX_SCALAR), read_mpint(reader, "s", _MAX_SCALAR)
    reader.end()
    return encode_dss_signature(r, s)


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _failed(finding: FindingId, expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=finding, expected=expected, seen=seen))
