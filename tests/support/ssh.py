"""SSH keys and signatures for tests: made here, by ``ssh-keygen``, or by a FIDO2 token in software.

Nothing of nodeseal's verifier is used: what is encoded here is encoded a second time.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

UP, UV = 0x01, 0x04
SK_ED25519, SK_P256 = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"


def string(content: bytes | str) -> bytes:
    """Return a string of RFC 4251 §5."""
    raw = content.encode() if isinstance(content, str) else content
    return len(raw).to_bytes(4, "big") + raw


def mpint(value: int) -> bytes:
    """Return a positive mpint."""
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def signed_part(message: bytes, namespace: str, *, reserved: bytes = b"", hash_name: str = "sha512") -> bytes:
    """Return the bytes that a key signs (PROTOCOL.sshsig §3)."""
    digest = hashlib.new(hash_name, message).digest()
    return b"SSHSIG" + string(namespace) + string(reserved) + string(hash_name) + string(digest)


def signature_blob(
    key: bytes, signature: bytes, namespace: str, *, reserved: bytes = b"", hash_name: str = "sha512"
) -> bytes:
    """Return a signature without armour (PROTOCOL.sshsig §2)."""
    parts = string(key) + string(namespace) + string(reserved) + string(hash_name) + string(signature)
    return b"SSHSIG\0\0\0\1" + parts


def armoured(blob: bytes, width: int = 70) -> bytes:
    """Return a signature in its armour."""
    text = base64.b64encode(blob)
    lines = b"\n".join(text[at : at + width] for at in range(0, len(text), width))
    return b"-----BEGIN SSH SIGNATURE-----\n" + lines + b"\n-----END SSH SIGNATURE-----\n"


def unarmoured(armour: bytes) -> bytes:
    """Return a signature without its armour."""
    return base64.b64decode(b"".join(armour.splitlines()[1:-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key that signs with any namespace, hash and reserved field.

    Attributes:
        blob: its public half.
        sign: returns the inner signature over bytes.
    """

    blob: bytes
    sign: Callable[[bytes], bytes]

    @property
    def line(self) -> str:
        """The public key as a ``.pub`` file has it."""
        kind = self.blob[4 : 4 + int.from_bytes(self.blob[:4], "big")].decode()
        return f"{kind} {base64.b64encode(self.blob).decode()} test"

    def signature(self, message: bytes, namespace: str, *, reserved: bytes = b"", hash_name: str = "sha512") -> bytes:
        """Return an armoured signature."""
        signed = signed_part(message, namespace, reserved=reserved, hash_name=hash_name)
        blob = signature_blob(self.blob, self.sign(signed), namespace, reserved=reserved, hash_name=hash_name)
        return armoured(blob)


def ed25519_signer() -> Signer:
    """Return an Ed25519 key."""
    private = ed25519.Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = string("ssh-ed25519") + string(raw)
    return Signer(blob=blob, sign=lambda signed: string("ssh-ed25519") + string(private.sign(signed)))


def token(kind: str = SK_ED25519, *, flags: int = UP, application: str = "ssh:", counter: int = 7) -> Signer:
    """Return a FIDO2 token in software (PROTOCOL.u2f); ``flags`` say whether it was touched and knew its user."""
    trailer = bytes([flags]) + counter.to_bytes(4, "big")

    def head() -> bytes:
        return hashlib.sha256(application.encode()).digest() + trailer

    if kind == SK_ED25519:
        edwards = ed25519.Ed25519PrivateKey.generate()
        raw = edwards.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Signer(
            blob=string(kind) + string(raw) + string(application),
            sign=lambda signed: string(kind) + string(edwards.sign(head() + hashlib.sha256(signed).digest())) + trailer,
        )
    nist = ec.generate_private_key(ec.SECP256R1())
    point = nist.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(signed: bytes) -> bytes:
        der = nist.sign(head() + hashlib.sha256(signed).digest(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        return string(kind) + string(mpint(r) + mpint(s)) + trailer

    return Signer(blob=string(kind) + string("nistp256") + string(point) + string(application), sign=sign)


def keygen(folder: Path, *options: str) -> Path:
    """Have ``ssh-keygen`` make a key without a passphrase; return the path of its private half."""
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "test", "-f", path, *options], check=True)
    return path


def keygen_sign(key: Path, message: bytes, namespace: str, *options: str) -> bytes:
    """Have ``ssh-keygen -Y sign`` sign a message; return the armoured signature."""
    command: list[str | Path] = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", key, *options]
    return subprocess.run(command, input=message, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def keygen_accepts(folder: Path, line: str, armour: bytes, message: bytes, namespace: str) -> bool:
    """Tell whether ``ssh-keygen -Y verify`` says "Good"."""
    signers, signature = folder / "signers", folder / "signature"
    signers.write_text(f"somebody {line}\n")
    signature.write_bytes(armour)
    command: list[str | Path] = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-n",
        namespace,
        "-f",
        signers,
        "-I",
        "somebody",
        "-s",
        signature,
    ]
    done = subprocess.run(command, input=message, capture_output=True, check=False)
    return done.returncode == 0 and done.stdout.startswith(b"Good ")
