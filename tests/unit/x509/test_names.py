"""Names compare by their characters (RFC 5280 §7.1), and bytes that are no name compare by their bytes."""

from __future__ import annotations

import pytest

from nodeseal.x509.names import comparable_name, organisation
from support.certificates import grow, name, oid, sequence, tlv

COMMON_NAME, ORGANISATION = "2.5.4.3", "2.5.4.10"
UTF8, PRINTABLE, TELETEX, IA5, UNIVERSAL, BMP, OCTETS = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E, 0x04


def value(content: bytes, tag: int = UTF8, kind: str = COMMON_NAME) -> bytes:
    return sequence(oid(kind), tlv(tag, content))


def one(content: bytes, tag: int = UTF8, kind: str = COMMON_NAME) -> bytes:
    return sequence(tlv(0x31, value(content, tag, kind)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(one(b"STM TPM"), one(b"STM TPM", PRINTABLE), id="UTF8String and PrintableString"),
        pytest.param(one(b"Root"), one("Root".encode("utf-16-be"), BMP), id="BMPString"),
        pytest.param(one(b"Root"), one("Root".encode("utf-32-be"), UNIVERSAL), id="UniversalString"),
        pytest.param(one(b"a@b"), one(b"a@b", IA5), id="IA5String"),
        pytest.param(one("é".encode()), one(b"\xe9", TELETEX), id="TeletexString"),
        pytest.param(one(b"Root CA"), one(b"rOOT ca"), id="case"),
        pytest.param(one(b"STRASSE"), one("straße".encode()), id="case that folds to two letters"),
        pytest.param(one(b"Root CA"), one(b"  Root \t CA "), id="white space"),
        pytest.param(one(b"Root CA"), one("Root\u00a0CA".encode()), id="a space that does not break"),
        pytest.param(one(b"Root"), one("Ro\u00adot\u200b".encode()), id="a soft hyphen and a space without width"),
        pytest.param(one(b"Root"), one("Ro\ufe01ot\0".encode()), id="a variation selector and a control character"),
        pytest.param(one("e\u0301".encode()), one("\u00e9".encode()), id="an accent of its own"),
        pytest.param(one("\uff32\uff2f\uff2f\uff34".encode()), one(b"root"), id="wide letters"),
        pytest.param(
            sequence(tlv(0x31, value(b"a"), value(b"b", kind=ORGANISATION))),
            sequence(tlv(0x31, value(b"b", kind=ORGANISATION), value(b"a"))),
            id="a set in another order",
        ),
    ],
)
def test_names_that_read_the_same_are_equal(first: bytes, second: bytes) -> None:
    assert comparable_name(first) == comparable_name(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(one(b"Root 1"), one(b"Root 2"), id="another character"),
        pytest.param(one(b"Root CA"), one(b"RootCA"), id="a space less"),
        pytest.param(one(b"Root"), one(b"Root", kind=ORGANISATION), id="another attribute"),
        pytest.param(
            sequence(tlv(0x31, value(b"a")), tlv(0x31, value(b"b"))),
            sequence(tlv(0x31, value(b"b")), tlv(0x31, value(b"a"))),
            id="another order of RDNs",
        ),
        pytest.param(
            sequence(tlv(0x31, value(b"a"), value(b"b"))),
            sequence(tlv(0x31, value(b"a")), tlv(0x31, value(b"b"))),
            id="one RDN or two",
        ),
        pytest.param(one(b"Root"), one(b"root", OCTETS), id="no text"),
        pytest.param(one(b"Root", OCTETS), one(b"root", OCTETS), id="no text in another case"),
        pytest.param(one(b"\xe9", PRINTABLE), one(b"\xc9", PRINTABLE), id="not the text that the type promises"),
        pytest.param(one(b"a" * 1025), one(b"A" * 1025), id="too long to prepare"),
        pytest.param(one(b"Root"), grow(one(b"Root"), 0, 0), id="something behind the value"),
        pytest.param(sequence(), one(b""), id="an empty name and an empty value"),
        pytest.param(b"\x30\x02\x05\x00", b"\x30\x02\x05\x01", id="no names at all"),
    ],
)
def test_other_names_are_not(first: bytes, second: bytes) -> None:
    assert comparable_name(first) != comparable_name(second)


def test_the_empty_name_is_empty() -> None:
    assert comparable_name(sequence()) == ()


def test_bytes_that_are_no_name_equal_themselves() -> None:
    broken = name("Root")[:-1]
    assert comparable_name(broken) == comparable_name(broken)
    assert comparable_name(broken) != comparable_name(name("Root"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (sequence(tlv(0x31, value(b"CN")), tlv(0x31, value(b"Infineon AG", kind=ORGANISATION))), "Infineon AG"),
        (one("Maß".encode(), kind=ORGANISATION), r"Ma\xdf"),
        (one(b"\x1b[2J", kind=ORGANISATION), r"\x1b[2J"),
        (one(b"x" * 200, kind=ORGANISATION), "x" * 80),
        (one(b"only a CN"), ""),
        (b"\x30\x02\x05\x00", ""),
    ],
)
def test_the_organisation_is_shown_in_letters_that_print(raw: bytes, expected: str) -> None:
    assert organisation(raw) == expected
