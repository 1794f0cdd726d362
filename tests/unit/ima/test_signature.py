"""The header around a file's signature: exact, and refused when its inner size lies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.ima.hash import KERNEL_HASHES_BY_NAME
from nodeseal.ima.signature import ImaSignature, SignatureKind, decode_ima_signature
from support.data import shared_data
from support.ima import encode_ima_signature

SHA256 = KERNEL_HASHES_BY_NAME["sha256"]
GOOD = ImaSignature(hash_alg=SHA256, key_id=b"\xf3\x45\x2d\x23", signature=b"\x30\x06\2\1\1\2\1\1")
RAW = encode_ima_signature(GOOD)


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(GOOD, id="a file's digest"),
        pytest.param(ImaSignature(version=3, hash_alg=SHA256, key_id=b"abcd", signature=b"s"), id="a file's id"),
        pytest.param(
            ImaSignature(kind=SignatureKind.VERITY, version=3, hash_alg=SHA256, key_id=b"abcd", signature=b"s"),
            id="an fs-verity descriptor",
        ),
        pytest.param(
            ImaSignature(kind=SignatureKind.EVM_PORTABLE, hash_alg=SHA256, key_id=b"abcd", signature=bytes(65535)),
            id="metadata, as long as can be",
        ),
        pytest.param(
            ImaSignature(kind=SignatureKind.EVM_PORTABLE, version=3, hash_alg=SHA256, key_id=b"abcd", signature=b"s"),
            id="metadata's id",
        ),
    ],
)
def test_every_signature_survives(signature: ImaSignature) -> None:
    assert decode_ima_signature(encode_ima_signature(signature)) == signature


def test_the_header_is_the_kernels() -> None:
    """struct signature_v2_hdr: type, version, hash_algo, keyid (be32), sig_size (be16)."""
    assert bytes.fromhex("030204f3452d230008") + GOOD.signature == RAW


def test_a_signature_cut_anywhere_or_longer_is_refused() -> None:
    for raw in [*(RAW[:size] for size in range(len(RAW))), RAW + b"\0"]:
        with pytest.raises(MalformedInput, match=r"IMA signature: \d+ bytes"):
            decode_ima_signature(raw)


def test_a_header_without_a_signature_is_refused() -> None:
    with pytest.raises(MalformedInput, match="9 bytes, a header alone has 9"):
        decode_ima_signature(encode_ima_signature(replace(GOOD, signature=b"")))


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        pytest.param(0, 4, "type 4, none that a signature has", id="a digest, no signature"),
        pytest.param(1, 1, "unknown version 1 of type 3", id="the old GnuPG format"),
        pytest.param(1, 4, "unknown version 4 of type 3", id="a version to come"),
        pytest.param(0, 6, "unknown version 2 of type 6", id="an fs-verity signature over the bare digest"),
        pytest.param(2, 23, "unknown hash algorithm 23", id="a hash that is none"),
        pytest.param(8, 7, "8 bytes, its header says 7", id="a size that is too small"),
        pytest.param(7, 1, "8 bytes, its header says 264", id="a size that is too large"),
    ],
)
def test_a_header_that_is_wrong_is_refused_by_name(at: int, value: int, problem: str) -> None:
    raw = bytearray(RAW)
    raw[at] = value
    with pytest.raises(MalformedInput, match=problem):
        decode_ima_signature(bytes(raw))


def test_the_bad_signature_of_keylime_is_refused_for_its_inner_size() -> None:
    raw = shared_data("ima-logs", "keylime-ascii", "bad-signatures.txt").read_text().split()[-1]
    with pytest.raises(MalformedInput, match="72 bytes, its header says 18432"):
        decode_ima_signature(bytes.fromhex(raw))
