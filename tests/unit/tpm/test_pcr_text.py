from __future__ import annotations

import base64
import json

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.pcr_text import looks_like_text, parse_pcr_values

A, B = b"\xaa" * 32, b"\xbb" * 32
C = b"\xcc" * 20
ONE = PcrSelection.of({HashAlg.SHA256: (0, 1)})
TWO = PcrSelection.of({HashAlg.SHA1: (7,), HashAlg.SHA256: (0, 1)})
EXPECTED = {(HashAlg.SHA256, 0): A, (HashAlg.SHA256, 1): B}
BY_INDEX = {"0": A.hex(), "1": B.hex()}

SHAPES: dict[str, object] = {
    "values by bank and index": {"sha256": BY_INDEX},
    "bank names in other spellings": {"SHA-256": BY_INDEX},
    "bank names of the specification": {"TPM_ALG_SHA256": BY_INDEX},
    "bank numbers of the specification in entries": {"algorithm": 11, "pcrs": BY_INDEX},
    "lists by bank": {"sha256": [A.hex(), B.hex()]},
    "a bank below a wrapper, beside other facts": {"banks": {"sha256": BY_INDEX}, "source": "a machine"},
    "a bank beside its values": {"hash": "SHA256", "pcrs": BY_INDEX},
    "values in base64": {"hash": "SHA256", "pcrs": {"0": base64.b64encode(A).decode(), "1": B.hex()}},
    "values with 0x and capitals": {"sha256": {"0": "0x" + A.hex().upper(), "1": B.hex()}},
    "indices only": BY_INDEX,
    "indices behind a prefix": {"sha256": {"PCR-00": A.hex(), "pcr1": B.hex()}},
    "a bare list": [A.hex(), B.hex()],
    "a list within evidence": {"tpm_quote": {"pcrs": [A.hex(), B.hex()], "message": "…"}, "ak_public": "…"},
    "a list of banks": [{"algorithm": "sha256", "pcrs": BY_INDEX}],
    "a list of values": [
        {"bank": "sha256", "pcr": 0, "digest": A.hex()},
        {"bank": "sha256", "pcr": 1, "digest": B.hex()},
    ],
    "a list of Go values": [
        {"Index": 0, "Digest": base64.b64encode(A).decode(), "DigestAlg": 11},
        {"Index": 1, "Digest": base64.b64encode(B).decode(), "DigestAlg": 11},
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_json_is_read_in_the_shape_of(shape: str) -> None:
    assert parse_pcr_values(json.dumps(SHAPES[shape]).encode(), ONE) == EXPECTED


def test_a_bare_list_of_the_quoted_values_follows_the_order_of_the_banks() -> None:
    raw = json.dumps([C.hex(), A.hex(), B.hex()]).encode()
    assert parse_pcr_values(raw, TWO) == {(HashAlg.SHA1, 7): C, **EXPECTED}


def test_what_tpm2_pcrread_prints_is_read() -> None:
    raw = f"  sha1:\n    7 : 0x{C.hex()}\n  sha256:\n    0 : 0x{A.hex().upper()}\n    1 : 0x{B.hex()}\n".encode()
    assert parse_pcr_values(raw, TWO) == {(HashAlg.SHA1, 7): C, **EXPECTED}


REFUSED = {
    "a number": ("[1]", "unknown shape"),
    "text that is not JSON": ('{"sha256": ', "not JSON"),
    "JSON that is nested too deep": ('{"pcrs":' * 100_000, "not JSON"),
    "JSON that is nested as deep as parses": ('{"pcrs":' * 700 + "[]" + "}" * 700, "not JSON|unknown shape"),
    "a key twice": ('{"0": "", "0": ""}', "duplicate key"),
    "a value twice": (json.dumps({"0": A.hex(), "00": A.hex()}), "sha256:00 is given twice"),
    "PCR 24 behind a prefix": (json.dumps({"pcr24": A.hex()}), "'pcr24' is no PCR index"),
    "PCR 24": (json.dumps({"24": A.hex()}), "'24' is no PCR index"),
    "an index of a thousand digits": (json.dumps({"1" * 1000: A.hex()}), "unknown hash algorithm"),
    "an unknown bank": (json.dumps({"sha3": BY_INDEX}), "unknown hash algorithm"),
    "an unknown member": (json.dumps({"sha256": BY_INDEX, "note": "x"}), "unknown hash algorithm 'note'"),
    "a value of another bank's size": (json.dumps({"0": C.hex()}), "not the hex or base64 of a sha256 digest"),
    "a value that is no text": (json.dumps({"0": 7}), "not the hex or base64"),
    "hex with spaces": (json.dumps({"0": A.hex(" ")[:64]}), "not the hex or base64"),
    "a line of another format": ("sha256: all fine", "not what tpm2_pcrread prints"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_text_is_refused_with(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(MalformedInput, match=reason):
        parse_pcr_values(raw.encode(), ONE)


def test_an_empty_mapping_holds_no_value() -> None:
    assert parse_pcr_values(b"{}", ONE) == {}


@pytest.mark.parametrize("raw", [json.dumps(BY_INDEX), json.dumps([A.hex()])])
def test_values_without_a_bank_are_refused_where_several_were_quoted(raw: str) -> None:
    with pytest.raises(MalformedInput, match="names no bank and the quote covers several"):
        parse_pcr_values(raw.encode(), TWO)


def test_binary_is_not_taken_for_text() -> None:
    assert looks_like_text(b' \n{"sha1": []}\n')
    assert not any(map(looks_like_text, (b"", b"  ", b"{\x00}", b"sha256:\xff", bytes(32))))
