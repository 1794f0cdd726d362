"""Good examples of sealed models and their documents, to change one fact of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from nodeseal.crypto import floe
from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import KeyId, ModelId, digest_of
from nodeseal.loader.keys import InsecureFileKeys, encode_insecure_key
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import survey
from nodeseal.sealed import container
from nodeseal.sealed.content import Content, PlainFile, SealedFile, parse_content
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.paths import CONTENT_NAME, SLOTS_NAME
from nodeseal.sealed.slots import parse_slots

DATA_KEY = bytes(range(32))
SEGMENT = 1 << 18
CREATED = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

WEIGHTS = SealedFile(
    path="model.safetensors",
    size=3_000_000,
    file_id=bytes(16),
    segment_size=1 << 20,
    header_tag=bytes(32),
    tags_digest=digest_of(b"tags"),
)
CONFIG = PlainFile(path="config.json", size=2, sha256=digest_of(b"{}"))
CONTENT = Content(model_id=ModelId("llama"), version=1, created=CREATED, files=(CONFIG, WEIGHTS))


def model_key(suite: Suite = Suite.P384, key_id: str = "llama-key") -> tuple[ModelPrivateKey, ModelKey]:
    """Make a model key and its public file's value."""
    private = ModelPrivateKey.generate(suite)
    return private, ModelKey(key_id=KeyId(key_id), key_version=1, public=private.public)


def safetensors_bytes(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """Write a safetensors file, given type, shape and data of each tensor."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


PLAIN_WEIGHTS = safetensors_bytes(
    {
        "embed": ("F32", [256, 600], bytes(index % 251 for index in range(256 * 600 * 4))),
        "bias": ("U8", [3], b"\1\2\3"),
    }
)
"""Two full segments and a bit, with segments of 256 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A small model, plain and sealed.

    Attributes:
        plain: folder with the model before.
        directory: sealed.
        keys: open it.
        private: the model key.
        key: its public half.
        content: of the sealed directory.
    """

    plain: Path
    directory: Path
    keys: InsecureFileKeys = field(repr=False)
    private: ModelPrivateKey = field(repr=False)
    key: ModelKey = field(repr=False)
    content: Content = field(repr=False)

    @property
    def weights(self) -> Path:
        """The one container."""
        return self.directory / "model.safetensors.sealed"

    def copied_to(self, folder: Path) -> Sample:
        """Return the same with a sealed directory that a test may spoil."""
        shutil.copytree(self.directory, folder)
        return replace(self, directory=folder)


def plain_model(folder: Path) -> Path:
    """Write a small model that is not sealed."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(PLAIN_WEIGHTS)
    (folder / "config.json").write_bytes(b'{"architectures":["Tiny"]}')
    (folder / "sub").mkdir()
    (folder / "sub" / "tokenizer.json").write_bytes(b"{}")
    return folder


def key_file(folder: Path, key: ModelKey, private: ModelPrivateKey) -> Path:
    """Write the private key where :class:`InsecureFileKeys` finds it."""
    path = folder / f"{key.key_id}.insecure"
    path.write_bytes(encode_insecure_key(key.key_id, key.key_version, private))
    return path


def label(model_id: str = "tiny", version: int = 1) -> Label:
    """Return a content file's fields besides its files; segments are small."""
    return Label(model_id=ModelId(model_id), version=version, created=CREATED, segment_size=SEGMENT)


def sealed_model(folder: Path, *, name: str = "tiny", suite: Suite = Suite.P384) -> Sample:
    """Seal a small model below ``folder``."""
    return seal_folder(plain_model(folder / f"{name}-plain"), folder / name, suite)


def seal_files(folder: Path, files: Mapping[str, bytes]) -> Sample:
    """Seal these files below ``folder``."""
    plain = folder / "plain"
    for path, content in files.items():
        (plain / path).parent.mkdir(parents=True, exist_ok=True)
        (plain / path).write_bytes(content)
    return seal_folder(plain, folder / "sealed")


def seal_folder(plain: Path, directory: Path, suite: Suite = Suite.P384, *, seal_all: bool = False) -> Sample:
    """Seal the model in ``plain``."""
    folder, name = directory.parent, directory.name
    private, key = model_key(suite)
    content = seal_model(survey(plain, seal_all=seal_all), directory, [key], label(name))
    keys = InsecureFileKeys(key_file(folder, key, private))
    return Sample(plain=plain, directory=directory, keys=keys, private=private, key=key, content=content)


def content_of(directory: Path) -> Content:
    """Read the content file of a sealed model."""
    return parse_content((directory / CONTENT_NAME).read_bytes())


def data_key_of(sample: Sample) -> bytearray:
    """Open the sample's first slot with its private key."""
    slot = parse_slots((sample.directory / SLOTS_NAME).read_bytes()).slots[0]
    return sample.private.open_slot(sample.content.digest, slot.key_id, slot.sealed)


def stored_files(directory: Path) -> dict[str, bytes]:
    """Return the files of a sealed model, as :class:`~nodeseal.loader.folders.MemoryFolder` takes it."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def rewrite_first_segment(sample: Sample) -> None:
    """Put zeros in the place of the first segment's plaintext, as somebody who has the data key can."""
    raw = bytearray(sample.weights.read_bytes())
    size = container.header_size(bytes(raw[: container.PREFIX_SIZE]), "weights")
    header = container.decode_header(bytes(raw[:size]), "weights")
    data_key = data_key_of(sample)
    iv = header.floe_header[10:42]
    forger = floe.Encryptor(data_key, header.aad, floe.Parameters(SEGMENT), random=lambda count: iv[:count])
    plaintext = memoryview(bytes(SEGMENT - floe.SEGMENT_OVERHEAD))
    forger.encrypt_into(0, plaintext, memoryview(raw)[size : size + SEGMENT], final=False)
    sample.weights.write_bytes(raw)
