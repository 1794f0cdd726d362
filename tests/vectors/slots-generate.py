"""Write ``slots.json``: slots of both suites, and for each whether it opens; for P-384 with every step in between.

Run ``python tests/vectors/slots-generate.py`` for other vectors: keys are random, so every run gives other bytes, and
the file stays as it is. It is made with the library's HPKE and RFC 9180 spelled out with hmac; nothing of nodeseal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

DIGEST, KEY_ID = hashlib.sha256(b"a model").digest(), "llama"
P384 = "DHKEM(P-384, HKDF-SHA384) / HKDF-SHA384 / AES-256-GCM"
HYBRID = "MLKEM768-X25519 / HKDF-SHA256 / AES-256-GCM"
KEM_ID, HPKE_ID = b"KEM\x00\x11", b"HPKE\x00\x11\x00\x02\x00\x02"


def main() -> None:
    """Write the vectors beside this file."""
    vectors = [*_refusals(_p384()), *_refusals(_hybrid())]
    text = json.dumps(vectors, indent=1)
    Path(__file__).with_name("slots.json").write_text(f"{text}\n")


def _p384() -> dict[str, object]:
    private, data_key = ec.generate_private_key(ec.SECP384R1()), os.urandom(32)
    point = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    suite = hpke.Suite(hpke.KEM.P384, hpke.KDF.HKDF_SHA384, hpke.AEAD.AES_256_GCM)
    sealed = suite.encrypt(data_key, private.public_key(), _info(DIGEST, KEY_ID))
    scalar = private.private_numbers().private_value.to_bytes(48, "big")
    vector = _vector(P384, scalar, point, data_key, sealed, 97)
    enc = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), sealed[:97])
    return {**vector, "steps": _steps(private.exchange(ec.ECDH(), enc), sealed[:97], point)}


def _hybrid() -> dict[str, object]:
    seed, scalar, data_key = os.urandom(64), os.urandom(32), os.urandom(32)
    seal = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed)
    agree = x25519.X25519PrivateKey.from_private_bytes(scalar)
    public = seal.public_key().public_bytes_raw() + agree.public_key().public_bytes_raw()
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    recipient = hpke.MLKEM768X25519PublicKey(seal.public_key(), agree.public_key())
    sealed = suite.encrypt(data_key, recipient, _info(DIGEST, KEY_ID))
    return _vector(HYBRID, seed + scalar, public, data_key, sealed, 1120)


def _vector(suite: str, private: bytes, public: bytes, data_key: bytes, sealed: bytes, enc: int) -> dict[str, object]:  # noqa: PLR0913, PLR0917 - the facts of one vector
    return {
        "name": "a good slot",
        "expected": "opens",
        "suite": suite,
        "model_digest": DIGEST.hex(),
        "key_id": KEY_ID,
        "private": private.hex(),
        "public": public.hex(),
        "data_key": data_key.hex(),
        "enc": b64encode(sealed[:enc]).decode(),
        "wrapped": b64encode(sealed[enc:]).decode(),
    }


def _refusals(good: dict[str, object]) -> list[dict[str, object]]:
    """Return the good slot and what becomes of it when one fact changes."""
    changes: dict[str, dict[str, object]] = {
        "of another model": {"model_digest": hashlib.sha256(b"another").hexdigest()},
        "under another name": {"key_id": "lama"},
        "with a changed data key": {"wrapped": b64encode(os.urandom(48)).decode()},
    }
    bad = {key: value for key, value in good.items() if key not in ("steps", "data_key")}
    return [good, *({**bad, "name": name, "expected": "release.slot", **change} for name, change in changes.items())]


def _info(digest: bytes, key_id: str) -> bytes:
    return b"nodeseal slot v1" + digest + key_id.encode()


def _steps(dh: bytes, enc: bytes, recipient: bytes) -> dict[str, str]:
    """Return what a token gives, and what software makes of it (RFC 9180 §4.1 and §5.1)."""
    eae = _extract(b"", b"HPKE-v1" + KEM_ID + b"eae_prk" + dh)
    shared = _expand(eae, b"\x00\x30HPKE-v1" + KEM_ID + b"shared_secret" + enc + recipient, 48)
    psk_id = _extract(b"", b"HPKE-v1" + HPKE_ID + b"psk_id_hash")
    told = _extract(b"", b"HPKE-v1" + HPKE_ID + b"info_hash" + _info(DIGEST, KEY_ID))
    secret, context = _extract(shared, b"HPKE-v1" + HPKE_ID + b"secret"), b"\x00" + psk_id + told
    key = _expand(secret, b"\x00\x20HPKE-v1" + HPKE_ID + b"key" + context, 32)
    nonce = _expand(secret, b"\x00\x0cHPKE-v1" + HPKE_ID + b"base_nonce" + context, 12)
    return {"dh": dh.hex(), "shared_secret": shared.hex(), "key": key.hex(), "base_nonce": nonce.hex()}


def _extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(48), ikm, "sha384")


def _expand(prk: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(prk, info + b"\x01", "sha384")[:size]


if __name__ == "__main__":
    main()
