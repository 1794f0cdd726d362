"""Good examples of the documents of a sealed model, to change one fact of."""

from __future__ import annotations

from datetime import UTC, datetime

from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import KeyId, ModelId, digest_of
from nodeseal.sealed.content import Content, PlainFile, SealedFile
from nodeseal.sealed.model_key import ModelKey

DATA_KEY = bytes(range(32))

WEIGHTS = SealedFile(
    path="model.safetensors",
    size=3_000_000,
    file_id=bytes(16),
    segment_size=1 << 20,
    header_tag=bytes(32),
    tags_digest=digest_of(b"tags"),
)
CONFIG = PlainFile(path="config.json", size=2, sha256=digest_of(b"{}"))
CONTENT = Content(
    model_id=ModelId("llama"),
    version=1,
    created=datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC),
    files=(CONFIG, WEIGHTS),
)


def model_key(suite: Suite = Suite.P384, key_id: str = "llama-key") -> tuple[ModelPrivateKey, ModelKey]:
    """Make a model key and its public file's value."""
    private = ModelPrivateKey.generate(suite)
    return private, ModelKey(key_id=KeyId(key_id), key_version=1, public=private.public)
