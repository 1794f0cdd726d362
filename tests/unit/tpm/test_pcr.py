from __future__ import annotations

import hashlib

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.buffer import Reader
from nodeseal.tpm.pcr import PcrSelection, decode_pcr_selection, pcr_digest
from support.codec import assert_exact
from support.tpm_values import SELECTION


def decode(raw: bytes) -> PcrSelection | None:
    reader = Reader(raw, "TPML_PCR_SELECTION")
    selection = decode_pcr_selection(reader)
    reader.end()
    return selection


def test_a_selection_survives_the_wire_with_its_order_of_banks() -> None:
    assert decode(SELECTION.encode()) == SELECTION
    assert list(SELECTION.indices()) == [
        *((HashAlg.SHA256, index) for index in (0, 1, 7)),
        *((HashAlg.SHA1, index) for index in (10, 23)),
    ]
    assert SELECTION.size == 5
    assert str(SELECTION) == "sha256:0,1,7+sha1:10,23"


def test_cut_and_long_selections_are_refused() -> None:
    assert_exact(decode, SELECTION.encode())


def test_the_order_of_banks_makes_another_selection() -> None:
    assert PcrSelection(SELECTION.banks[::-1]) != SELECTION


def test_four_bytes_of_bitmap_mean_the_same_as_three() -> None:
    assert decode(bytes.fromhex("00000001 000b 04 83000000")) == PcrSelection.of({HashAlg.SHA256: (0, 1, 7)})


def test_a_bank_without_pcrs_is_dropped() -> None:
    raw = bytes.fromhex("00000002 0004 03 000000 000b 03 010000")
    assert decode(raw) == PcrSelection.of({HashAlg.SHA256: (0,)})


@pytest.mark.parametrize("raw", ["00000000", "00000001 000b 03 000000"])
def test_a_selection_of_nothing_is_none(raw: str) -> None:
    assert decode(bytes.fromhex(raw)) is None


REFUSED = {
    "an unknown bank": ("00000001 0012 03 010000", "hash is 0x0012"),
    "a bank named twice": ("00000002 000b 03 010000 000b 03 020000", "name a bank twice"),
    "a bank named twice, once without pcrs": ("00000002 000b 03 010000 000b 03 000000", "name a bank twice"),
    "pcr 24": ("00000001 000b 04 00000001", "index outside"),
    "two bytes of bitmap": ("00000001 000b 02 0100", "sizeofSelect is 2"),
    "no bitmap": ("00000001 000b 00", "sizeofSelect is 0"),
    "a bitmap of 255 bytes": ("00000001 000b ff" + "00" * 255, "sizeofSelect is 255"),
    "seventeen entries": ("00000011" + "000b03010000" * 17, "is 17, at most 16"),
    "four billion entries": ("ffffffff", "at most 16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_selection_is_refused_with(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(MalformedInput, match=reason):
        decode(bytes.fromhex(raw))


@pytest.mark.parametrize(
    "banks",
    [
        (),
        ((HashAlg.SHA256, ()),),
        ((HashAlg.SHA256, (1, 0)),),
        ((HashAlg.SHA256, (1, 1)),),
        ((HashAlg.SHA256, (24,)),),
        ((HashAlg.SHA256, (-1,)),),
        ((HashAlg.SHA256, (0,)), (HashAlg.SHA256, (1,))),
    ],
)
def test_a_selection_that_breaks_a_rule_cannot_be_made(banks: tuple[tuple[HashAlg, tuple[int, ...]], ...]) -> None:
    with pytest.raises(MalformedInput, match="PCR selection"):
        PcrSelection(banks)


def test_the_digest_is_over_the_concatenated_values() -> None:
    assert pcr_digest(HashAlg.SHA384, [b"a", b"bc"]) == hashlib.sha384(b"abc").digest()
