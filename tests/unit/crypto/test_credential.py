from __future__ import annotations

import hmac
from dataclasses import replace
from typing import NamedTuple

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from nodeseal.crypto.credential import agree_seed, kdfa, make_credential, protect
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import CurveId, HashAlg
from nodeseal.tpm.buffer import Reader, sized
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.public import EccPublic, RsaPublic, TpmPublic, decode_public

AK_NAME = bytes.fromhex("000b") + bytes(range(32))
SECRET = bytes(range(100, 132))


class EncapsVector(NamedTuple):
    public: str
    ephemeral: int
    seed: str
    ciphertext: str


# tpm-test-vectors (Apache-2.0), ecc_labeled_encaps.json: 05, 08 and 10, which TPM2_ActivateCredential validated
ENCAPS = {
    "P-256, SHA-256, AES-128": EncapsVector(
        "0023000b000304600020bef56b8c1cc84e11edd717528d2cd99356bd2bbf8f015209c3f84aeeaba8e8a2000600800043001000030010"
        "0020f126562cedff2fa344c6234085de4250112ecf72d0714336970de012ba977da9002017436ee1160921fdd2ed033e11ba04ed0ced"
        "f2ca462246118a359f8eb469b531",
        0x85E55F8E90F1CA33EB4FC4B2E347E6062127D4975BC48C520AFDBCDD49B1C6D7,
        "88d8f97b4b8fd8bd1751ca32b5a3aa14c91163ad984b5c732e400572a8525edc",
        "00200173de00ffb1981886c1fd3039b2de4e6dd1eb34634be4d9ce27a46455633606002083ba87eb7c9a032cc36ab674fc48266c4255"
        "aeb312d069893b6ea74fbcb21c3f",
    ),
    "P-256, SHA-256, AES-256": EncapsVector(
        "0023000b000304600020bef56b8c1cc84e11edd717528d2cd99356bd2bbf8f015209c3f84aeeaba8e8a2000601000043001000030010"
        "00206266c9495ca058d4fa31daa02ffe177576ee1ec4cef070110d2c0db717a1dfe7002044af7a6f976ce3795a74ceead5d39b992429"
        "ccac015332e02a36cfe9a08fdb17",
        0xE91CA0A40E880A7C9DED640DC0E72EDB6A27298C7EB40A65D35E8C43E1A108E8,
        "4ea94bf9805a44fbd6e44eed7660f4a4ead618fca5dd975311dd1fd42248e30d",
        "00208784864949faa47b7c6b0a178f14bfdb120b0c2e8d5dd2eaa9ad83210b803c3e002063edf5d4bf14ae4a165c21ee2361dfc9f8e0"
        "d993a1f79c2477c50940dbaa14bc",
    ),
    "P-256, SHA-384, AES-128": EncapsVector(
        "0023000c000304600030faaa97a96648cf3028b4c29e62587317ed03d3bef5f50958523c21593b020a2fa177964893ca758b26f0a5f1"
        "6d0d0c1c000600800043001000030010002072d51078654c85db5fd8fe42e9eca7dff3f5ca464fbf1117370e47da8670da8d0020d4d7"
        "f00a210e4c58537829023e2bc5be7c910a663e461d3d69c96b8061f813f2",
        0x7BA4CDD8A7D50D482A2C22274E4DB5B7DDF8008889008A5E9996053EBCABF9D1,
        "9193a5751446fb0bb3b16104094cb1c2f1c7104af795f44c0d43c481c61936c3fb62f1a776848ec22e7b0218c48ef70e",
        "00202a2747ae88e664fd1266aacf8d1b438c1226ffdba416708367efc171af2937c60020cd8467bda798ee3a2d731c075096ae431ee8"
        "8a099746450dbc0180254711ac88",
    ),
}


@pytest.mark.parametrize("vector", ENCAPS.values(), ids=ENCAPS)
def test_the_seed_is_the_one_that_a_tpm_found(vector: EncapsVector) -> None:
    public = decode_public(bytes.fromhex(vector.public))
    assert isinstance(public, EccPublic)
    seed, point = agree_seed(public, ec.derive_private_key(vector.ephemeral, ec.SECP256R1()))
    assert (seed.hex(), point.hex()) == (vector.seed, vector.ciphertext)


# tpm-test-vectors, kdfa.json: 30, 38, 53 and 55; their contexts U and V follow each other
@pytest.mark.parametrize(
    ("alg", "key", "label", "context", "expected"),
    [
        pytest.param(
            HashAlg.SHA256,
            "",
            b"SECRET\0",
            "fbf51f160255018bbc8efea4c36ac4fb4cbba34e9eff3cea0fdc2600",
            "a26c73dca13a265e09eec4b0abc4ecb2bf8d26db04e8823ee6",
            id="less than a block",
        ),
        pytest.param(
            HashAlg.SHA256,
            "e38573d849a5cfc9973f58b4535e42b7c08ef28b1b3e775375b5c66b9644be",
            b"STORAGE\0",
            "00586dccbebc998087e4",
            "968f349b066ed26be3bd4e78333eb5c5b51c26ea376efe5dfaf061a2cf7f5eb82e4fcc2a30736e30f12b48ab17efd10576a4cf33"
            "450324b3f20011628df7a07c411f8c0f6c",
            id="three blocks",
        ),
        pytest.param(
            HashAlg.SHA384,
            "ff873218c658337b133d95677b350db6fad5f0fcee50ed948dbfa7bcf1eb7cf3da7b65e30d1004be0a29db0b94cb",
            b"INTEGRITY\0",
            "f4ba2ca34d644c764621b3fa4ec217018d38d18b759bbae330484a8ac2d5e8fb626b063555b85fa100"
            "005a66eb842dc34064ac55b3cfd1234692de",
            "41dcda37d9eb927530e3802cc23a2b2346ffddaeea",
            id="SHA-384",
        ),
    ],
)
def test_kdfa_agrees_with_the_vectors(alg: HashAlg, key: str, label: bytes, context: str, expected: str) -> None:
    derived = kdfa(alg, bytes.fromhex(key), label, bytes.fromhex(context), 4 * len(expected))
    assert derived.hex() == expected


def _open(seed: bytes, ek: TpmPublic, id_object: bytes) -> bytes:
    """Do what TPM2_ActivateCredential does."""
    outer = Reader(id_object, "TPM2B_ID_OBJECT")
    inner = Reader(outer.sized("content", 1024), "TPMS_ID_OBJECT")
    outer.end()
    tag, encrypted = inner.sized("hmac", 64), inner.take(2 + len(SECRET), "identity")
    inner.end()
    assert ek.symmetric is not None
    mac_key = kdfa(ek.name_alg, seed, b"INTEGRITY\0", b"", 8 * ek.name_alg.digest_size)
    assert tag == hmac.digest(mac_key, encrypted + AK_NAME, ek.name_alg.hashlib_name)
    key = kdfa(ek.name_alg, seed, b"STORAGE\0", AK_NAME, ek.symmetric.key_bits)
    return Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor().update(encrypted)


def _rsa_ek(bits: int = 2048) -> tuple[RsaPublic, rsa.RSAPrivateKey]:
    public = template("L-1").public
    assert isinstance(public, RsaPublic)
    key = rsa.generate_private_key(65537, bits)
    modulus = key.public_key().public_numbers().n.to_bytes(bits // 8, "big")
    return replace(public, modulus=modulus, key_bits=bits), key


def _ecc_ek(name: str, curve: ec.EllipticCurve) -> EccPublic:
    public = template(name).public
    assert isinstance(public, EccPublic)
    point = ec.generate_private_key(curve).public_key().public_numbers()
    size = public.curve.coordinate_size
    return replace(public, x=point.x.to_bytes(size, "big"), y=point.y.to_bytes(size, "big"))


def test_the_holder_of_an_rsa_key_gets_the_secret() -> None:
    ek, key = _rsa_ek()
    made = make_credential(ek, AK_NAME, SECRET)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
    assert _open(key.decrypt(made.encrypted_secret[2:], oaep), ek, made.id_object) == sized(SECRET)


def test_no_two_credentials_are_alike() -> None:
    ek, _ = _rsa_ek()
    first, second = (make_credential(ek, AK_NAME, SECRET) for _ in range(2))
    assert first.id_object != second.id_object
    assert first.encrypted_secret != second.encrypted_secret


@pytest.mark.parametrize("alg", [HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512])
def test_what_was_protected_opens(alg: HashAlg) -> None:
    ek = replace(_ecc_ek("L-2", ec.SECP256R1()), name_alg=alg)
    seed = bytes(alg.digest_size)
    assert _open(seed, ek, sized(protect(seed, alg, 128, AK_NAME, SECRET))) == sized(SECRET)


def test_a_secret_longer_than_a_digest_is_refused() -> None:
    with pytest.raises(MalformedInput, match="33 bytes"):
        make_credential(_ecc_ek("L-2", ec.SECP256R1()), AK_NAME, bytes(33))


_P256 = _ecc_ek("L-2", ec.SECP256R1())


@pytest.mark.parametrize(
    "ek",
    [
        pytest.param(replace(_P256, symmetric=None), id="no cipher"),
        pytest.param(replace(_P256, name_alg=HashAlg.SHA1), id="SHA-1 names"),
        pytest.param(replace(_P256, curve=CurveId.P224), id="P-224"),
        pytest.param(replace(_P256, y=_P256.x), id="not on the curve"),
        pytest.param(replace(_P256, x=b"", y=b""), id="no point"),
        pytest.param(replace(_rsa_ek()[0], modulus=b""), id="no modulus"),
        pytest.param(replace(_rsa_ek()[0], exponent=2), id="exponent 2"),
    ],
)
def test_unfit_endorsement_keys_are_refused(ek: TpmPublic) -> None:
    with pytest.raises(MalformedInput, match="endorsement key"):
        make_credential(ek, AK_NAME, SECRET)
