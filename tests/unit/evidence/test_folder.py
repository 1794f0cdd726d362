"""The evidence folder: what goes in comes out, and nothing else is taken for evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.folder import SIZES, EvidenceFolder, decode_evidence_folder
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.ids import Nonce, node_id_of
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SELECTION = PcrSelection(((HashAlg.SHA384, (0, 15)), (HashAlg.SHA256, (0, 10))))
EVIDENCE = Evidence(
    claims=b"{}",
    attest=b"attest",
    signature=b"signature",
    pcr_values=(b"a" * 48, b"b" * 48, b"c" * 32, b"d" * 32),
    boot_log=b"boot log",
    ima=ImaDelta(offset=0, entries=b"entries", bank=HashAlg.SHA256),
)
FOLDER = EvidenceFolder(
    evidence=EVIDENCE,
    nonce=Nonce(bytes(range(32))),
    purpose=Purpose.ATTEST,
    selection=SELECTION,
    channel=Channel(trust_domain="example.org", node_id=node_id_of(b"ek"), certificate_sha256=b"c" * 32),
    issued=NOW,
    received=NOW + timedelta(seconds=1.5),
    ak_public=b"public",
    labels={"rack": "a", "role": "gpu"},
    manufacturer="IFX",
    ek_algorithm="rsa2048",
)


def with_head(**changes: Any) -> dict[str, bytes]:
    files = FOLDER.encode()
    head = json.loads(files["evidence.json"])
    head.update(changes)
    return {**files, "evidence.json": encode_json({key: value for key, value in head.items() if value is not None})}


@pytest.mark.parametrize(
    "evidence",
    [
        EVIDENCE,
        EVIDENCE._replace(boot_log=None),
        EVIDENCE._replace(ima=None),
        EVIDENCE._replace(ima=ImaDelta(offset=0, entries=b"")),
        EVIDENCE._replace(pcr_values=None, boot_log=None, ima=None),
    ],
    ids=["everything", "no boot log", "no IMA log", "an empty IMA log", "no more than a quote"],
)
def test_what_goes_in_comes_out(evidence: Evidence) -> None:
    folder = replace(FOLDER, evidence=evidence)
    files = folder.encode()
    assert decode_evidence_folder(files) == folder
    assert set(files) <= set(SIZES)


def test_values_are_readable_by_bank_and_pcr() -> None:
    assert json.loads(FOLDER.encode()["pcr-values.json"]) == {
        "sha256": {"0": "63" * 32, "10": "64" * 32},
        "sha384": {"0": "61" * 48, "15": "62" * 48},
    }


def test_the_head_is_as_documented() -> None:
    assert json.loads(FOLDER.encode()["evidence.json"]) == {
        "certificate_sha256": "63" * 32,
        "ek_algorithm": "rsa2048",
        "format": "nodeseal/evidence/1",
        "ima_bank": "sha256",
        "issued": "2026-01-02T03:04:05.678901+00:00",
        "labels": {"rack": "a", "role": "gpu"},
        "manufacturer": "IFX",
        "node_id": node_id_of(b"ek"),
        "nonce": bytes(range(32)).hex(),
        "purpose": "attest",
        "received": "2026-01-02T03:04:07.178901+00:00",
        "selection": [{"bank": "sha384", "pcrs": [0, 15]}, {"bank": "sha256", "pcrs": [0, 10]}],
        "trust_domain": "example.org",
    }


def test_a_log_from_its_middle_is_no_whole_evidence() -> None:
    with pytest.raises(MalformedInput, match="starts at offset 7, not at 0"):
        replace(FOLDER, evidence=EVIDENCE._replace(ima=ImaDelta(offset=7, entries=b"")))


def test_as_many_values_as_were_selected() -> None:
    with pytest.raises(MalformedInput, match="3 PCR values for a selection of 4"):
        replace(FOLDER, evidence=EVIDENCE._replace(pcr_values=(b"a" * 48, b"b" * 48, b"c" * 32))).encode()


def test_every_file_but_values_and_logs_must_be_there() -> None:
    files = FOLDER.encode()
    for name in ("evidence.json", "claims.json", "attest.bin", "signature.bin", "ak.pub"):
        with pytest.raises(MalformedInput, match=f"{name} is missing"):
            decode_evidence_folder({key: value for key, value in files.items() if key != name})


def test_no_file_is_larger_than_its_limit() -> None:
    files = FOLDER.encode()
    for name, size in SIZES.items():
        with pytest.raises(MalformedInput, match="or is too large"):
            decode_evidence_folder({**files, name: bytes(size + 1)})


Change = Callable[[], dict[str, bytes]]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda: {**FOLDER.encode(), "notes.txt": b""}, "does not belong to an evidence folder"),
        (lambda: {**FOLDER.encode(), "evidence.json": b"{}"}, "format is missing"),
        (lambda: with_head(format="nodeseal/evidence/2"), "format is not"),
        (lambda: with_head(extra=1), "unknown key"),
        (lambda: with_head(nonce="00"), "nonce is not 32 bytes"),
        (lambda: with_head(purpose="test"), "purpose is not attest or release"),
        (lambda: with_head(ima_bank=""), "ima_bank is not the bank of ima-log.bin"),
        (lambda: with_head(ima_bank="md5"), "ima_bank is not the bank of ima-log.bin"),
        (lambda: with_head(issued="yesterday"), "issued is not a time"),
        (lambda: with_head(received="2026-01-02T03:04:05"), "received is not a time in UTC"),
        (lambda: with_head(received="2026-01-02T03:04:05+01:00"), "received is not a time in UTC"),
        (lambda: with_head(labels={"Rack": "a"}), "label is not"),
        (lambda: with_head(labels={"rack": "a b"}), "label rack is not"),
        (lambda: with_head(selection=[]), "selects nothing"),
        (lambda: with_head(selection=[{"bank": "sha384", "pcrs": [True, 15]}]), "selection is not a list of banks"),
        (lambda: with_head(selection=[{"bank": "md5", "pcrs": [0]}]), "selection is not a list of banks"),
        (lambda: with_head(selection=[{"bank": "sha384", "pcrs": [0, 15], "more": 1}]), "unknown key"),
        (lambda: with_head(selection=[{"bank": "sha384", "pcrs": [0, 15]}]), "unknown key: 'sha256'"),
        (lambda: with_head(selection=[{"bank": "sha384", "pcrs": [0, 14, 15]}]), "14 is missing"),
    ],
)
def test_what_is_not_as_documented_is_refused(change: Change, why: str) -> None:
    with pytest.raises(MalformedInput, match=why):
        decode_evidence_folder(change())


@pytest.mark.parametrize("value", [15, 24, "none"])
def test_a_folder_of_the_first_release_is_read_and_its_cap_means_nothing(value: object) -> None:
    assert decode_evidence_folder(with_head(cap_pcr=value)) == FOLDER


def test_a_log_without_a_bank_or_a_bank_without_a_log_is_refused() -> None:
    files = replace(FOLDER, evidence=EVIDENCE._replace(ima=None)).encode()
    with pytest.raises(MalformedInput, match="ima_bank"):
        decode_evidence_folder({**files, "ima-log.bin": b""})
    files = FOLDER.encode()
    del files["ima-log.bin"]
    with pytest.raises(MalformedInput, match="ima_bank"):
        decode_evidence_folder(files)
