from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.buffer import Reader, sized, u8, u16, u32


def test_reads_what_was_written() -> None:
    reader = Reader(u8(1) + u16(0x203) + u32(0x4050607) + sized(b"nine"), "thing")
    assert (reader.u8("a"), reader.u16("b"), reader.u32("c")) == (1, 0x203, 0x4050607)
    assert reader.sized("e", 4) == b"nine"
    reader.end()


@pytest.mark.parametrize("method", ["u8", "u16", "u32"])
def test_an_integer_that_is_cut_off_is_refused(method: str) -> None:
    with pytest.raises(MalformedInput, match="thing: field is cut off"):
        getattr(Reader(b"" if method == "u8" else b"\0", "thing"), method)("field")


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\1", b"\0\3ab"])
def test_a_sized_field_that_is_cut_off_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="thing: field is cut off"):
        Reader(raw, "thing").sized("field", 64)


def test_a_size_above_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(MalformedInput, match="thing: field declares 5 bytes, at most 4"):
        Reader(sized(b"12345"), "thing").sized("field", 4)


def test_what_is_left_can_be_handed_on() -> None:
    reader = Reader(b"\1\2\3", "thing")
    reader.u8("field")
    assert reader.rest() == b"\2\3"
    reader.end()


def test_trailing_bytes_are_refused() -> None:
    reader = Reader(b"\1\2\3", "thing")
    reader.u8("field")
    with pytest.raises(MalformedInput, match="thing: 2 bytes too many"):
        reader.end()
