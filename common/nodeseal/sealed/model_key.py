"""The public key file of a model key: all that a sealer needs. It holds no secret."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeseal import documents
from nodeseal.crypto.hpke import ModelPublicKey, wrap_data_key
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.ids import MAX_KEY_VERSION, Digest, KeyId, parse_key_id
from nodeseal.sealed.slots import Slot, parse_suite

MODEL_KEY_FORMAT = "nodeseal/model-key/1"
MAX_MODEL_KEY_FILE = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKey:
    """The public half of one version of a model key.

    Attributes:
        key_id: name of the key.
        key_version: counter of the key's rotations, from 1.
        public: the key itself.
    """

    key_id: KeyId
    key_version: int
    public: ModelPublicKey = field(repr=False)

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        return documents.encode_json(
            {
                "format": MODEL_KEY_FORMAT,
                "key_id": self.key_id,
                "key_version": self.key_version,
                "public": documents.encode_base64(self.public.raw),
                "suite": self.public.suite.value,
            }
        )

    def slot(self, model_digest: Digest, data_key: bytes | bytearray) -> Slot:
        """Wrap the data key of the model ``model_digest`` for this key."""
        return Slot(
            key_id=self.key_id,
            key_version=self.key_version,
            suite=self.public.suite,
            sealed=wrap_data_key(self.public, model_digest, self.key_id, data_key),
        )


def parse_model_key(raw: bytes, source: str) -> ModelKey:
    """Parse a public key file.

    Raises:
        MalformedInput: not canonical JSON, an unknown key or suite, or not a public key.
    """
    if len(raw) > MAX_MODEL_KEY_FILE:
        raise MalformedInput(f"{source}: {len(raw)} bytes, at most {MAX_MODEL_KEY_FILE}")
    try:
        fields = Fields(documents.decode_json(raw, source), source)
        fields.constant("format", MODEL_KEY_FORMAT)
    except MalformedInput as error:
        remedy = "name the file that `nodeseal key create --public FILE` wrote"
        raise MalformedInput(str(error), remedy=remedy) from error
    suite = parse_suite(fields.text("suite"))
    key = ModelKey(
        key_id=parse_key_id(fields.text("key_id")),
        key_version=fields.integer("key_version", low=1, high=MAX_KEY_VERSION),
        public=ModelPublicKey(suite, fields.base64("public", max_size=suite.public_size)),
    )
    fields.done()
    return key
