"""HPKE (RFC 9180, base mode, one message) for data keys: in slots and in releases.

- **Slot**: the data key of a sealed model, sealed to a model key's public half. :class:`Suite` lists the suites.
  ``info`` is ``"nodeseal slot v1" || model digest (32) || key id``, so a slot opens for its own model only. A private
  key in a token computes ECDH there, and :func:`finish_slot` does the rest.
- **Release**: the same data key, wrapped again to the P-256 release key of a node's TPM. The node takes ECDH's Z from
  TPM2_ECDH_ZGen, and :func:`finish_release` does the rest.

The AAD is always empty; the context is in ``info`` (RFC 9180 §8.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

from nodeseal.crypto import hpke_receiver
from nodeseal.crypto.secret import wipe
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, KeyId

DATA_KEY_SIZE = 32
WRAPPED_SIZE = DATA_KEY_SIZE + 16
"""Bytes of a wrapped data key: AES-256-GCM ciphertext and tag."""
POINT_SIZE = 65
"""Bytes of an uncompressed P-256 point (SEC 1 §2.3.3)."""

_SLOT_LABEL = b"nodeseal slot v1"
_RELEASE_LABEL = b"nodeseal release v1\0"
_MLKEM_PUBLIC, _MLKEM_SEED, _P384_SCALAR = 1184, 64, 48
_RELEASE_SUITE = hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Suite(Enum):
    """Suites of model keys, with their spelling in documents."""

    MLKEM768_X25519 = "MLKEM768-X25519 / HKDF-SHA256 / AES-256-GCM"
    """Post-quantum hybrid (draft-ietf-hpke-pq): quantum computers cannot open slots that are stored today."""
    P384 = "DHKEM(P-384, HKDF-SHA384) / HKDF-SHA384 / AES-256-GCM"
    """For hardware tokens."""

    @property
    def enc_size(self) -> int:
        """Size of an encapsulated key in bytes."""
        return {Suite.MLKEM768_X25519: 1120, Suite.P384: 97}[self]

    @property
    def public_size(self) -> int:
        """Size of a public key in bytes."""
        return {Suite.MLKEM768_X25519: _MLKEM_PUBLIC + 32, Suite.P384: 97}[self]


_SUITES = {
    Suite.MLKEM768_X25519: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    Suite.P384: hpke.Suite(hpke.KEM.P384, hpke.KDF.HKDF_SHA384, hpke.AEAD.AES_256_GCM),
}


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Wrapped data key: the encapsulated key and the ciphertext."""

    enc: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class ModelPublicKey:
    """Public half of a model key, which seals.

    Attributes:
        suite: suite of the key.
        raw: ML-KEM-768 encapsulation key (1184) and X25519 key (32), or an uncompressed P-384 point (97).

    Raises:
        MalformedInput: ``raw`` is not a public key of that suite.
    """

    suite: Suite
    raw: bytes

    def __post_init__(self) -> None:
        _load_public(self)


class ModelPrivateKey:
    """Private half of a model key, which opens. Kept as bytes and loaded for each use, so that it can be wiped.

    The bytes are ML-KEM-768 seed (64) and X25519 scalar (32), or the P-384 scalar (48, big-endian).
    """

    def __init__(self, suite: Suite, raw: bytes | bytearray) -> None:
        """Take a copy of ``raw``.

        Raises:
            MalformedInput: ``raw`` is not a private key of that suite.
        """
        self.suite = suite
        self._raw = bytearray(raw)
        self._load()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is neither pickled nor copied: nobody would wipe that")

    @classmethod
    def generate(cls, suite: Suite) -> ModelPrivateKey:
        """Create a key pair from the operating system's randomness."""
        if suite is Suite.P384:
            scalar = ec.generate_private_key(ec.SECP384R1()).private_numbers().private_value
            return cls(suite, scalar.to_bytes(_P384_SCALAR, "big"))
        seed = mlkem.MLKEM768PrivateKey.generate().private_bytes_raw()
        return cls(suite, seed + x25519.X25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> ModelPublicKey:
        """The public half, for everyone who seals."""
        if self.suite is Suite.P384:
            return ModelPublicKey(self.suite, _point(_p384_private(self._raw).public_key()))
        seal, agree = _hybrid_parts(self._raw)
        return ModelPublicKey(self.suite, seal.public_key().public_bytes_raw() + agree.public_key().public_bytes_raw())

    def to_bytes(self) -> bytearray:
        """Return a copy of the secret for a key store, which encrypts it. The caller wipes it."""
        return bytearray(self._raw)

    def wipe(self) -> None:
        """Wipe the key. It opens nothing afterwards."""
        wipe(self._raw)

    def open_slot(self, model_digest: Digest, key_id: KeyId, slot: Wrapped) -> bytearray:
        """Return the data key of a slot.

        Raises:
            ProofFailed: ``release.slot``: sealed to another key, for another model or key id, or changed.
        """
        try:
            info = _slot_info(model_digest, key_id)
            data_key = _SUITES[self.suite].decrypt(slot.enc + slot.wrapped, self._load(), info)
        except InvalidTag as error:
            raise _slot_refused(key_id) from error
        if len(data_key) != DATA_KEY_SIZE:
            raise _slot_refused(key_id)
        return bytearray(data_key)

    def _load(self) -> hpke.MLKEM768X25519PrivateKey | ec.EllipticCurvePrivateKey:
        try:
            if self.suite is Suite.P384:
                return _p384_private(self._raw)
            return hpke.MLKEM768X25519PrivateKey(*_hybrid_parts(self._raw))
        except ValueError as error:
            raise MalformedInput(f"not a private key of suite {self.suite.value}") from error


def wrap_data_key(public: ModelPublicKey, model_digest: Digest, key_id: KeyId, data_key: bytes | bytearray) -> Wrapped:
    """Seal a model's data key into a slot."""
    sealed = _SUITES[public.suite].encrypt(data_key, _load_public(public), _slot_info(model_digest, key_id))
    return Wrapped(sealed[: public.suite.enc_size], sealed[public.suite.enc_size :])


def uncompressed_point(x: bytes, y: bytes) -> bytes:
    """Return the P-256 point of a TPMS_ECC_POINT as 65 bytes. TPMs may leave out leading zeros.

    Raises:
        MalformedInput: not a point of the curve.
    """
    raw = b"\x04" + x.rjust(32, b"\0") + y.rjust(32, b"\0")
    _p256_public(raw)
    return raw


def split_point(enc: bytes) -> tuple[bytes, bytes]:
    """Return x and y, 32 bytes each, of an encapsulated key, for TPM2_ECDH_ZGen.

    Raises:
        MalformedInput: not an uncompressed point of P-256 (RFC 9180 §7.1.4 asks the receiver to check).
    """
    _p256_public(enc)
    return enc[1:33], enc[33:]


def wrap_for_release(release_public: bytes, context: bytes, data_key: bytes | bytearray) -> Wrapped:
    """Wrap a data key to the release key of a node's TPM.

    Args:
        release_public: uncompressed point of the release key, proved by TPM2_Certify.
        context: canonical JSON of the release; the reply opens with exactly these bytes only.
        data_key: data key of the slot.

    Raises:
        MalformedInput: ``release_public`` is not a point of P-256.
    """
    sealed = _RELEASE_SUITE.encrypt(data_key, _p256_public(release_public), _RELEASE_LABEL + context)
    return Wrapped(sealed[:POINT_SIZE], sealed[POINT_SIZE:])


def finish_release(release_public: bytes, context: bytes, reply: Wrapped, dh: bytes) -> bytearray:
    """Open a data key that :func:`wrap_for_release` wrapped, after the TPM computed ECDH.

    Args:
        release_public: uncompressed point of this node's release key.
        context: the release's context as received.
        reply: ``enc`` and ``wrapped`` as received.
        dh: x coordinate of TPM2_ECDH_ZGen's output point.

    Raises:
        ProofFailed: ``release.wrapped``: made for another key or context, or changed.
    """
    secret = hpke_receiver.shared_secret(hpke_receiver.P256, dh, reply.enc, release_public)
    data_key = hpke_receiver.open_message(hpke_receiver.P256, secret, _RELEASE_LABEL + context, reply.wrapped)
    if data_key is None or len(data_key) != DATA_KEY_SIZE:
        raise _release_refused()
    return bytearray(data_key)


def token_point(enc: bytes) -> bytes:
    """Return the encapsulated key of a P-384 slot, for CKM_ECDH1_DERIVE.

    Raises:
        MalformedInput: not an uncompressed point of P-384 (RFC 9180 §7.1.4 asks the receiver to check).
    """
    return ModelPublicKey(Suite.P384, enc).raw


def finish_slot(
    public: ModelPublicKey, model_digest: Digest, key_id: KeyId, slot: Wrapped, dh: bytes | bytearray
) -> bytearray:
    """Open a slot of suite P-384 after a token computed ECDH.

    Args:
        public: public half of the model key.
        model_digest: digest of the slot's model.
        key_id: id of the model key.
        slot: the slot as read.
        dh: x coordinate of the shared point.

    Raises:
        ProofFailed: ``release.slot``: sealed to another key, for another model or key id, or changed.
    """
    secret = hpke_receiver.shared_secret(hpke_receiver.P384, dh, slot.enc, public.raw)
    info = _slot_info(model_digest, key_id)
    data_key = hpke_receiver.open_message(hpke_receiver.P384, secret, info, slot.wrapped)
    if data_key is None or len(data_key) != DATA_KEY_SIZE:
        raise _slot_refused(key_id)
    return bytearray(data_key)


def _slot_info(model_digest: Digest, key_id: KeyId) -> bytes:
    return _SLOT_LABEL + bytes.fromhex(model_digest) + key_id.encode()


def _load_public(public: ModelPublicKey) -> hpke.MLKEM768X25519PublicKey | ec.EllipticCurvePublicKey:
    what = f"not a public key of suite {public.suite.value}"
    if len(public.raw) != public.suite.public_size:
        raise MalformedInput(f"{what}: {len(public.raw)} bytes")
    try:
        if public.suite is Suite.P384:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), public.raw)
        seal = mlkem.MLKEM768PublicKey.from_public_bytes(public.raw[:_MLKEM_PUBLIC])
        agree = x25519.X25519PublicKey.from_public_bytes(public.raw[_MLKEM_PUBLIC:])
        x25519.X25519PrivateKey.generate().exchange(agree)  # refuses points that share zeros with everybody (§7.1.4)
        return hpke.MLKEM768X25519PublicKey(seal, agree)
    except ValueError as error:
        raise MalformedInput(what) from error


def _hybrid_parts(raw: bytearray) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    seed, scalar = raw[:_MLKEM_SEED], raw[_MLKEM_SEED:]
    return mlkem.MLKEM768PrivateKey.from_seed_bytes(seed), x25519.X25519PrivateKey.from_private_bytes(scalar)


def _p384_private(raw: bytearray) -> ec.EllipticCurvePrivateKey:
    if len(raw) != _P384_SCALAR:
        raise ValueError("wrong length")
    return ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP384R1())


def _p256_public(raw: bytes) -> ec.EllipticCurvePublicKey:
    what = "not an uncompressed point of P-256"
    if len(raw) != POINT_SIZE:
        raise MalformedInput(f"{what}: {len(raw)} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    except ValueError as error:
        raise MalformedInput(what) from error


def _point(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _slot_refused(key_id: KeyId) -> ProofFailed:
    expected = "a data key sealed to this model key for this model"
    return ProofFailed(
        Finding(id=FindingId.RELEASE_SLOT, expected=expected, seen="HPKE does not open it", where=key_id)
    )


def _release_refused() -> ProofFailed:
    expected = "a data key wrapped to this release key in this context"
    return ProofFailed(Finding(id=FindingId.RELEASE_WRAPPED, expected=expected, seen="HPKE does not open it"))
