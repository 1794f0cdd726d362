"""Event logs: what was encoded decodes to the same, and no bytes do anything but decode or be refused."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import NO_PCR, Event, EventLog, EventLogFormat, decode_event_log, encode_event_log, replay
from nodeseal.uefi.event_log_binding import binding
from nodeseal.uefi.event_log_text import describe_event
from nodeseal.uefi.event_log_types import EventType
from support.data import shared_data

ALGORITHMS = st.lists(st.sampled_from(HashAlg), min_size=1, max_size=4, unique=True).map(tuple)
TYPES = st.one_of(st.sampled_from(EventType).map(int), st.integers(0, 2**32 - 1))
REGISTERS = {EventLogFormat.SHA1: 23, EventLogFormat.CRYPTO_AGILE: 23, EventLogFormat.CCEL: 4}
MUTATIONS_PER_LOG = 60
"""Of each mutator, on each log of a real machine."""


def _digests(alg: HashAlg) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=alg.digest_size, max_size=alg.digest_size)


@st.composite
def logs(draw: st.DrawFn) -> EventLog:
    form = draw(st.sampled_from(EventLogFormat))
    algorithms = (HashAlg.SHA1,) if form is EventLogFormat.SHA1 else draw(ALGORITHMS)
    events = st.builds(
        Event,
        # an event of a SHA-1 log that is all zeros would be taken for filler
        pcr=st.integers(form is EventLogFormat.SHA1, REGISTERS[form]),
        claimed_type=TYPES,
        digests=st.fixed_dictionaries({alg: _digests(alg) for alg in algorithms}),
        data=st.binary(max_size=40),
    )
    found = draw(st.lists(events, min_size=int(form is EventLogFormat.SHA1), max_size=5))
    return EventLog(algorithms, tuple(found), form)


def read_all(raw: bytes) -> None:
    """Decode, replay and describe, as the command line does."""
    log = decode_event_log(raw)
    for _, event in log.numbered():
        assert describe_event(event).isprintable()
        assert event.pcr <= REGISTERS[log.form] or event.pcr == NO_PCR
        for bank in log.algorithms:
            binding(event, bank)
    for bank in log.algorithms:
        replay(log, bank)


@given(logs())
def test_a_log_survives_encoding_and_decoding(log: EventLog) -> None:
    assert decode_event_log(encode_event_log(log)) == log


@given(logs(), st.data())
def test_a_damaged_log_decodes_or_is_refused(log: EventLog, data: st.DataObject) -> None:
    raw = bytearray(encode_event_log(log))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedInput):
        read_all(bytes(raw))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        read_all(raw)


@given(TYPES, st.binary(max_size=200))
def test_any_data_of_any_type_is_described_in_one_inert_line(claimed_type: int, data: bytes) -> None:
    event = Event(pcr=0, claimed_type=claimed_type, digests={HashAlg.SHA256: bytes(32)}, data=data)
    assert describe_event(event).isprintable()
    binding(event, HashAlg.SHA256)


def _flip(raw: bytearray, chance: random.Random) -> None:
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)


def _cut(raw: bytearray, chance: random.Random) -> None:
    del raw[chance.randrange(len(raw)) :]


def _drop(raw: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(raw))
    del raw[start : start + chance.randrange(1, 64)]


def _insert(raw: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(raw))
    raw[start:start] = chance.randbytes(chance.randrange(1, 64))


def _spread(raw: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(raw))
    raw[start : start + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"\xff\xff\0\0"))


@pytest.mark.parametrize("mutate", [_flip, _cut, _drop, _insert, _spread])
def test_logs_of_real_machines_with_damage_decode_or_are_refused(
    mutate: Callable[[bytearray, random.Random], None],
) -> None:
    chance = random.Random(mutate.__name__)  # noqa: S311 - the same damage in every run
    refused = 0
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        whole = path.read_bytes()[:20_000]
        for _ in range(MUTATIONS_PER_LOG if whole else 0):
            raw = bytearray(whole)
            mutate(raw, chance)
            try:
                log = decode_event_log(bytes(raw))
                for bank in log.algorithms:
                    replay(log, bank)
            except MalformedInput:
                refused += 1
    assert refused > MUTATIONS_PER_LOG


def test_a_small_log_of_a_real_machine_is_read_or_refused_when_cut_anywhere() -> None:
    whole = shared_data("uefi-eventlogs", "sdboot-fedora37.bin").read_bytes()
    for size in range(len(whole)):
        with contextlib.suppress(MalformedInput):
            read_all(whole[:size])
