"""Whatever bytes come: a certificate decodes or is malformed, within bounds, and nothing else happens."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput
from nodeseal.x509.certificate import decode_certificate, split_certificates
from nodeseal.x509.der import DerReader
from nodeseal.x509.names import comparable_name
from support.certificates import ek_certificate, integer, oid, sequence, tlv

GOOD = ek_certificate()


def test_a_certificate_cut_anywhere_is_malformed() -> None:
    for size in range(len(GOOD)):
        with contextlib.suppress(MalformedInput):
            decode_certificate(GOOD[:size])
            raise AssertionError(size)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        decode_certificate(raw)
    with contextlib.suppress(MalformedInput):
        split_certificates(raw)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_changed_byte_never_breaks_the_reader(at: int, change: int) -> None:
    raw = bytearray(GOOD)
    raw[at] ^= change
    with contextlib.suppress(MalformedInput):
        decode_certificate(bytes(raw))


@given(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=20), st.integers(0, 20))
def test_bytes_put_in_or_taken_out_never_break_the_reader(at: int, put: bytes, taken: int) -> None:
    with contextlib.suppress(MalformedInput):
        decode_certificate(GOOD[:at] + put + GOOD[at + taken :])


@given(st.binary(max_size=60))
def test_any_bytes_compare_as_a_name(raw: bytes) -> None:
    assert comparable_name(raw) == comparable_name(bytes(raw))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_text_is_one_name_in_every_type_of_string_and_case(text: str) -> None:
    def named(content: bytes, tag: int) -> object:
        return comparable_name(sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(tag, content)))))

    same = {
        named(text.encode(), 0x0C),
        named(text.encode("utf-16-be"), 0x1E),
        named(text.encode("utf-32-be"), 0x1C),
        named(f" {text} ".encode(), 0x0C),
    }
    assert len(same) == 1


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_survive(value: int) -> None:
    assert DerReader(integer(value), "test").integer("n") == value


@given(st.tuples(st.integers(0, 1), st.integers(0, 39)), st.lists(st.integers(0, (1 << 64) - 1), max_size=10))
def test_object_identifiers_survive(top: tuple[int, int], rest: list[int]) -> None:
    dotted = ".".join(map(str, (*top, *rest)))
    assert DerReader(oid(dotted), "test").oid("id") == dotted


@given(st.integers(0, 30), st.binary(max_size=70_000))
def test_elements_survive(tag: int, content: bytes) -> None:
    element = DerReader(tlv(tag, content), "test").any("e")
    assert (element.tag, element.content) == (tag, content)
