"""Event logs: what decodes, what does not, and that real logs replay to the PCRs of their machines."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import (
    Event,
    EventLog,
    EventType,
    decode_event_log,
    encode_event_log,
    replay,
    startup_locality,
)
from support.data import shared_data

SHA256 = HashAlg.SHA256


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
        ("an empty file", lambda _: b""),
        ("text", lambda _: b"this is not an event log, but long enough to be one"),
        ("a first event for another PCR", lambda raw: b"\1" + raw[1:]),
        ("a first event of another type", lambda raw: raw[:4] + b"\4" + raw[5:]),
        ("another specification", lambda raw: raw.replace(b"Spec ID Event03", b"Spec ID Event02")),
        ("no banks", lambda raw: raw[:56] + struct.pack("<I", 0) + raw[60:]),
        ("more banks than there are", lambda raw: raw[:56] + struct.pack("<I", 2) + raw[60:]),
        ("seventeen banks", lambda raw: raw[:56] + struct.pack("<I", 17) + raw[60:]),
        ("an unknown bank", lambda raw: raw[:60] + struct.pack("<HH", 0x12, 32) + raw[64:]),
        ("a bank with another size", lambda raw: raw[:60] + struct.pack("<HH", 0x0B, 20) + raw[64:]),
        ("a PCR above 23", lambda raw: raw[:SPEC_ID_SIZE] + struct.pack("<I", 24) + raw[SPEC_ID_SIZE + 4 :]),
        ("an event without digests", lambda raw: raw[: SPEC_ID_SIZE + 8] + bytes(4) + raw[SPEC_ID_SIZE + 12 :]),
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
def test_what_is_no_crypto_agile_log_is_refused(sentence: str, change: Callable[[bytes], bytes]) -> None:
    assert change(RAW) != RAW, sentence
    with pytest.raises(MalformedInput, match="event log"):
        decode_event_log(change(RAW))


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
    with pytest.raises(MalformedInput, match="startup locality"):
        replay(EventLog((SHA256,), events), SHA256)


NOT_CRYPTO_AGILE = "no Specification ID"
REFUSED = {
    "gce-debian10-sha1": NOT_CRYPTO_AGILE,
    "hp-ebs-missing-sha1": NOT_CRYPTO_AGILE,
    "hp-linux-sha1": NOT_CRYPTO_AGILE,
    "sha1-legacy-ubuntu": NOT_CRYPTO_AGILE,
    "malformed-goattest-size-3gb": NOT_CRYPTO_AGILE,
    "malformed-keylime-bogus": NOT_CRYPTO_AGILE,
    "malformed-keylime-empty": "cut off",
    "malformed-short-noaction": NOT_CRYPTO_AGILE,
    "t2t-specid-vendordata": "cut off",
    "t2t-uefiaction": "2 digests for 4 banks",
    "t2t-uefivar": "2 digests for 4 banks",
    "win-dell1": "1 digests for 2 banks",
    "win-ideapad1": "PCR 4294967295",
    "win-supermicro-msdefender": "1 digests for 2 banks",
    "win-supermicro-osload": "1 digests for 2 banks",
    "win-supermicro-quoteaiks": "1 digests for 2 banks",
    "win-yogax1v2": "1 digests for 2 banks",
}
"""SHA-1 format, broken files, Windows' own logs."""
EXTENDED_AFTER_THE_LOG = {("lenovo-x1c-hahuri-sdboot", 11)}
WRONG_IN_TPM2_TOOLS = {("gce-sp800155", 0)}
"""tpm2_eventlog 5.4 extends the EV_NO_ACTION events of this log."""


def _logs() -> dict[str, Path]:
    paths = shared_data("uefi-eventlogs").glob("*.bin")
    return {path.stem: path for path in sorted(paths) if not path.stem.startswith("ccel-")}


def test_only_odd_real_logs_are_refused_and_each_for_its_reason() -> None:
    reasons: dict[str, str] = {}
    for name, path in _logs().items():
        try:
            decode_event_log(path.read_bytes())
        except MalformedInput as error:
            reasons[name] = str(error)
    assert reasons.keys() == REFUSED.keys()
    assert {name for name, reason in reasons.items() if REFUSED[name] not in reason} == set()


def test_real_logs_replay_to_the_pcrs_of_their_machines() -> None:
    wrong, compared = set(), 0
    for name, path in _logs().items():
        known = path.with_name(f"{path.name}.pcrs.json")
        if name in REFUSED or not known.exists():
            continue
        log = decode_event_log(path.read_bytes())
        for bank, values in json.loads(known.read_text())["banks"].items():
            replayed = replay(log, HashAlg.from_name(bank))
            for pcr, value in ((int(pcr), value) for pcr, value in values.items() if int(pcr) in replayed):
                compared += 1
                if replayed[pcr].hex() != value:
                    wrong.add((name, pcr))
    assert wrong == EXTENDED_AFTER_THE_LOG
    assert compared > 300


def test_real_logs_replay_as_tpm2_eventlog_does_but_for_its_known_faults() -> None:
    wrong, compared = set(), 0
    for name, path in _logs().items():
        shown = path.with_name(f"{path.name}.expected.yaml")
        if name in REFUSED or not shown.exists():
            continue
        log = decode_event_log(path.read_bytes())
        for bank, pcr, value in _shown_by_tpm2_eventlog(shown.read_text()):
            if pcr == 0 and startup_locality(log):
                continue  # which tpm2_eventlog 5.4 does not know
            compared += 1
            if replay(log, HashAlg.from_name(bank))[pcr].hex() != value:
                wrong.add((name, pcr))
    assert wrong == WRONG_IN_TPM2_TOOLS
    assert compared > 300


def _shown_by_tpm2_eventlog(text: str) -> Iterator[tuple[str, int, str]]:
    bank = ""
    for line in text.splitlines():
        if named := re.fullmatch(r"  (sha\d+):", line):
            bank = named[1]
        elif value := re.fullmatch(r"    (\d+) *: 0x([0-9a-f]+)", line):
            yield bank, int(value[1]), value[2]
