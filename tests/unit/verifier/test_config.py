"""``verifier.yaml``: what ``init`` writes parses, and one wrong line is refused by name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.config import Config, TokenSettings, load_config
from nodeseal.verifier.setup import _CONFIG

GOOD = _CONFIG.format(trust_domain="example.org", listen="127.0.0.1:7443", listen_enrol="[::1]:7444")


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "verifier.yaml"
    path.write_text(text)
    return load_config(path)


def test_what_init_writes_is_accepted_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.trust_domain == "example.org"
    assert config.database == tmp_path / "verifier.sqlite"
    assert dict(config.attestation.selection.banks) == {HashAlg.SHA256: (*range(16), 23)}
    assert config.retired == ()


def test_settings_of_an_older_version_are_accepted_and_mean_what_they_meant(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    older = "\n".join(line for line in GOOD.splitlines() if "ear.key" not in line).replace("9, 10, 11", "9, 11")
    older = older.replace("  pcrs:", "  cap_pcr: 15\n  pcrs:")
    path.write_text(older)
    config = load_config(path)
    assert config.ear_key == tmp_path / "ear.key"
    assert dict(config.attestation.selection.banks) == {HashAlg.SHA256: (*range(10), *range(11, 16), 23)}
    assert config.retired == ("attestation.cap_pcr",)
    assert config.attestation.max_waiting_log_bytes == 512 * 1024 * 1024


def test_how_much_of_logs_may_wait_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text(GOOD.replace("  pcrs:", "  max_waiting_log_bytes: 100000000\n  pcrs:"))
    assert load_config(path).attestation.max_waiting_log_bytes == 100_000_000


@pytest.mark.parametrize("pcrs", ["[0, 4]", "[0, 4, 23]"])
def test_the_lease_epoch_is_quoted_in_every_bank_whatever_the_settings_name(tmp_path: Path, pcrs: str) -> None:
    path = tmp_path / "verifier.yaml"
    banks = f"    sha256: {pcrs}\n    sha384: {pcrs}"
    path.write_text(re.sub(r"    sha256: \[.*\]", banks, GOOD))
    expected = {HashAlg.SHA256: (0, 4, 23), HashAlg.SHA384: (0, 4, 23)}
    assert dict(load_config(path).attestation.selection.banks) == expected


def test_quirks_of_the_operator_are_read_and_bad_ones_are_refused_with_their_place(tmp_path: Path) -> None:
    text = GOOD.replace("attestation:", 'attestation:\n  quirks: "own.yaml"')
    row = '  - {id: "a", vendor: "M", firmware: "1", deviates: "d", effect: "value-alone", pcr: 0, source: "s"}'
    (tmp_path / "own.yaml").write_text(f"quirks:\n{row}\n")
    assert [(quirk.id, quirk.pcr) for quirk in load(tmp_path, text).attestation.quirks] == [("a", 0)]
    (tmp_path / "own.yaml").write_text(f"quirks:\n{row.replace('value-alone', 'trust-it')}\n")
    with pytest.raises(MalformedInput, match=r"own\.yaml, line 2: effect is not one of"):
        load(tmp_path, text)
    (tmp_path / "own.yaml").unlink()
    with pytest.raises(MalformedInput, match=r"attestation\.quirks: .*own\.yaml"):
        load(tmp_path, text)


PKCS11 = 'keys:\n  pkcs11:\n    module: "/usr/lib/vendor/p11.so"\n    token: "nodeseal"\n    pin: "pin"'


def test_a_token_can_hold_keys(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text(GOOD)
    assert load_config(path).token is None
    path.write_text(GOOD.replace("keys:", PKCS11))
    expected = TokenSettings(module=Path("/usr/lib/vendor/p11.so"), name="nodeseal", pin=tmp_path / "pin")
    assert load_config(path).token == expected
    path.write_text(GOOD.replace("keys:", PKCS11.replace('\n    pin: "pin"', "")))
    assert load_config(path).token == replace(expected, pin=None)


@pytest.mark.parametrize("wrong", ['pin_value: "1234"', 'slot: "0"'])
def test_what_is_not_known_of_a_token_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(MalformedInput, match=wrong.partition(":")[0]):
        load(tmp_path, GOOD.replace("keys:", f"{PKCS11}\n    {wrong}"))


def test_a_long_answer_has_half_of_the_trust_time(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text(GOOD)
    settings = load_config(path).attestation
    assert (settings.answer_within_seconds, settings.complete_within_seconds) == (15, 60)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("trust_seconds: 120", "trust_seconds: 59", "line 28: trust_seconds is not an integer from 60"),
        (
            "  pcrs:",
            "  max_waiting_log_bytes: 70000000\n  pcrs:",
            "max_waiting_log_bytes is not an integer from",
        ),
        ("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]", "[]", "a list of different PCRs"),
        ("13, 14, 15]", "13, 14, 15, 15]", "a list of different PCRs"),
        ("13, 14, 15]", "13, 14, 15, 24]", "from 0 to 23"),
        ("    sha256: [0", "    sha1: [0", "one of the banks"),
        ("listen: ", "listen_more: ", "listen is missing"),
        ('log: "json"', 'log: "xml"', "json or console"),
        ("per_minute: 60", "per_minute: 0", "per_minute is not an integer"),
        ("concurrent: 256", "concurrent: 256\n  surprise: 1", "unknown key: 'surprise'"),
        ('listen: "127.0.0.1:7443"', 'listen: "127.0.0.1"', "HOST:PORT"),
        ('listen: "127.0.0.1:7443"', 'listen: "127.0.0.1:70000"', "HOST:PORT"),
        ("ek_allow: []", 'ek_allow: ["abc"]', "ek_allow is not 64 lower-case hex digits"),
        ('trust_domain: "example.org"', 'trust_domain: "Example"', "trust domain"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(MalformedInput, match=complaint.replace("[", r"\[")):
        load(tmp_path, GOOD.replace(old, new, 1))
