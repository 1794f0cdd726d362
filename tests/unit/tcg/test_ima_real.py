"""IMA logs of real machines: every file of the data folder reads, and replays to what the TPMs had."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.ima_log import (
    ImaEntry,
    claimed_bank,
    decode_ima_log,
    encode_ima_entry,
    replay_ima,
)
from nodeseal.tcg.ima_template import encode_template, parse_template
from support.data import ROOT, shared_data

LOGS = ROOT.parent / "shared" / "data" / "ima-logs"
BINARY = sorted(str(path.relative_to(LOGS)) for path in LOGS.rglob("*.bin"))


def read(name: str) -> tuple[ImaEntry, ...]:
    raw = shared_data("ima-logs", name).read_bytes()
    return decode_ima_log(raw, claimed_bank(raw))


def expected(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(LOGS, name).with_suffix(".expected.json").read_text())
    return found


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_log_survives_decoding_and_encoding(name: str) -> None:
    entries = read(name)
    assert b"".join(map(encode_ima_entry, entries)) == shared_data("ima-logs", name).read_bytes()
    for entry in entries:
        assert encode_template(entry.template, parse_template(entry.template, entry.data)) == entry.data


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_log_has_the_entries_that_are_expected(name: str) -> None:
    facts, entries = expected(name), read(name)
    assert len(entries) == facts["entries"]
    if "templates" in facts:
        assert dict(Counter(entry.template for entry in entries)) == facts["templates"]
        assert {str(pcr): n for pcr, n in Counter(entry.pcr for entry in entries).items()} == facts["pcr_indexes"]
        assert sum(entry.violation for entry in entries) == facts["violations"]


@pytest.mark.parametrize("bank", HashAlg, ids=lambda bank: bank.hashlib_name)
@pytest.mark.parametrize("of", HashAlg, ids=lambda bank: f"file of {bank.hashlib_name}")
def test_the_file_of_each_bank_replays_to_the_tpm_in_every_bank(of: HashAlg, bank: HashAlg) -> None:
    name = f"ibm-kvt/binary_runtime_measurements_{of.hashlib_name}.bin"
    entries = read(name)
    truth = expected(name)["tpm_pcr10"]
    assert isinstance(truth, dict)
    assert replay_ima(entries, bank).hex() == truth[bank.hashlib_name]
