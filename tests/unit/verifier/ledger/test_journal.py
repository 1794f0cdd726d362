"""The journal: restrictions come back from the disk as they were, and files that are none are refused by name."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest
from nodeseal.verifier.ledger.acts import VERIFIER, NodeJudged, NodeQuarantined, NodeRetired
from nodeseal.verifier.ledger.codec import act_to_plain
from nodeseal.verifier.ledger.documents import document_of, findings_document
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.restrictions import Restriction, is_restricting
from nodeseal.verifier.states import NodeState
from support.acts import AT, EXAMPLES, NODE, largest

SALT = bytes(range(16))
FINDINGS = findings_document([Finding(id=FindingId.PCR_MISMATCH, expected="a", seen="b")])
UNTRUSTED = NodeJudged(
    node_id=NODE,
    before=NodeState.TRUSTED,
    state=NodeState.UNTRUSTED,
    reason="",
    codes=FINDINGS.codes,
    findings=FINDINGS.document.digest,
    goldens=(),
    trusted_until=None,
)
DISTRUST = Restriction(act=UNTRUSTED, actor=VERIFIER, at=AT, salt=SALT, documents=(FINDINGS.document,))
LONG = '"\\😀' * 100
QUARANTINE = Restriction(act=NodeQuarantined(node_id=NODE, reason="odd"), actor="person/kim", at=AT, salt=bytes(16))
RESTRICTING = [UNTRUSTED, *(act for act in EXAMPLES.values() if is_restricting(act))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Journal:
    made = Journal(folder)
    assert made.read() == []
    return made


def test_the_folder_is_made_for_its_owner_alone(journal: Journal, folder: Path) -> None:
    assert journal.read() == []
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("act", RESTRICTING, ids=lambda act: act.kind)
def test_a_restriction_comes_back_as_it_was(journal: Journal, act: Any) -> None:
    documents = (FINDINGS.document,) if act is UNTRUSTED else ()
    restriction = Restriction(act=act, actor="person/kim", at=AT, salt=SALT, documents=documents)
    journal.write(restriction)
    assert journal.read() == [restriction]
    journal.discard(restriction)
    assert journal.read() == []


def test_no_findings_leave_no_document(journal: Journal) -> None:
    none = findings_document(()).document
    act = replace(UNTRUSTED, codes=(), findings=none.digest)
    journal.write(replace(DISTRUST, act=act, documents=(none,)))
    assert journal.read() == [replace(DISTRUST, act=act, documents=())]


def test_the_oldest_comes_first(journal: Journal) -> None:
    made = [
        replace(QUARANTINE, salt=bytes([255 - number]) * 16, at=AT + timedelta(seconds=number)) for number in range(5)
    ]
    for each in (made[3], made[0], made[4], made[1], made[2]):
        journal.write(each)
    assert journal.read() == made


def test_the_largest_restriction_fits(journal: Journal) -> None:
    """A node chooses the texts of its findings; quotes and backslashes grow twice on the way into a file."""
    hostile = [Finding(id=FindingId.PCR_MISMATCH, expected=LONG, seen=LONG, where=LONG, event=LONG) for _ in range(100)]
    codes, document = findings_document(hostile)
    goldens = tuple(Digest(f"{number:064x}") for number in range(32))
    act = replace(UNTRUSTED, codes=codes, findings=document.digest, goldens=goldens, reason="😀" * 500)
    restriction = replace(DISTRUST, act=act, documents=(document,))
    journal.write(restriction)
    assert journal.read() == [restriction]


def test_discarding_what_is_not_there_is_no_error(journal: Journal) -> None:
    journal.discard(QUARANTINE)


def test_drafts_and_other_files_are_left_alone(journal: Journal, folder: Path) -> None:
    (folder / ".draft.json.0123").write_bytes(b"half")
    (folder / "notes.txt").write_bytes(b"")
    journal.write(QUARANTINE)
    assert journal.read() == [QUARANTINE]


def test_a_folder_that_is_gone_is_named(folder: Path) -> None:
    journal = Journal(folder / "no" / "where")
    for attempt in (journal.read, lambda: journal.write(QUARANTINE)):
        with pytest.raises(Unavailable, match="where"):
            attempt()


def test_a_file_that_cannot_be_removed_is_named(journal: Journal, folder: Path) -> None:
    (folder / f"{QUARANTINE.salt.hex()}.json").mkdir()
    with pytest.raises(Unavailable, match="journal"):
        journal.discard(QUARANTINE)


def written(journal: Journal, folder: Path) -> tuple[Path, dict[str, Any]]:
    journal.write(DISTRUST)
    (path,) = folder.iterdir()
    return path, json.loads(path.read_bytes())


def test_a_file_is_for_its_owner_alone_and_canonical(journal: Journal, folder: Path) -> None:
    path, plain = written(journal, folder)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == encode_json(plain)
    assert sorted(plain) == ["actor", "at", "documents", "fields", "kind", "salt"]


HOSTILE: dict[str, dict[str, object]] = {
    "an unknown kind": {"kind": "node.exploded"},
    "a kind that restricts nothing": {
        "kind": "node.admitted",
        "fields": {"node_id": NODE, "before": "pending", "forget_clock": False},
        "documents": [],
    },
    "a judgement that trusts": {
        "fields": {**act_to_plain(UNTRUSTED), "state": "trusted", "codes": [], "findings": ""},
        "documents": [],
    },
    "a missing field": {"kind": None},
    "a field too many": {"more": 1},
    "fields of another kind": {"kind": "node.retired"},
    "fields that are no mapping": {"fields": []},
    "a time without a zone": {"at": "2026-01-02T03:04:05.678901"},
    "a time in another spelling": {"at": "2026-01-02"},
    "a time that is none": {"at": "soon"},
    "a time that is a number": {"at": 5},
    "an actor that is a number": {"actor": 7},
    "an actor without an end": {"actor": "x" * 5000},
    "an actor that a terminal obeys": {"actor": "\x1b[2J"},
    "a short salt": {"salt": "00"},
    "a salt that is no hex": {"salt": "zz" * 16},
    "documents that are no list": {"documents": "x"},
    "a document that is no text": {"documents": [5]},
    "a document that the act does not name": {"documents": ["[]"]},
    "no document although the act names one": {"documents": []},
    "documents without an end": {"documents": ["[]"] * 2000},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_by_name(journal: Journal, folder: Path, changes: dict[str, object]) -> None:
    path, plain = written(journal, folder)
    plain = {name: value for name, value in {**plain, **changes}.items() if value is not None}
    path.write_bytes(encode_json(plain))
    with pytest.raises(MalformedInput, match=str(path)) as caught:
        journal.read()
    assert "restrict that again" in (caught.value.remedy or "")


@pytest.mark.parametrize("content", [b"[", b'{"no":"list"}', b"[1]", b'[{"id":"pcr.mismatch"}]'])
def test_a_document_that_holds_no_findings_is_refused_by_name(journal: Journal, folder: Path, content: bytes) -> None:
    broken = document_of(content)
    journal.write(replace(DISTRUST, act=replace(UNTRUSTED, findings=broken.digest), documents=(broken,)))
    (path,) = folder.iterdir()
    with pytest.raises(MalformedInput, match=str(path)):
        journal.read()


def test_a_document_that_is_a_list_instead_of_its_text_is_refused(journal: Journal, folder: Path) -> None:
    path, plain = written(journal, folder)
    plain["fields"] |= {"findings": document_of(b"[]").digest, "codes": []}
    path.write_bytes(encode_json({**plain, "documents": [[]]}))
    with pytest.raises(MalformedInput, match="documents"):
        journal.read()
    path.write_bytes(encode_json({**plain, "documents": ["[]"]}))
    assert len(journal.read()) == 1


RAW = {
    "nothing": b"",
    "half a file": b'{"actor":"verif',
    "another spelling": b'{ "actor": "x" }',
    "a key twice": b'{"actor":"x","actor":"y"}',
    "a list": b"[]",
    "no UTF-8": b"\xff\xfe",
    "nested without end": b"[" * 100_000,
    "a megabyte": b'"' + b"x" * (1 << 20) + b'"',
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_bytes_that_are_no_restriction_are_refused_by_name(journal: Journal, folder: Path, raw: bytes) -> None:
    path = folder / f"{SALT.hex()}.json"
    path.write_bytes(raw)
    with pytest.raises(MalformedInput, match=str(path)):
        journal.read()


def test_a_pipe_in_the_folder_stops_no_start(journal: Journal, folder: Path) -> None:
    os.mkfifo(folder / "trap.json")
    with pytest.raises((MalformedInput, Unavailable), match=r"trap\.json"):
        journal.read()


def test_who_decided_and_what_time_alone_decides() -> None:
    assert QUARANTINE.of_person
    assert not DISTRUST.of_person
    assert not DISTRUST.by_time
    assert replace(DISTRUST, act=replace(UNTRUSTED, state=NodeState.STALE)).by_time
    assert not replace(DISTRUST, act=NodeRetired(node_id=NODE, reason="")).by_time
    assert "salt" not in repr(QUARANTINE)


def test_a_time_before_1970_is_a_time(journal: Journal) -> None:
    early = replace(QUARANTINE, at=datetime(1, 1, 1, tzinfo=UTC))
    journal.write(early)
    assert journal.read() == [early]


def test_the_largest_act_of_a_person_fits(journal: Journal) -> None:
    act = largest("model.retired")
    assert is_restricting(act)
    journal.write(replace(QUARANTINE, act=act))
    assert len(journal.read()) == 1
