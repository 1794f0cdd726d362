"""A sealed model of 10 GB that takes 40 MB of disk: all but its beginning is a hole, and does not verify."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nodeseal.crypto import floe
from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import KeyId, ModelId, digest_of
from nodeseal.loader import InsecureFileKeys
from nodeseal.loader.keys import encode_insecure_key
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout, Meta
from nodeseal.sealed.content import DEFAULT_SEGMENT_SIZE, Content, SealedFile
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.paths import CONTENT_NAME, SLOTS_NAME
from nodeseal.sealed.slots import Slots

_PATH: Final = "model.safetensors"
_TENSOR: Final = 32 << 20
_TENSORS: Final = 320


def sparse_model(folder: Path) -> InsecureFileKeys:
    """Write ``sealed`` and ``key`` into ``folder``, and return what opens them."""
    (folder / "sealed").mkdir()
    header = _header()
    data_key = bytearray(os.urandom(floe.KEY_SIZE))
    file = _write(folder / "sealed", data_key, header, len(header) + _TENSORS * _TENSOR)
    content = Content(model_id=ModelId("bench"), version=1, created=datetime(2026, 1, 1, tzinfo=UTC), files=(file,))
    private = ModelPrivateKey.generate(Suite.MLKEM768_X25519)
    key = ModelKey(key_id=KeyId("bench"), key_version=1, public=private.public)
    slots = Slots(content.digest, (key.slot(content.digest, data_key),))
    (folder / "sealed" / CONTENT_NAME).write_bytes(content.encode())
    (folder / "sealed" / SLOTS_NAME).write_bytes(slots.encode())
    (folder / "key").write_bytes(encode_insecure_key(key.key_id, 1, private))
    return InsecureFileKeys(folder / "key")


def _header() -> bytes:
    tensors = {
        f"layers.{number}.weight": {
            "dtype": "BF16",
            "shape": [4096, 4096],
            "data_offsets": [number * _TENSOR, (number + 1) * _TENSOR],
        }
        for number in range(_TENSORS)
    }
    text = json.dumps(tensors).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(folder: Path, data_key: bytearray, header: bytes, size: int) -> SealedFile:
    meta = Meta(
        file_id=os.urandom(16),
        path=_PATH,
        model_id=ModelId("bench"),
        size=size,
        segment_size=DEFAULT_SEGMENT_SIZE,
        media_type="application/x-safetensors",
    )
    layout, aad = Layout(size, DEFAULT_SEGMENT_SIZE), container.associated_data(meta)
    encryptor = floe.Encryptor(data_key, aad, floe.Parameters(DEFAULT_SEGMENT_SIZE))
    beginning = header + os.urandom(_TENSOR)
    beginning += bytes(-len(beginning) % layout.capacity)
    with (folder / (_PATH + ".sealed")).open("wb") as out:
        start = out.write(container.encode_header(aad, encryptor.header))
        for position in range(len(beginning) // layout.capacity):
            segment = memoryview(bytearray(layout.segment_size))
            chunk = memoryview(beginning)[position * layout.capacity :][: layout.capacity]
            encryptor.encrypt_into(position, chunk, segment, final=False)
            out.write(segment)
        out.truncate(start + layout.body_size)
    return SealedFile(
        path=_PATH,
        size=size,
        file_id=meta.file_id,
        segment_size=meta.segment_size,
        header_tag=encryptor.header[-floe.HEADER_TAG_SIZE :],
        tags_digest=digest_of(b"a hole"),
    )
