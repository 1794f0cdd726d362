"""``nodeseal audit``: acts in plain words, one act whole, and the log of the releases before 0.2."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from nodeseal.cli import audit
from nodeseal.cli.main import app
from nodeseal.client.verifier import RecordQuery
from nodeseal.ids import digest_of, node_id_of
from nodeseal.v1 import admin_pb2

NODE = node_id_of(b"ek")
MODEL = digest_of(b"model")


def act(sequence: int = 12, **fields: object) -> admin_pb2.AuditRecord:
    """Return a denial as the verifier sends it."""
    envelope = {"at": "2027-03-09T12:30:15.250000+00:00", "kind": "release.denied", "subjects": {f"node/{NODE}": 3}}
    body = {"actor": f"node/{NODE}", "fields": {"model_digest": MODEL, **fields}, "salt": "00"}
    return admin_pb2.AuditRecord(
        sequence=sequence,
        leaf_hash=bytes(32),
        content=json.dumps(envelope).encode(),
        body=json.dumps(body).encode(),
        text=f"Node {NODE} was denied model {MODEL}.",
    )


def document(content: object, digit: str = "d") -> admin_pb2.RecordDocument:
    return admin_pb2.RecordDocument(digest=digit * 64, content=json.dumps(content).encode())


Type = Callable[..., Result]


@pytest.fixture
def asked() -> list[object]:
    """Return what the verifier was asked for."""
    return []


@pytest.fixture
def records() -> list[admin_pb2.AuditRecord]:
    """Return the log, for a test to fill."""
    return [act()]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, asked: list[object], records: list[admin_pb2.AuditRecord]) -> Type:
    """Return a function that types ``nodeseal audit`` and the rest, with an exit code that it must have."""

    def answer(wanted: object) -> list[admin_pb2.AuditRecord]:
        asked.append(wanted)
        return records

    @contextmanager
    def connect(_client: Path) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(list_records=answer, get_record=lambda sequence: answer(sequence)[0])

    def typed(*argv: str, exit_code: int = 0) -> Result:
        done = CliRunner().invoke(app, ["audit", *argv], env={"COLUMNS": "200"})
        assert done.exit_code == exit_code, done.output
        return done

    monkeypatch.setattr(audit, "connect", connect)
    return typed


def test_an_act_is_listed_in_plain_words_with_digests_cut_short(typed: Type) -> None:
    first, second = typed("list").stdout.splitlines()
    assert first == f"  12  2027-03-09T12:30:15Z  release.denied  by node/{NODE}"
    assert second == f"      Node {NODE} was denied model {MODEL[:12]}…."


def test_filters_go_to_the_verifier(typed: Type, asked: list[object]) -> None:
    typed("list", "--subject", "key/llama", "--actor", "person/ada", "--kind", "key.granted", "--limit", "7")
    assert asked == [RecordQuery(after=None, limit=7, subject="key/llama", actor="person/ada", kind="key.granted")]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param((), "older acts: nodeseal audit list --after 0 --limit 11\n", id="no filter"),
        pytest.param(("--after", "11"), "older acts: nodeseal audit list --after 0 --limit 11\n", id="a place"),
        pytest.param(("--actor", "person/ada"), "", id="all that match"),
        pytest.param(("--actor", "x", "--limit", "1"), "note: more acts may match: set a larger --limit\n", id="many"),
        pytest.param(("--json",), "", id="JSON"),
    ],
)
def test_the_way_to_what_is_not_shown_is_said(typed: Type, argv: tuple[str, ...], said: str) -> None:
    assert typed("list", *argv).stderr == said


def test_an_empty_log_says_so(typed: Type, records: list[admin_pb2.AuditRecord]) -> None:
    records.clear()
    assert typed("list").stdout == "no acts\n"


def test_the_closed_log_is_read_as_it_was(
    typed: Type, asked: list[object], records: list[admin_pb2.AuditRecord]
) -> None:
    content = {
        "time": "2026-03-09T12:30:15.250000+00:00",
        "actor": "person/ada",
        "action": "key.granted",
        "subject": "key/llama",
        "details": {"node": NODE, "max_leases": 1},
    }
    records[:] = [admin_pb2.AuditRecord(sequence=3, leaf_hash=bytes(32), content=json.dumps(content).encode())]
    done = typed("list", "--closed")
    assert done.stdout.splitlines() == [
        "   3  2026-03-09T12:30:15Z  key.granted  key/llama  by person/ada",
        f"      max_leases=1 node={NODE}",
    ]
    assert done.stderr == "older records: nodeseal audit list --after 0 --limit 2 --closed\n"
    assert asked == [RecordQuery(after=None, limit=1000, closed=True)]
    assert json.loads(typed("list", "--closed", "--json").stdout)[0].keys() == {"sequence", "leaf_hash", "content"}


@pytest.mark.parametrize("option", ["--subject", "--actor", "--kind"])
def test_the_closed_log_has_no_filters(typed: Type, asked: list[object], option: str) -> None:
    assert "the closed log knows no filters" in typed("list", "--closed", option, "x", exit_code=2).output
    assert asked == []


def test_an_act_is_shown_whole(typed: Type, asked: list[object], records: list[admin_pb2.AuditRecord]) -> None:
    finding = {"id": "release.grant", "where": "llama", "expected": "a grant", "seen": "none", "event": ""}
    records[0] = act(codes=["release.grant"], findings="d" * 64, note="", goldens=[])
    records[0].documents.append(document([finding]))
    shown = typed("show", "12").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert asked == [12]
    assert lines[0] == f"Node {NODE} was denied model {MODEL}."
    for line in (
        "sequence 12",
        "kind release.denied",
        "time 2027-03-09T12:30:15.250000+00:00",
        f"actor node/{NODE}",
        f"leaf hash {'0' * 64}",
        f"node/{NODE} version 3",
        f"model_digest {MODEL}",
        "codes release.grant",
        "note -",
        "goldens -",
        "findings:",
        "release.grant llama",
        "expected a grant",
        "seen none",
    ):
        assert line in lines
    assert "event" not in shown


def test_labels_are_shown_whole(typed: Type, records: list[admin_pb2.AuditRecord]) -> None:
    records[0] = act(labels="d" * 64, previous="e" * 64)
    records[0].documents.append(document({"rack": "a", "role": "gpu"}))
    records[0].documents.append(document({}, "e"))
    last = typed("show", "12").stdout.split()[-7:]
    assert last == ["labels:", "rack", "a", "role", "gpu", "previous:", "none"]


def test_a_proposal_and_its_signature_are_shown_whole(typed: Type, records: list[admin_pb2.AuditRecord]) -> None:
    signature = "-----BEGIN SSH SIGNATURE-----\nU1NI\x1b[2J\n-----END SSH SIGNATURE-----\n"
    records[0] = act(proposal="d" * 64, signature="e" * 64)
    change = {"kind": "key.grant", "max_leases": 1, "to": {}}
    records[0].documents.append(document({"change": change, "approvals": [{}]}))
    records[0].documents.append(admin_pb2.RecordDocument(digest="e" * 64, content=signature.encode()))
    shown = typed("show", "12").stdout
    assert "kind key.grant, max_leases 1, to -" in shown
    assert "  -----BEGIN SSH SIGNATURE-----\n  U1NI" in shown
    assert "\x1b" not in shown
    assert json.loads(typed("show", "12", "--json").stdout)["documents"]["e" * 64] == signature


def test_an_act_is_whole_as_json(typed: Type, records: list[admin_pb2.AuditRecord]) -> None:
    records[0].documents.append(document({"rack": "a"}))
    shown = json.loads(typed("show", "12", "--json").stdout)
    assert shown["content"]["kind"] == "release.denied"
    assert shown["body"]["fields"] == {"model_digest": MODEL}
    assert shown["documents"] == {"d" * 64: {"rack": "a"}}


def test_a_record_is_no_markup(typed: Type, records: list[admin_pb2.AuditRecord]) -> None:
    path = "/opt/[/]x [link=https://x.example]y[/link]"
    records[0] = act(reason=path)
    records[0].text = path
    records[0].documents.append(document([{"id": path, "where": path, "expected": path, "seen": path, "event": path}]))
    assert typed("show", "12").stdout.count(path) == 7
    assert path in typed("list").stdout


@pytest.mark.parametrize("sequence", ["0", "-1", "x"])
def test_what_is_no_number_of_an_act_is_misuse(typed: Type, asked: list[object], sequence: str) -> None:
    typed("show", sequence, exit_code=2)
    assert asked == []
