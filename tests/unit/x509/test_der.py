from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.x509 import der
from nodeseal.x509.der import DerReader


def read(raw: str) -> DerReader:
    return DerReader(bytes.fromhex(raw), "test")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("020100", 0), ("02017f", 127), ("02020080", 128), ("0201ff", -1), ("0203010001", 65537)],
)
def test_integers_have_a_sign(raw: str, expected: int) -> None:
    assert read(raw).integer("n") == expected


@pytest.mark.parametrize(("raw", "expected"), [("0101ff", True), ("010100", False)])
def test_booleans(raw: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert read(raw).boolean("b") is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("06032a8648", "1.2.840"),
        ("0603551d0f", "2.5.29.15"),
        ("06056781050801", "2.23.133.8.1"),
        ("0603883703", "2.999.3"),
        ("060100", "0.0"),
        ("060127", "0.39"),
    ],
)
def test_object_identifiers_are_dotted(raw: str, expected: str) -> None:
    assert read(raw).oid("id") == expected


def test_flags_are_numbered_from_the_first_bit() -> None:
    assert read("03020520").flags("usage") == {2}
    assert read("03020106").flags("usage") == {5, 6}
    assert read("0303070080").flags("usage") == {8}
    assert read("030100").flags("usage") == frozenset()


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        pytest.param(0x17, b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), id="two digits, 2049"),
        pytest.param(0x17, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC), id="two digits, 1950"),
        pytest.param(0x18, b"99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), id="no end"),
    ],
)
def test_times_are_in_utc(tag: int, text: bytes, expected: datetime) -> None:
    assert DerReader(bytes([tag, len(text)]) + text, "test").time("t") == expected


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        pytest.param(0x17, b"4912312359Z", id="no seconds"),
        pytest.param(0x17, b"491231235959", id="no zone"),
        pytest.param(0x17, b"491231235959+0100", id="another zone"),
        pytest.param(0x18, b"20491231235959.5Z", id="fraction"),
        pytest.param(0x18, b"20490231235959Z", id="30th of February"),
        pytest.param(0x18, b"2049123123595 Z", id="space"),
        pytest.param(0x18, "2049123123595²Z".encode(), id="not ASCII"),
        pytest.param(0x13, b"20491231235959Z", id="not a time"),
        pytest.param(0x18, b"00000101000000Z", id="year zero"),
    ],
)
def test_other_times_are_refused(tag: int, text: bytes) -> None:
    with pytest.raises(MalformedInput, match="is not a"):
        DerReader(bytes([tag, len(text)]) + text, "test").time("t")


def test_elements_keep_their_own_bytes() -> None:
    reader = read("3003020105" + "0500")
    element = reader.element(der.SEQUENCE, "s")
    assert (element.raw.hex(), element.content.hex()) == ("3003020105", "020105")
    assert reader.any("n").tag == 0x05
    reader.end()


def test_long_lengths_are_read() -> None:
    raw = bytes.fromhex("04820100") + bytes(256)
    assert DerReader(raw, "test").octets("o") == bytes(256)


def test_errors_name_structure_field_and_offset() -> None:
    with pytest.raises(MalformedInput, match=r"^outer: inner: number is missing .* before byte 0 of 2$"):
        DerReader(bytes.fromhex("30020500"), "outer").inside(der.SEQUENCE, "inner").integer("number")


@pytest.mark.parametrize(
    ("raw", "use", "message"),
    [
        pytest.param("", lambda r: r.any("f"), "is cut off", id="nothing"),
        pytest.param("30", lambda r: r.any("f"), "is cut off", id="no length"),
        pytest.param("0402ff", lambda r: r.any("f"), "is cut off", id="content cut"),
        pytest.param("3080", lambda r: r.any("f"), "indefinite", id="indefinite length"),
        pytest.param("308400000001ff", lambda r: r.any("f"), "huge", id="length of four bytes"),
        pytest.param("04817f" + "00" * 127, lambda r: r.any("f"), "minimal", id="long form for a short length"),
        pytest.param("04820080" + "00" * 128, lambda r: r.any("f"), "minimal", id="leading zero in the length"),
        pytest.param("1f8101", lambda r: r.any("f"), "above 30", id="high tag number"),
        pytest.param("0200", lambda r: r.integer("f"), "empty", id="empty integer"),
        pytest.param("0400", lambda r: r.integer("f"), "missing", id="another tag"),
        pytest.param("010101", lambda r: r.boolean("f"), "neither", id="boolean 1"),
        pytest.param("0102ffff", lambda r: r.boolean("f"), "neither", id="long boolean"),
        pytest.param("0600", lambda r: r.oid("f"), "not an object", id="empty identifier"),
        pytest.param("060180", lambda r: r.oid("f"), "not an object", id="identifier cut"),
        pytest.param("060b" + "ff" * 10 + "7f", lambda r: r.oid("f"), "64 bits", id="huge arc"),
        pytest.param("030201fe", lambda r: r.bits("f"), "whole bytes", id="bits that are not bytes"),
        pytest.param("0300", lambda r: r.bits("f"), "whole bytes", id="no bits at all"),
        pytest.param("0300", lambda r: r.flags("f"), "not a bit string", id="flags without count"),
        pytest.param("030208ff", lambda r: r.flags("f"), "not a bit string", id="eight unused bits"),
        pytest.param("030107", lambda r: r.flags("f"), "not a bit string", id="unused bits of no byte"),
        pytest.param("0500", lambda r: r.end(), "2 bytes too many", id="trailing bytes"),
    ],
)
def test_what_is_not_der_is_refused(raw: str, use: Callable[[DerReader], object], message: str) -> None:
    with pytest.raises(MalformedInput, match=message):
        use(read(raw))
