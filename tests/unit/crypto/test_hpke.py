"""HPKE for slots and for releases, against published vectors and against the library's own HPKE."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hpke as reference
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nodeseal.crypto import hpke, hpke_receiver
from nodeseal.crypto.hpke import ModelPrivateKey, ModelPublicKey, Suite, Wrapped
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.ids import Digest, KeyId, digest_of
from support.damage import flipped

MODEL, KEY = digest_of(b"model"), KeyId("llama")
DATA_KEY = bytes(range(32))
CONTEXT = b'{"lease_id":"l-1"}'

# RFC 9180 Appendix A.3.1 (P-256, HKDF-SHA256): the KEM, whose shared secret does not depend on the AEAD.
A31_SCALAR = "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2"
A31_ENC = (
    "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325a"
    "c98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4"
)
A31_SHARED = "c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8"
# The file of vectors that RFC 9180's appendix was made from, record (mode 0, KEM 16, KDF 1, AEAD 2).
CFRG_SCALAR = "317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2"
CFRG_ENC = (
    "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f0"
    "3e0b21bd31a86c6048af3cb2d98e0d3bf01da5cc4c39ff5370d331a4f1f7d5a4e0"
)
CFRG_INFO = "4f6465206f6e2061204772656369616e2055726e"
CFRG_KEY = "ee16802a936d5f544771131900ee6973d0551de9e852ece2ef34bf0d5f9e1d1d"
CFRG_NONCE = "9bc50980832a7b4b58c40161"
CFRG_CIPHERTEXT = "58c61a45059d0c5704560e9d88b564a8b63f1364b8d1fcb3c4c6ddc1d291742465e902cd216f8908da49f8f96f"
CFRG_PLAINTEXT = "4265617574792069732074727574682c20747275746820626561757479"


def _p256(scalar_hex: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(scalar_hex, 16), ec.SECP256R1())


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _dh(key: ec.EllipticCurvePrivateKey, enc: bytes) -> bytes:
    return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc))


def test_shared_secret_of_rfc_9180_a_3_1() -> None:
    key, enc = _p256(A31_SCALAR), bytes.fromhex(A31_ENC)
    assert hpke_receiver.shared_secret(hpke_receiver.P256, _dh(key, enc), enc, _point(key)).hex() == A31_SHARED


def test_key_schedule_and_first_message_of_the_vectors_behind_rfc_9180() -> None:
    key, enc = _p256(CFRG_SCALAR), bytes.fromhex(CFRG_ENC)
    secret = hpke_receiver.shared_secret(hpke_receiver.P256, _dh(key, enc), enc, _point(key))
    aead_key, nonce = hpke_receiver.key_schedule(hpke_receiver.P256, secret, bytes.fromhex(CFRG_INFO))
    assert (aead_key.hex(), nonce.hex()) == (CFRG_KEY, CFRG_NONCE)
    opened = AESGCM(aead_key).decrypt(nonce, bytes.fromhex(CFRG_CIPHERTEXT), b"Count-0")
    assert opened.hex() == CFRG_PLAINTEXT


def test_a_release_is_finished_with_nothing_but_the_tpm_s_ecdh() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    reply = hpke.wrap_for_release(_point(key), CONTEXT, DATA_KEY)
    assert hpke.finish_release(_point(key), CONTEXT, reply, _dh(key, reply.enc)) == DATA_KEY


def test_the_library_s_hpke_opens_a_release_too() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    reply = hpke.wrap_for_release(_point(key), CONTEXT, DATA_KEY)
    suite = reference.Suite(reference.KEM.P256, reference.KDF.HKDF_SHA256, reference.AEAD.AES_256_GCM)
    info = b"nodeseal release v1\0" + CONTEXT
    assert suite.decrypt(reply.enc + reply.wrapped, key, info) == DATA_KEY


def test_leading_zeros_that_a_tpm_leaves_out_are_put_back() -> None:
    for number in range(1, 2000):
        key = ec.derive_private_key(number, ec.SECP256R1())
        if _point(key)[1] == 0:
            break
    x, y = _point(key)[1:33].lstrip(b"\0"), _point(key)[33:]
    assert len(x) < 32
    assert hpke.uncompressed_point(x, y) == _point(key)
    assert hpke.split_point(_point(key)) == (_point(key)[1:33], y)


def test_a_short_z_is_padded() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for _ in range(5000):
        reply = hpke.wrap_for_release(_point(key), CONTEXT, DATA_KEY)
        dh = _dh(key, reply.enc)
        if dh[0] == 0:
            break
    assert hpke.finish_release(_point(key), CONTEXT, reply, dh.lstrip(b"\0")) == DATA_KEY


def test_a_release_opens_for_one_key_one_context_and_unchanged_only() -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    reply = hpke.wrap_for_release(_point(key), CONTEXT, DATA_KEY)
    dh = _dh(key, reply.enc)
    changed = replace(reply, wrapped=flipped(reply.wrapped))
    for args in (
        (_point(other), CONTEXT, reply, _dh(other, reply.enc)),
        (_point(other), CONTEXT, reply, dh),
        (_point(key), CONTEXT + b" ", reply, dh),
        (_point(key), CONTEXT, changed, dh),
        (_point(key), CONTEXT, replace(reply, wrapped=b""), dh),
    ):
        with pytest.raises(ProofFailed) as caught:
            hpke.finish_release(*args)
        assert [finding.id for finding in caught.value.findings] == [FindingId.RELEASE_WRAPPED]


def test_a_release_that_holds_no_data_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    reply = hpke.wrap_for_release(_point(key), CONTEXT, b"short")
    with pytest.raises(ProofFailed):
        hpke.finish_release(_point(key), CONTEXT, reply, _dh(key, reply.enc))


@pytest.mark.parametrize("raw", [b"", bytes(65), b"\x04" + b"\1" * 64, b"\x02" + b"\1" * 32])
def test_what_is_no_point_of_the_curve_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        hpke.split_point(raw)
    with pytest.raises(MalformedInput):
        hpke.wrap_for_release(raw, CONTEXT, DATA_KEY)


@pytest.mark.parametrize("suite", Suite)
def test_a_slot_opens_with_its_key_for_its_model(suite: Suite) -> None:
    private = ModelPrivateKey.generate(suite)
    slot = hpke.wrap_data_key(private.public, MODEL, KEY, DATA_KEY)
    assert (len(slot.enc), len(slot.wrapped)) == (suite.enc_size, hpke.WRAPPED_SIZE)
    assert private.open_slot(MODEL, KEY, slot) == DATA_KEY
    again = ModelPrivateKey(suite, private.to_bytes())
    assert again.public == private.public
    assert again.open_slot(MODEL, KEY, slot) == DATA_KEY


@pytest.mark.parametrize("suite", Suite)
def test_a_slot_opens_for_nothing_else(suite: Suite) -> None:
    private = ModelPrivateKey.generate(suite)
    slot = hpke.wrap_data_key(private.public, MODEL, KEY, DATA_KEY)
    other_model: Digest = digest_of(b"other model")
    cases = (
        (ModelPrivateKey.generate(suite), MODEL, KEY, slot),
        (private, other_model, KEY, slot),
        (private, MODEL, KeyId("other"), slot),
        (private, MODEL, KEY, replace(slot, wrapped=bytes(hpke.WRAPPED_SIZE))),
        (private, MODEL, KEY, replace(slot, enc=bytes(suite.enc_size))),
        (private, MODEL, KEY, Wrapped(b"", b"")),
        (private, MODEL, KEY, hpke.wrap_data_key(private.public, MODEL, KEY, b"not 32 bytes")),
    )
    for key, digest, key_id, changed in cases:
        with pytest.raises(ProofFailed) as caught:
            key.open_slot(digest, key_id, changed)
        assert [finding.id for finding in caught.value.findings] == [FindingId.RELEASE_SLOT]


def test_the_info_of_a_slot_is_what_the_format_says() -> None:
    private = ModelPrivateKey.generate(Suite.P384)
    slot = hpke.wrap_data_key(private.public, MODEL, KEY, DATA_KEY)
    suite = reference.Suite(reference.KEM.P384, reference.KDF.HKDF_SHA384, reference.AEAD.AES_256_GCM)
    key = ec.derive_private_key(int.from_bytes(private.to_bytes(), "big"), ec.SECP384R1())
    info = b"nodeseal slot v1" + hashlib.sha256(b"model").digest() + b"llama"
    assert suite.decrypt(slot.enc + slot.wrapped, key, info) == DATA_KEY


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("cut", [0, 1, 96, -1], ids=["empty", "one byte", "96 bytes", "one byte short"])
def test_keys_of_the_wrong_length_are_refused(suite: Suite, cut: int) -> None:
    private = ModelPrivateKey.generate(suite)
    with pytest.raises(MalformedInput):
        ModelPublicKey(suite, private.public.raw[:cut])
    if cut != 96:
        with pytest.raises(MalformedInput):
            ModelPrivateKey(suite, private.to_bytes()[:cut])


@pytest.mark.parametrize("suite", Suite)
def test_a_public_key_of_the_other_suite_is_refused(suite: Suite) -> None:
    (other,) = set(Suite) - {suite}
    with pytest.raises(MalformedInput):
        ModelPublicKey(suite, ModelPrivateKey.generate(other).public.raw)


def test_a_key_has_one_spelling_a_compressed_point_is_refused() -> None:
    raw = ModelPrivateKey.generate(Suite.P384).public.raw
    compressed = bytes([2 + raw[-1] % 2]) + raw[1:49]
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), compressed)
    with pytest.raises(MalformedInput):
        ModelPublicKey(Suite.P384, compressed)


@pytest.mark.parametrize("suite", Suite)
def test_bytes_that_are_no_key_are_refused(suite: Suite) -> None:
    with pytest.raises(MalformedInput):
        ModelPublicKey(suite, b"\xff" * suite.public_size)


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_a_public_key_that_shares_zeros_with_everybody_is_refused(point: bytes) -> None:
    raw = ModelPrivateKey.generate(Suite.MLKEM768_X25519).public.raw
    with pytest.raises(MalformedInput, match="not a public key"):
        ModelPublicKey(Suite.MLKEM768_X25519, raw[:-32] + point)


def test_a_scalar_out_of_range_is_refused() -> None:
    for raw in (bytes(48), b"\xff" * 48):
        with pytest.raises(MalformedInput):
            ModelPrivateKey(Suite.P384, raw)


def test_a_wiped_key_is_gone() -> None:
    private = ModelPrivateKey.generate(Suite.P384)
    private.wipe()
    assert private.to_bytes() == bytes(48)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_private_key_is_not_duplicated(duplicate: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        duplicate(ModelPrivateKey.generate(Suite.P384))


def test_a_private_key_does_not_show_itself() -> None:
    private = ModelPrivateKey.generate(Suite.P384)
    assert private.to_bytes().hex() not in repr(private)


def _p384_slot() -> tuple[ec.EllipticCurvePrivateKey, ModelPublicKey, Wrapped]:
    key = ec.generate_private_key(ec.SECP384R1())
    public = ModelPublicKey(Suite.P384, _point(key))
    return key, public, hpke.wrap_data_key(public, MODEL, KEY, DATA_KEY)


def _p384_dh(key: ec.EllipticCurvePrivateKey, enc: bytes) -> bytes:
    return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), enc))


def test_a_slot_is_finished_with_nothing_but_a_token_s_ecdh() -> None:
    key, public, slot = _p384_slot()
    assert hpke.finish_slot(public, MODEL, KEY, slot, _p384_dh(key, slot.enc)) == DATA_KEY


def test_a_slot_is_finished_for_its_own_key_model_and_key_id_only() -> None:
    key, public, slot = _p384_slot()
    other, foreign, _ = _p384_slot()
    dh = _p384_dh(key, slot.enc)
    changed = replace(slot, wrapped=flipped(slot.wrapped))
    for args in (
        (foreign, MODEL, KEY, slot, _p384_dh(other, slot.enc)),
        (foreign, MODEL, KEY, slot, dh),
        (public, digest_of(b"other model"), KEY, slot, dh),
        (public, MODEL, KeyId("other"), slot, dh),
        (public, MODEL, KEY, changed, dh),
        (public, MODEL, KEY, slot, bytes(48)),
    ):
        with pytest.raises(ProofFailed) as caught:
            hpke.finish_slot(*args)
        assert [finding.id for finding in caught.value.findings] == [FindingId.RELEASE_SLOT]


def test_a_slot_that_holds_no_data_key_is_not_finished() -> None:
    key, public, _ = _p384_slot()
    slot = hpke.wrap_data_key(public, MODEL, KEY, b"short")
    with pytest.raises(ProofFailed):
        hpke.finish_slot(public, MODEL, KEY, slot, _p384_dh(key, slot.enc))


def test_more_than_a_coordinate_is_no_shared_secret() -> None:
    key, public, slot = _p384_slot()
    with pytest.raises(MalformedInput, match="49 bytes"):
        hpke.finish_slot(public, MODEL, KEY, slot, b"\0" + _p384_dh(key, slot.enc))


@pytest.mark.parametrize("raw", [b"", bytes(97), b"\x04" + b"\1" * 96, b"\x02" + b"\1" * 48])
def test_what_is_no_point_of_p_384_goes_to_no_token(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        hpke.token_point(raw)
