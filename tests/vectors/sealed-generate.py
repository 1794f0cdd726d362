"""Makes the test vector ``sealed-tiny`` and the example of docs/sealed-format.md.

Run ``python tests/vectors/sealed-generate.py FOLDER`` from a checkout: it writes ``sealed-tiny/`` and
``sealed-tiny.key`` (the private half of its model key, in the form that only tests read) below FOLDER, and prints the
example. Every run gives other bytes, as keys and IVs are random; the vector in this folder stays as it is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import KeyId, ModelId
from nodeseal.loader.keys import encode_insecure_key
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import survey
from nodeseal.sealed.model_key import ModelKey

NAME = "sealed-tiny"
SEGMENT = 1 << 18


def main(folder: Path) -> None:
    """Write the vector below ``folder`` and print the example."""
    private = ModelPrivateKey.generate(Suite.MLKEM768_X25519)
    key = ModelKey(key_id=KeyId("vector"), key_version=1, public=private.public)
    label = Label(
        model_id=ModelId("tiny"), version=1, created=datetime(2026, 1, 31, 12, tzinfo=UTC), segment_size=SEGMENT
    )
    with tempfile.TemporaryDirectory() as plain:
        write_plain(Path(plain))
        seal_model(survey(Path(plain)), folder / NAME, [key], label)
    (folder / f"{NAME}.key").write_bytes(encode_insecure_key(key.key_id, key.key_version, private))
    sys.stdout.write(example((folder / NAME / "tiny.gguf.sealed").read_bytes()))


def write_plain(folder: Path) -> None:
    """Write the model before it is sealed: a file of one short segment, one of two, and one that stays readable."""
    (folder / "tiny.gguf").write_bytes(b"weights!" * 4)
    (folder / "two.gguf").write_bytes(bytes(index % 251 for index in range(SEGMENT)))
    (folder / "config.json").write_bytes(json.dumps({"architectures": ["Tiny"]}).encode())


def example(raw: bytes) -> str:
    """Return an annotated hex dump of a container with one short segment."""
    meta = 16 + int.from_bytes(raw[12:16], "big")
    cuts = [
        (0, 8, 'magic "NODESEAL"'),
        (8, 10, "version 1"),
        (10, 12, "flags, none"),
        (12, 16, f"length of META, {meta - 16}"),
        (16, meta, "META"),
        (meta, meta + 10, "FLOE parameters: AEAD 0, KDF 0, segment 0x40000, IV 0x20"),
        (meta + 10, meta + 42, "FLOE IV"),
        (meta + 42, meta + 74, "FLOE header tag"),
        (meta + 74, 4096, f"{4096 - meta - 74} bytes of zeros, up to 4096"),
        (4096, 4100, f"length of the last segment, {len(raw) - 4096}"),
        (4100, 4112, "AEAD IV"),
        (4112, len(raw) - 16, "ciphertext"),
        (len(raw) - 16, len(raw), "AEAD tag"),
    ]
    return "".join(_annotate(raw, *cut) for cut in cuts)


def _annotate(raw: bytes, start: int, stop: int, what: str) -> str:
    if not any(raw[start:stop]) and stop - start > 16:
        return f"{start:04x}  ..  {what}\n"
    lines = [f"{at:04x}  {raw[at : min(at + 16, stop)].hex(' ', 1):<47}" for at in range(start, stop, 16)]
    return "\n".join([f"{lines[0]}  {what}", *lines[1:]]) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
