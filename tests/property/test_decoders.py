"""Whatever arrives, a decoder returns a value or refuses with an error of ours, and says where."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput, NodesealError
from support.decoders import DECODERS, Decoder

GOOD = [(f"{name}-{n}", each, raw) for name, each in DECODERS.items() for n, raw in enumerate(each.good)]
ANY = [pytest.param(each, raw, id=name) for name, each, raw in GOOD]
EXACT = [pytest.param(each, raw, id=name) for name, each, raw in GOOD if each.exact]
OTHERS = [pytest.param(each, raw, id=name) for name, each, raw in GOOD if not each.exact]


@pytest.mark.parametrize("name", DECODERS)
@given(raw=st.binary(max_size=400))
def test_any_bytes_are_decoded_or_refused(name: str, raw: bytes) -> None:
    with contextlib.suppress(NodesealError):
        DECODERS[name].decode(raw)


@pytest.mark.parametrize(("decoder", "raw"), ANY)
def test_a_good_example_is_decoded(decoder: Decoder, raw: bytes) -> None:
    assert decoder.decode(raw) is not None


@pytest.mark.parametrize(("decoder", "raw"), ANY)
@given(data=st.data())
def test_a_good_example_with_bytes_changed_is_decoded_or_refused(
    decoder: Decoder, raw: bytes, data: st.DataObject
) -> None:
    changed = bytearray(raw)
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        changed[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NodesealError):
        decoder.decode(bytes(changed))


@pytest.mark.parametrize(("decoder", "raw"), EXACT)
def test_a_good_example_cut_anywhere_is_refused(decoder: Decoder, raw: bytes) -> None:
    for size in range(len(raw)):
        with pytest.raises(MalformedInput):
            decoder.decode(raw[:size])


@pytest.mark.parametrize(("decoder", "raw"), EXACT)
@pytest.mark.parametrize("more", [b"\x00", b"\xff", b" "])
def test_a_good_example_with_one_byte_more_is_refused(decoder: Decoder, raw: bytes, more: bytes) -> None:
    with pytest.raises(MalformedInput):
        decoder.decode(raw + more)


@pytest.mark.parametrize(("decoder", "raw"), OTHERS)
def test_a_good_example_cut_anywhere_raises_nothing_foreign(decoder: Decoder, raw: bytes) -> None:
    for size in range(len(raw)):
        with contextlib.suppress(NodesealError):
            decoder.decode(raw[:size])
