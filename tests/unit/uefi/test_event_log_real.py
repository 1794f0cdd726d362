"""Boot logs of real machines: which are refused and why, and that the others replay to what their TPMs held."""

from __future__ import annotations

import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

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
from nodeseal.uefi.event_log_binding import Binding, binding
from nodeseal.uefi.event_log_types import type_name
from support.data import shared_data

REFUSED = {
    "ccel-intel-sample-table": "is the ACPI table CCEL",
    "ccel-tdx-cos113-table": "is the ACPI table CCEL",
    "malformed-goattest-size-3gb": "1206894525 bytes of data",
    "malformed-keylime-bogus": "is text",
    "malformed-keylime-empty": "is empty",
}
"""What is no log; everything else decodes, however odd."""
WRONG_IN_TPM2_TOOLS = {("gce-sp800155", 0)}
"""tpm2_eventlog 5.4 extends the EV_NO_ACTION events of this log."""


@cache
def logs() -> dict[str, tuple[Path, EventLog]]:
    found = {}
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        with contextlib.suppress(MalformedInput):
            found[path.stem] = path, decode_event_log(path.read_bytes())
    return found


def replayed() -> Iterator[tuple[str, EventLog, dict[str, Any]]]:
    for name, (path, log) in logs().items():
        known = path.with_name(f"{path.name}.pcrs.json")
        if known.exists():
            yield name, log, json.loads(known.read_text())


def places(values: list[str]) -> Iterator[tuple[str, str]]:
    for place in values:
        bank, _, pcr = place.partition(":")
        yield bank, pcr


def test_only_what_is_no_log_is_refused() -> None:
    paths = {path.stem: path for path in shared_data("uefi-eventlogs").glob("*.bin")}
    assert paths.keys() - logs().keys() == REFUSED.keys()
    for name, reason in REFUSED.items():
        with pytest.raises(MalformedInput, match=reason):
            decode_event_log(paths[name].read_bytes())


def test_logs_replay_to_every_value_that_their_machines_had_and_the_log_explains() -> None:
    wrong, compared = [], 0
    for name, log, known in replayed():
        for bank, pcr in places(known["log_replay_gives"]):
            compared += 1
            if replay(log, HashAlg.from_name(bank))[int(pcr)].hex() != known["banks"][bank][pcr]:
                wrong.append((name, bank, pcr))
    assert wrong == []
    assert compared > 350


def test_logs_do_not_replay_to_values_that_they_do_not_explain() -> None:
    compared = 0
    for _, log, known in replayed():
        for bank, pcr in places(known["log_replay_differs"]):
            compared += 1
            assert replay(log, HashAlg.from_name(bank))[int(pcr)].hex() != known["banks"][bank][pcr]
    assert compared > 15


def test_windows_caps_the_sha1_bank_by_an_extend_that_no_event_shows() -> None:
    capped = 0
    for name, log, known in replayed():
        for bank, pcr in places(known["log_replay_differs"]) if name.startswith("win-") else ():
            alg = HashAlg.from_name(bank)
            assert alg.digest(replay(log, alg)[int(pcr)] + bytes(20)).hex() == known["banks"][bank][pcr]
            capped += 1
    assert capped == 16


def test_logs_replay_as_tpm2_eventlog_does_but_for_its_known_faults() -> None:
    wrong, compared = set(), 0
    for name, (path, log) in logs().items():
        shown = path.with_name(f"{path.name}.expected.yaml")
        if not shown.exists():
            continue
        for bank, pcr, value in _shown_by_tpm2_eventlog(shown.read_text()):
            if pcr == 0 and startup_locality(log):
                continue  # which tpm2_eventlog 5.4 does not know
            compared += 1
            if replay(log, HashAlg.from_name(bank))[pcr].hex() != value:
                wrong.add((name, pcr))
    assert wrong == WRONG_IN_TPM2_TOOLS
    assert compared > 350


def _shown_by_tpm2_eventlog(text: str) -> Iterator[tuple[str, int, str]]:
    bank = ""
    for line in text.splitlines():
        if named := re.fullmatch(r"  (sha\d+):", line):
            bank = named[1]
        elif value := re.fullmatch(r"    (\d+) *: 0x([0-9a-f]+)", line):
            yield bank, int(value[1]), value[2]


def test_events_are_those_that_tpm2_tools_shows() -> None:
    compared = 0
    for dump in sorted(shared_data("uefi-eventlogs", "upstream-dumps").glob("*.tpm2-tools.yaml")):
        _, log = logs()[dump.name.split(".")[0]]
        shown = list(_events_of_tpm2_tools(dump.read_text()))
        read = [(each.pcr, type_name(each.claimed_type), _hex(each), len(each.data)) for each in log.events]
        assert read == shown[len(shown) - len(read) :]
        assert len(shown) == len(read) + (log.form is not EventLogFormat.SHA1)
        compared += len(read)
    assert compared > 400


def _hex(event: Event) -> list[str]:
    return [digest.hex() for digest in event.digests.values()]


def _events_of_tpm2_tools(text: str) -> Iterator[tuple[int, str, list[str], int]]:
    for part in text.partition("\npcrs:")[0].split("PCRIndex: ")[1:]:
        facts = re.match(r"(\d+)\n  EventType: (\w+)\n", part)
        size = re.search(r"\n  EventSize: (\d+)", part)
        assert facts
        assert size
        yield int(facts[1]), facts[2], re.findall(r'Digest: "(\w+)"', part[: size.start()]), int(size[1])


def test_events_and_what_their_digests_cover_are_as_another_reader_of_ccels_says() -> None:
    for dump in sorted(shared_data("uefi-eventlogs", "upstream-dumps").glob("*.trustee.json")):
        _, log = logs()[dump.name.split(".")[0]]
        shown = json.loads(dump.read_text())["uefi_event_logs"]
        assert [
            (each["index"], each["type_name"], each["digests"][0]["digest"], each["event"]) for each in shown[-5:]
        ] == [
            (each.pcr, type_name(each.claimed_type), _hex(each)[0], b64encode(each.data).decode())
            for each in log.events[-5:]
        ]
        matches = [each["digest_matches_event"] for each in shown[-len(log.events) :]]
        assert matches == [binding(each, HashAlg.SHA384) is Binding.ALL for each in log.events]


def test_events_of_windows_and_of_sha1_format_are_as_another_reader_says() -> None:
    for name in ("win-yogax1v2", "hp-linux-sha1"):
        _, log = logs()[name]
        shown = json.loads(shared_data("uefi-eventlogs", "upstream-dumps", f"{name}.guard.json").read_text())
        read = [(each.pcr, each.claimed_type, b64encode(each.data).decode()) for each in log.events]
        assert [(each["Index"], each["Type"], each["Data"]) for each in shown][-len(read) :] == read


def test_each_format_is_among_them() -> None:
    forms = {name: log.form for name, (_, log) in logs().items()}
    assert {name for name, form in forms.items() if form is EventLogFormat.CCEL} == {
        "ccel-grub-alt",
        "ccel-intel-sample",
        "ccel-tdx-cos113",
        "ccel-tdx-cos113-dupesep",
        "ccel-tdx-cos113-dupesep-unpadded",
        "ccel-trustee-ovmf",
    }
    assert sum(form is EventLogFormat.SHA1 for form in forms.values()) == 5


def test_windows_logs_end_with_an_event_of_no_pcr() -> None:
    ends = {name for name, (_, log) in logs().items() if log.events and log.events[-1].pcr == NO_PCR}
    assert {"win-ideapad1", "win-yogax1v2", "win-supermicro-osload"} <= ends


def test_logs_survive_encoding_and_decoding() -> None:
    for _, log in logs().values():
        assert decode_event_log(encode_event_log(log)) == log


def test_a_crypto_agile_log_without_its_specification_id_is_refused() -> None:
    for path, log in logs().values():
        if log.form is not EventLogFormat.SHA1 and log.events:
            raw = path.read_bytes()
            with pytest.raises(MalformedInput):
                decode_event_log(raw[36 - 4 + int.from_bytes(raw[28:32], "little") :])


def test_any_flipped_bit_of_a_digest_or_pcr_changes_the_replay_or_is_refused() -> None:
    path, log = logs()["sdboot-fedora37"]
    raw, good = path.read_bytes(), replay(log, HashAlg.SHA256)
    at = 65
    for event in log.events:
        for offset in (*range(4), *range(8, 46)):
            flipped = bytearray(raw)
            flipped[at + offset] ^= 1 << offset % 8
            with contextlib.suppress(MalformedInput):
                assert replay(decode_event_log(bytes(flipped)), HashAlg.SHA256) != good
        at += 50 + len(event.data)
    assert at == len(raw)
