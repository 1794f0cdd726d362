"""``verifier.yaml``: what ``init`` writes parses, and one wrong line is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.verifier.config import load_config
from nodeseal.verifier.setup import _CONFIG

GOOD = _CONFIG.format(trust_domain="example.org", listen="127.0.0.1:7443", listen_enrol="[::1]:7444")


def load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text(text)
    load_config(path)


def test_what_init_writes_is_accepted_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.trust_domain == "example.org"
    assert config.database == tmp_path / "verifier.sqlite"
    assert dict(config.attestation.selection.banks) == {HashAlg.SHA256: (*range(10), *range(11, 16))}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("trust_seconds: 120", "trust_seconds: 59", "line 23: trust_seconds is not an integer from 60"),
        ("cap_pcr: 15", "cap_pcr: 16", "cap_pcr is not an integer from 15 to 15"),
        ("13, 14, 15]", "13, 14]", "with the cap PCR 15 among them"),
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
