"""Event logs: what was encoded decodes to the same, and no bytes do anything but decode or be refused."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import Event, EventLog, decode_event_log, encode_event_log, replay

ALGORITHMS = st.lists(st.sampled_from(HashAlg), min_size=1, max_size=4, unique=True).map(tuple)


def _digests(alg: HashAlg) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=alg.digest_size, max_size=alg.digest_size)


@st.composite
def logs(draw: st.DrawFn) -> EventLog:
    algorithms = draw(ALGORITHMS)
    events = st.builds(
        Event,
        pcr=st.integers(0, 23),
        claimed_type=st.integers(0, 2**32 - 1),
        digests=st.fixed_dictionaries({alg: _digests(alg) for alg in algorithms}),
        data=st.binary(max_size=40),
    )
    return EventLog(algorithms, tuple(draw(st.lists(events, max_size=5))))


@given(logs())
def test_a_log_survives_encoding_and_decoding(log: EventLog) -> None:
    assert decode_event_log(encode_event_log(log)) == log


@given(logs(), st.data())
def test_a_damaged_log_decodes_or_is_refused(log: EventLog, data: st.DataObject) -> None:
    raw = bytearray(encode_event_log(log))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedInput):
        decoded = decode_event_log(bytes(raw))
        for bank in decoded.algorithms:
            replay(decoded, bank)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        decode_event_log(raw)
