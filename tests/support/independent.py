"""A second reader of sealed models, written from docs/sealed-format.md alone: it imports nothing of nodeseal."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def open_directory(directory: Path, key_file: Path) -> dict[str, bytes]:
    """Return the plaintext of every file; an assertion fails where a rule does not hold."""
    raw = (directory / "nodeseal.model.json").read_bytes()
    content, digest = json.loads(raw), hashlib.sha256(raw).digest()
    slots = json.loads((directory / "nodeseal.slots.json").read_bytes())
    assert slots["model_digest"] == digest.hex()
    data_key = _open_slot(slots["slots"], json.loads(key_file.read_bytes()), digest)
    return {file["path"]: _open_file(directory, content, file, data_key) for file in content["files"]}


def _open_slot(slots: list[dict[str, Any]], key: dict[str, Any], digest: bytes) -> bytes:
    (slot,) = [slot for slot in slots if slot["key_id"] == key["key_id"]]
    return open_slot({**slot, "model_digest": digest.hex()}, b64decode(key["private"]))


def open_slot(slot: dict[str, Any], private: bytes) -> bytes:
    """Return the data key of one slot, whose model digest stands beside it: RFC 9180 step by step."""
    info = b"nodeseal slot v1" + bytes.fromhex(slot["model_digest"]) + slot["key_id"].encode()
    enc, wrapped = b64decode(slot["enc"]), b64decode(slot["wrapped"])
    hybrid = slot["suite"].startswith("MLKEM768-X25519")
    kem, kdf, digest = (0x647A, 1, "sha256") if hybrid else (0x0011, 2, "sha384")
    secret = _hybrid_secret(enc, private) if hybrid else _p384_secret(enc, private)
    suite = digest, b"HPKE" + kem.to_bytes(2, "big") + kdf.to_bytes(2, "big") + b"\0\2"
    context = b"\0" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    schedule = _extract(suite, secret, b"secret", b"")
    key, nonce = _expand(suite, schedule, b"key", context, 32), _expand(suite, schedule, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, wrapped, b"")


def _hybrid_secret(enc: bytes, private: bytes) -> bytes:
    pair = x25519.X25519PrivateKey.from_private_bytes(private[64:])
    shared = mlkem.MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(enc[:1088])
    agreed = pair.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:]))
    parts = shared, agreed, enc[1088:], pair.public_key().public_bytes_raw(), b"\\.//^\\"
    return hashlib.sha3_256(b"".join(parts)).digest()


def _p384_secret(enc: bytes, private: bytes) -> bytes:
    pair, suite = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP384R1()), ("sha384", b"KEM\0\x11")
    agreed = pair.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), enc))
    public = pair.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _expand(suite, _extract(suite, b"", b"eae_prk", agreed), b"shared_secret", enc + public, 48)


def _extract(suite: tuple[str, bytes], salt: bytes, label: bytes, material: bytes) -> bytes:
    digest, suite_id = suite
    return hmac.digest(salt, b"HPKE-v1" + suite_id + label + material, digest)


def _expand(suite: tuple[str, bytes], key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    digest, suite_id = suite
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info
    return hmac.digest(key, labelled + b"\1", digest)[:size]


def _open_file(directory: Path, content: dict[str, Any], file: dict[str, Any], data_key: bytes) -> bytes:
    if file["kind"] == "plain":
        plaintext = (directory / str(file["path"])).read_bytes()
        assert hashlib.sha256(plaintext).hexdigest() == file["sha256"]
        return plaintext
    raw = (directory / (file["path"] + ".sealed")).read_bytes()
    assert raw[:12] == b"NODESEAL\0\1\0\0"
    end = 16 + int.from_bytes(raw[12:16], "big")
    aad, floe_header = raw[:end], raw[end : end + 74]
    body = -(-(end + 74) // 4096) * 4096
    assert not any(raw[end + 74 : body])
    prefix, tag = floe_header[:42], floe_header[42:]
    assert tag.hex() == file["header_tag"]
    assert hmac.compare_digest(_kdf(data_key, prefix + b"HEADER_TAG:" + aad, 32), tag)
    meta = json.loads(raw[16:end])
    assert meta["model_id"] == content["model_id"]
    assert {key: meta[key] for key in ("file_id", "path", "size", "segment_size")} == {
        key: file[key] for key in ("file_id", "path", "size", "segment_size")
    }
    message_key = _kdf(data_key, prefix + b"MESSAGE_KEY:" + aad, 48)
    return _open_segments(raw[body:], file, message_key, (prefix, aad))


def _open_segments(body: bytes, file: dict[str, Any], message_key: bytes, bound: tuple[bytes, bytes]) -> bytes:
    prefix, aad = bound
    size = file["segment_size"]
    segments = [body[at : at + size] for at in range(0, len(body), size)]
    plaintext, tags = b"", b""
    for position, segment in enumerate(segments):
        final = position == len(segments) - 1
        assert segment[:4] == (len(segment).to_bytes(4, "big") if final else b"\xff" * 4)
        dek = b"DEK:" + (position >> 20 << 20).to_bytes(8, "big")
        cipher = AESGCM(_kdf(message_key, prefix + dek + aad, 32))
        plaintext += cipher.decrypt(segment[4:16], segment[16:], position.to_bytes(8, "big") + bytes([final]))
        tags += segment[-16:]
    assert hashlib.sha256(tags).hexdigest() == file["tags_digest"]
    assert len(plaintext) == file["size"]
    return plaintext


def _kdf(key: bytes, info: bytes, size: int) -> bytes:
    return HKDFExpand(hashes.SHA384(), size, info).derive(key)
