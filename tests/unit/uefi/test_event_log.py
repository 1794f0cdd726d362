"""Event logs: what decodes in each format, what does not, and how it replays."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import (
    NO_PCR,
    Event,
    EventLog,
    EventLogFormat,
    decode_event_log,
    encode_event_log,
    replay,
    startup_locality,
)
from nodeseal.uefi.event_log_reader import MAX_LOG
from nodeseal.uefi.event_log_types import EventType

SHA1, SHA256, SHA384 = HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384


def _event(pcr: int = 4, claimed_type: int = EventType.SEPARATOR, data: bytes = b"data") -> Event:
    return Event(pcr=pcr, claimed_type=claimed_type, digests={SHA256: SHA256.digest(data)}, data=data)


def _locality(value: int) -> Event:
    data = b"StartupLocality\0" + bytes([value])
    return Event(pcr=0, claimed_type=EventType.NO_ACTION, digests={SHA256: bytes(32)}, data=data)


LOG = EventLog((SHA256,), (_event(), _event(0, 8, b""), _event(7, 0x80000001, b"x" * 100)))
RAW = encode_event_log(LOG)
SPEC_ID_SIZE = 32 + 28 + 4 + 1


def test_a_log_survives_encoding_and_decoding() -> None:
    assert decode_event_log(RAW) == LOG
    assert encode_event_log(decode_event_log(RAW)) == RAW


def test_a_log_without_events_decodes() -> None:
    assert decode_event_log(encode_event_log(EventLog((SHA256,), ()))) == EventLog((SHA256,), ())


def test_a_log_cut_at_any_byte_is_refused_unless_between_events() -> None:
    ends = {SPEC_ID_SIZE}
    for count in range(1, len(LOG.events) + 1):
        ends.add(len(encode_event_log(EventLog((SHA256,), LOG.events[:count]))))
    for size in range(len(RAW)):
        cut = RAW[:size]
        if size in ends or (size > SPEC_ID_SIZE and any(cut[end:] == bytes(size - end) for end in ends if end < size)):
            continue
        with pytest.raises(MalformedInput):
            decode_event_log(cut)


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
@pytest.mark.parametrize("size", [1, 11, 12, 4096])
def test_filler_behind_the_last_event_is_ignored(filler: bytes, size: int) -> None:
    assert decode_event_log(RAW + filler * size) == LOG


def test_filler_of_two_kinds_is_refused() -> None:
    with pytest.raises(MalformedInput):
        decode_event_log(RAW + b"\xff\0" * 100)


@pytest.mark.parametrize(
    ("sentence", "change"),
    [
        ("a first event for another PCR", lambda raw: b"\2" + raw[1:]),
        ("a first event of another type", lambda raw: raw[:4] + b"\4" + raw[5:]),
        ("another specification", lambda raw: raw.replace(b"Spec ID Event03", b"Spec ID Event02")),
        ("more banks than there are", lambda raw: raw[:56] + struct.pack("<I", 2) + raw[60:]),
        ("no first event", lambda raw: raw[SPEC_ID_SIZE:]),
        ("a first event without banks", lambda raw: raw[:28] + struct.pack("<I", 27) + raw[32:59] + raw[SPEC_ID_SIZE:]),
        ("an unknown bank", lambda raw: raw[:60] + struct.pack("<HH", 0x99, 32) + raw[64:]),
        ("a bank with another size", lambda raw: raw[:60] + struct.pack("<HH", 0x0B, 20) + raw[64:]),
        ("a PCR above 23", lambda raw: raw[:SPEC_ID_SIZE] + struct.pack("<I", 24) + raw[SPEC_ID_SIZE + 4 :]),
        (
            "a digest of another bank",
            lambda raw: raw[: SPEC_ID_SIZE + 12] + struct.pack("<H", 4) + raw[SPEC_ID_SIZE + 14 :],
        ),
        (
            "an event with 3 GB of data",
            lambda raw: raw[: SPEC_ID_SIZE + 46] + struct.pack("<I", 3 << 30) + raw[SPEC_ID_SIZE + 50 :],
        ),
    ],
)
def test_a_crypto_agile_log_with_a_fault_is_refused(sentence: str, change: Callable[[bytes], bytes]) -> None:
    assert change(RAW) != RAW, sentence
    with pytest.raises(MalformedInput, match="event log"):
        decode_event_log(change(RAW))


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        pytest.param(b"\2" + RAW[1:SPEC_ID_SIZE], "another type or PCR", id="a first event for PCR 2"),
        pytest.param(RAW[:28] + b"\x20" + RAW[29 : SPEC_ID_SIZE - 1], "cut off", id="no size of vendor information"),
        pytest.param(RAW[:56] + bytes(4) + RAW[60:SPEC_ID_SIZE], "none of the banks", id="no banks"),
        pytest.param(RAW[:60] + b"\x12" + RAW[61:SPEC_ID_SIZE], "none of the banks", id="only a bank that is not read"),
        pytest.param(RAW[:56] + b"\xff" * 4 + RAW[60:SPEC_ID_SIZE], "cut off", id="2^32 banks"),
    ],
)
def test_a_first_event_with_a_fault_is_refused_before_any_other_is_read(first: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=f"event 0 at byte .*{reason}"):
        decode_event_log(first)


@pytest.mark.parametrize("count", [0, 2])
def test_the_number_of_digests_is_between_one_and_that_of_the_banks(count: int) -> None:
    raw = encode_event_log(EventLog((SHA256,), (replace(_event(), digests={}),)))
    with pytest.raises(MalformedInput, match=f"{count} digests for 1 banks"):
        decode_event_log(raw[: SPEC_ID_SIZE + 8] + struct.pack("<I", count) + raw[SPEC_ID_SIZE + 12 :])


def test_a_bank_named_twice_is_refused() -> None:
    with pytest.raises(MalformedInput, match="twice"):
        decode_event_log(encode_event_log(EventLog((SHA256, SHA256), ())))


def test_more_events_than_allowed_are_refused() -> None:
    assert decode_event_log(RAW, max_events=3) == LOG
    with pytest.raises(MalformedInput, match="more than 2 events"):
        decode_event_log(RAW, max_events=2)


def test_data_of_more_than_the_limit_is_refused_even_when_it_is_there() -> None:
    largest = EventLog((SHA256,), (_event(data=bytes(1 << 20)),))
    assert decode_event_log(encode_event_log(largest)) == largest
    with pytest.raises(MalformedInput, match="at most"):
        decode_event_log(encode_event_log(EventLog((SHA256,), (_event(data=bytes((1 << 20) + 1)),))))


def test_digests_may_come_in_another_order_than_the_banks() -> None:
    digests = {HashAlg.SHA384: bytes(48), SHA256: bytes(32)}
    event = Event(pcr=1, claimed_type=1, digests=digests, data=b"")
    log = decode_event_log(encode_event_log(EventLog((SHA256, HashAlg.SHA384), (event,))))
    assert log.events[0].digests == digests


def test_two_digests_of_one_bank_are_refused() -> None:
    banks = (SHA256, HashAlg.SHA384)
    event = Event(pcr=1, claimed_type=1, digests={SHA256: bytes(32), HashAlg.SHA384: bytes(48)}, data=b"")
    raw = encode_event_log(EventLog(banks, (event,)))
    twice = raw.replace(struct.pack("<H", HashAlg.SHA384) + bytes(48), struct.pack("<H", SHA256) + bytes(32))
    with pytest.raises(MalformedInput, match="not due"):
        decode_event_log(twice)


def test_replay_extends_in_order() -> None:
    first, second = _event(data=b"1"), _event(data=b"2")
    expected = SHA256.digest(SHA256.digest(bytes(32) + first.digests[SHA256]) + second.digests[SHA256])
    assert replay(EventLog((SHA256,), (first, second)), SHA256) == {4: expected}


def test_no_action_is_never_extended() -> None:
    quiet = replace(_event(), claimed_type=EventType.NO_ACTION)
    assert replay(EventLog((SHA256,), (quiet,)), SHA256) == {}


def test_replay_of_a_bank_that_the_log_lacks_is_refused() -> None:
    with pytest.raises(MalformedInput, match="no sha384"):
        replay(LOG, HashAlg.SHA384)


def test_a_bank_that_an_event_leaves_out_was_not_extended_by_it() -> None:
    both = Event(pcr=4, claimed_type=13, digests={SHA1: b"1" * 20, SHA256: b"2" * 32}, data=b"")
    one = replace(both, pcr=11, digests={SHA256: b"3" * 32})
    log = EventLog((SHA1, SHA256), (both, one, one))
    assert decode_event_log(encode_event_log(log)) == log
    assert replay(log, SHA1) == {4: SHA1.digest(bytes(20) + b"1" * 20)}
    assert replay(log, SHA256).keys() == {4, 11}


def test_windows_adds_events_of_no_pcr_that_are_not_extended() -> None:
    signed = Event(pcr=NO_PCR, claimed_type=EventType.NO_ACTION, digests={SHA256: b"q" * 32}, data=b"quote")
    log = EventLog((SHA256,), (*LOG.events, signed))
    assert decode_event_log(encode_event_log(log)) == log
    assert replay(log, SHA256) == replay(LOG, SHA256)


@pytest.mark.parametrize("event", [_event(NO_PCR), _event(NO_PCR - 1, EventType.NO_ACTION), _event(24, 3)])
def test_no_other_event_is_without_a_pcr(event: Event) -> None:
    with pytest.raises(MalformedInput, match=r"event 1 at byte \d+ of \d+: PCR"):
        decode_event_log(encode_event_log(EventLog((SHA256,), (event,))))


@pytest.mark.parametrize("locality", [3, 4])
def test_pcr_0_starts_at_the_startup_locality(locality: int) -> None:
    log = EventLog((SHA256,), (_locality(locality),))
    assert startup_locality(log) == locality
    assert replay(log, SHA256) == {0: bytes(31) + bytes([locality])}


def test_startup_locality_0_is_as_if_it_were_not_named() -> None:
    assert startup_locality(EventLog((SHA256,), (_locality(0),))) == startup_locality(LOG) == 0


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(replace(_locality(3), claimed_type=8), id="another type"),
        pytest.param(replace(_locality(3), pcr=1), id="another PCR"),
    ],
)
def test_startup_locality_is_named_only_by_no_action_in_pcr_0(event: Event) -> None:
    assert startup_locality(EventLog((SHA256,), (event,))) == 0


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((_locality(1),), id="a locality that cannot start a TPM"),
        pytest.param((_locality(3), _locality(4)), id="two localities"),
        pytest.param((_locality(3), _locality(0)), id="a locality and none"),
        pytest.param((replace(_locality(3), data=b"StartupLocality\0\3\3"),), id="too many bytes"),
        pytest.param((replace(_locality(3), data=b"StartupLocality\0"),), id="no locality"),
    ],
)
def test_an_impossible_startup_locality_is_refused(events: tuple[Event, ...]) -> None:
    with pytest.raises(MalformedInput, match=r"event 1(, 2)?: names a startup locality"):
        replay(EventLog((SHA256,), events), SHA256)


def test_vendor_information_may_lie_outside_the_stated_size_of_the_first_event() -> None:
    inside = RAW[: SPEC_ID_SIZE - 1] + b"\4vend" + RAW[SPEC_ID_SIZE:]
    assert decode_event_log(inside[:28] + struct.pack("<I", SPEC_ID_SIZE - 32 + 4) + inside[32:]) == LOG
    assert decode_event_log(inside) == LOG


@pytest.mark.parametrize(("number", "size"), [(0x12, 32), (0x27, 32), (0x28, 48), (0x29, 64)])
def test_a_registered_bank_that_is_not_read_is_skipped(number: int, size: int) -> None:
    banks = struct.pack("<IHHHH", 2, number, size, SHA256, 32) + b"\0"
    first = RAW[:28] + struct.pack("<I", 24 + len(banks)) + RAW[32:56] + banks
    event = struct.pack("<IIIH", 7, 4, 2, number) + b"x" * size + struct.pack("<H", SHA256) + b"y" * 32 + bytes(4)
    log = decode_event_log(first + event)
    assert (log.algorithms, log.unread) == ((SHA256,), (number,))
    assert log.events == (Event(pcr=7, claimed_type=4, digests={SHA256: b"y" * 32}, data=b""),)
    with pytest.raises(MalformedInput, match=f"has {size} bytes, not 20"):
        decode_event_log(first.replace(struct.pack("<HH", number, size), struct.pack("<HH", number, 20)) + event)


def _old(pcr: int = 4, claimed_type: int = 13, data: bytes = b"data") -> Event:
    return Event(pcr=pcr, claimed_type=claimed_type, digests={SHA1: SHA1.digest(data)}, data=data)


OLD = EventLog((SHA1,), (_old(0, 8), _old(), _old(7, 4, bytes(4))), EventLogFormat.SHA1)
OLD_RAW = encode_event_log(OLD)


def test_a_log_in_sha1_format_decodes_and_replays() -> None:
    assert decode_event_log(OLD_RAW) == OLD
    assert replay(OLD, SHA1)[7] == SHA1.digest(bytes(20) + SHA1.digest(bytes(4)))
    with pytest.raises(MalformedInput, match="no sha256"):
        replay(OLD, SHA256)


def test_a_log_in_sha1_format_cut_at_any_byte_is_refused_unless_between_events() -> None:
    ends = {36, 72, 108}
    for size in range(len(OLD_RAW)):
        tail = OLD_RAW[max((end for end in ends if end <= size), default=0) : size]
        if size and not tail.strip(b"\0") and size >= 36:
            decode_event_log(OLD_RAW[:size])
        else:
            with pytest.raises(MalformedInput):
                decode_event_log(OLD_RAW[:size])


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_filler_behind_a_log_in_sha1_format_is_ignored(filler: bytes) -> None:
    assert decode_event_log(OLD_RAW + filler * 100_000) == OLD


@pytest.mark.parametrize("before", [(), (_old(0, 8),)])
def test_startup_locality_may_be_the_first_or_second_event_of_a_log_in_sha1_format(before: tuple[Event, ...]) -> None:
    named = Event(pcr=0, claimed_type=3, digests={SHA1: bytes(20)}, data=b"StartupLocality\0\3")
    log = decode_event_log(encode_event_log(EventLog((SHA1,), (*before, named), EventLogFormat.SHA1)))
    assert startup_locality(log) == 3
    start = bytes(19) + b"\3"
    assert replay(log, SHA1)[0] == (SHA1.digest(start + before[0].digests[SHA1]) if before else start)


def test_events_are_numbered_by_their_place_in_the_file() -> None:
    assert [number for number, _ in LOG.numbered()] == [1, 2, 3]
    assert [number for number, _ in OLD.numbered()] == [0, 1, 2]
    with pytest.raises(MalformedInput, match="event 1 at byte 68 of 71: cut off"):
        decode_event_log(OLD_RAW[:71])


CCEL = EventLog(
    (SHA384,),
    tuple(
        Event(pcr=pcr, claimed_type=4, digests={SHA384: SHA384.digest(bytes(4))}, data=bytes(4)) for pcr in (1, 1, 4)
    ),
    EventLogFormat.CCEL,
)


def test_a_ccel_is_known_by_the_register_of_its_first_event() -> None:
    raw = encode_event_log(CCEL)
    assert decode_event_log(raw + b"\xff" * 5000) == CCEL
    once = SHA384.digest(bytes(48) + SHA384.digest(bytes(4)))
    assert replay(CCEL, SHA384) == {1: SHA384.digest(once + SHA384.digest(bytes(4))), 4: once}
    assert decode_event_log(b"\0" + raw[1:]).form is EventLogFormat.CRYPTO_AGILE


def test_a_ccel_has_registers_up_to_4() -> None:
    beyond = replace(CCEL, events=(replace(CCEL.events[0], pcr=5),))
    with pytest.raises(MalformedInput, match="PCR 5 of 5"):
        decode_event_log(encode_event_log(beyond))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "is empty", id="an empty file"),
        pytest.param(bytes(65536), "is empty", id="nothing but zeros"),
        pytest.param(b"\xff" * 65536, "is empty", id="nothing but ff"),
        pytest.param(b"pcrs:\n  sha256:\n    0: 0x00", "is text", id="what tpm2_eventlog prints"),
        pytest.param(b"CCEL" + struct.pack("<I", 56) + bytes(48), "the ACPI table CCEL", id="the table of a CCEL"),
        pytest.param(b"TPM2" + struct.pack("<I", 76) + bytes(68), "the ACPI table TPM2", id="the table of a TPM 2.0"),
        pytest.param(b"\x7fELF" + bytes(range(200)), "PCR|bytes of data", id="another binary file"),
    ],
)
def test_what_is_no_event_log_is_refused_by_name(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason):
        decode_event_log(raw)


def test_a_log_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(MalformedInput, match="more than 16777216 bytes"):
        decode_event_log(RAW + bytes(MAX_LOG + 1 - len(RAW)))
    assert decode_event_log(RAW + bytes(MAX_LOG - len(RAW))) == LOG


def test_events_that_look_like_filler_take_no_quadratic_time() -> None:
    hostile = OLD_RAW + bytes(32) * 16_000 + b"\1"
    began = time.process_time()
    with pytest.raises(MalformedInput, match="cut off"):
        decode_event_log(hostile)
    assert time.process_time() - began < 5
