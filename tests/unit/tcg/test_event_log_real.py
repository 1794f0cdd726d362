"""Boot logs of real machines: which are refused and why, and that the others replay to what their TPMs held."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import (
    NO_PCR,
    EventLog,
    LogFormat,
    decode_event_log,
    encode_event_log,
    replay,
    startup_locality,
)
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


def test_each_format_is_among_them() -> None:
    forms = {name: log.form for name, (_, log) in logs().items()}
    assert {name for name, form in forms.items() if form is LogFormat.CCEL} == {
        "ccel-grub-alt",
        "ccel-intel-sample",
        "ccel-tdx-cos113",
        "ccel-tdx-cos113-dupesep",
        "ccel-tdx-cos113-dupesep-unpadded",
        "ccel-trustee-ovmf",
    }
    assert sum(form is LogFormat.SHA1 for form in forms.values()) == 5


def test_windows_logs_end_with_an_event_of_no_pcr() -> None:
    ends = {name for name, (_, log) in logs().items() if log.events and log.events[-1].pcr == NO_PCR}
    assert {"win-ideapad1", "win-yogax1v2", "win-supermicro-osload"} <= ends


def test_logs_survive_encoding_and_decoding() -> None:
    for _, log in logs().values():
        assert decode_event_log(encode_event_log(log)) == log


def test_a_crypto_agile_log_without_its_specification_id_is_refused() -> None:
    for path, log in logs().values():
        if log.form is not LogFormat.SHA1 and log.events:
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
