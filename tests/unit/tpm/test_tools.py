from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.tools import MAX_PCR_FILE, ClaimedPcrs, decode_pcr_file
from support.codec import assert_exact
from support.pcr_files import marshaled, serialized

SELECTION = PcrSelection.of({HashAlg.SHA384: (0, 7), HashAlg.SHA1: range(10)})
VALUES = tuple(bytes([number]) * bank.digest_size for number, (bank, _) in enumerate(SELECTION.indices(), 1))
SWAPPED = PcrSelection(SELECTION.banks[::-1])
FORMS = {
    "serialized": serialized(SELECTION, VALUES),
    "marshaled": marshaled(SELECTION, VALUES),
    "values": b"".join(VALUES),
}
LISTS_AT = 4 + 16 * 8


@pytest.mark.parametrize("form", FORMS)
def test_every_binary_form_gives_the_values_in_their_order(form: str) -> None:
    assert decode_pcr_file(FORMS[form], SELECTION) == ClaimedPcrs(VALUES)


@pytest.mark.parametrize("form", ["marshaled", "values"])
def test_cut_and_long_files_are_refused(form: str) -> None:
    assert_exact(lambda raw: decode_pcr_file(raw, SELECTION), FORMS[form])


def test_a_serialized_file_of_any_other_length_is_refused() -> None:
    raw, bare = FORMS["serialized"], len(FORMS["values"])
    cuts = (raw[:length] for length in range(len(raw)) if length != bare)  # of that length are bare values
    for changed in (*cuts, raw + b"\0", raw + bytes(532)):
        with pytest.raises(MalformedInput):
            decode_pcr_file(changed, SELECTION)


@pytest.mark.parametrize("form", ["serialized", "marshaled"])
@pytest.mark.parametrize(
    "quoted", [SWAPPED, PcrSelection.of({HashAlg.SHA384: (0, 7)}), PcrSelection.of({HashAlg.SHA384: (0, 8)})]
)
def test_a_file_for_another_selection_than_the_quotes_is_refused(form: str, quoted: PcrSelection) -> None:
    with pytest.raises(MalformedInput, match=r"PCR file: holds values of .*, the quote covers"):
        decode_pcr_file(FORMS[form], quoted)


def _patched(at: int, new: bytes) -> bytes:
    raw = FORMS["serialized"]
    return raw[:at] + new + raw[at + len(new) :]


REFUSED = {
    "an unknown bank": (_patched(5, b"\x01"), "hash is 0x010c"),
    "a bitmap of 255 bytes": (_patched(6, b"\xff"), "sizeofSelect is 255|pcrSelections is cut off"),
    "three lists where it has room for two": (_patched(LISTS_AT, b"\3"), "declares 3 lists"),
    "a list of nine digests": (_patched(LISTS_AT + 4, b"\x09"), "a list of 9 digests, at most 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_serialized_file_is_refused_with(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(MalformedInput, match=reason):
        decode_pcr_file(raw, SELECTION)


@pytest.mark.parametrize(
    ("field", "number"), [("number of lists", 33), ("TPML_DIGEST.count", 9), ("TPML_DIGEST.count", 1 << 31)]
)
def test_a_marshaled_file_with_absurd_counts_is_refused(field: str, number: int) -> None:
    lists = number if field == "number of lists" else 1
    raw = SELECTION.encode() + struct.pack(">II", lists, number)
    with pytest.raises(MalformedInput, match=f"{field} is {number}"):
        decode_pcr_file(raw, SELECTION)


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(MalformedInput, match="at most"):
        decode_pcr_file(bytes(MAX_PCR_FILE + 1), SELECTION)


def test_values_that_look_like_a_count_of_banks_are_still_values() -> None:
    selection = PcrSelection.of({HashAlg.SHA256: (16,)})
    assert decode_pcr_file(bytes(32), selection).values == (bytes(32),)


def test_text_may_hold_more_than_was_quoted() -> None:
    raw = b'{"sha1": {"0": "%s", "1": "%s"}}' % (b"00" * 20, b"11" * 20)
    assert decode_pcr_file(raw, PcrSelection.of({HashAlg.SHA1: (1,)})) == ClaimedPcrs((b"\x11" * 20,), 1)


def test_text_without_a_quoted_value_is_refused() -> None:
    raw = b'{"sha1": {"0": "%s"}}' % (b"00" * 20)
    with pytest.raises(MalformedInput, match="no value for sha1:1, sha1:2, which the quote selects"):
        decode_pcr_file(raw, PcrSelection.of({HashAlg.SHA1: (0, 1, 2)}))
