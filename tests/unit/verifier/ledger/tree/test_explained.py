"""Rows are what their acts made, or nothing relies on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.errors import Unavailable
from nodeseal.golden.document import parse_golden
from nodeseal.ids import ModelId, PersonId
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of, findings_document
from nodeseal.verifier.ledger.log import record_alone
from nodeseal.verifier.ledger.tree.explained import Explained, release_places
from nodeseal.verifier.states import NodeState
from support.acts import AT, EXAMPLES, KEY, NODE
from support.log_trees import KEY as MAC_KEY
from support.log_trees import LogBench, a_log

CONTENT = document_of(b"{}")
GOLDEN = document_of(b'format: nodeseal/golden/1\nname: rack-a\npcrs:\n  sha256:\n    "4": ["' + b"ab" * 32 + b'"]\n')
PLACES = tuple(release_places(NODE, CONTENT.digest, (KEY,)))


def made() -> tuple[acts.Act, ...]:
    """Return acts that make a row of every kind, and change some."""
    enrolled = replace(EXAMPLES["node.enrolled"], state=NodeState.STALE)
    return (
        replace(EXAMPLES["person.added"], name=PersonId("kim")),
        enrolled,
        acts.NodeAdmitted(node_id=NODE, before=NodeState.PENDING, forget_clock=False),
        replace(EXAMPLES["node.judged"], findings=findings_document(()).document.digest),
        replace(enrolled, ak_public=b"another"),
        acts.KeyCreated(key_id=KEY, key_version=1, suite="x", public=b"p", place="file", silence_seconds=0),
        acts.KeyPolicySet(key_id=KEY, silence_seconds=60),
        acts.KeyGranted(key_id=KEY, node_id=NODE, max_leases=2),
        acts.ModelRegistered(
            digest=CONTENT.digest, model_id=ModelId("m"), model_version=1, size=1, files=1, again=False
        ),
        replace(EXAMPLES["golden.activated"], digest=parse_golden(GOLDEN.content, "g").digest, document=GOLDEN.digest),
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LogBench]:
    with a_log(tmp_path) as ready:
        record_alone(ready.engine, MAC_KEY, "test", AT, lambda _: Decided(None, made(), contents=(CONTENT, GOLDEN)))
        yield ready


@pytest.fixture
def explained() -> Iterator[Explained]:
    with closing(Explained(MAC_KEY)) as ready:
        yield ready


def check(bench: LogBench, explained: Explained) -> None:
    bench.read(lambda rows: explained.require(rows, PLACES))
    bench.read(explained.require_policy)


def test_rows_that_acts_made_are_relied_on(bench: LogBench, explained: Explained) -> None:
    check(bench, explained)
    check(bench, explained)
    record_alone(
        bench.engine,
        MAC_KEY,
        "test",
        AT,
        lambda _: Decided(None, (acts.KeyPolicySet(key_id=KEY, silence_seconds=0),)),
    )
    check(bench, explained)


@pytest.mark.parametrize("asked", [(), ("before",)], ids=["not asked before", "asked before"])
@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE grants SET max_leases = 9", f"grants: grant/llama/{NODE}"),
        ("UPDATE model_keys SET silence_seconds = 9", "model_keys: key/llama"),
        ("UPDATE model_keys SET public = x'00'", "model_keys: key/llama"),
        ("UPDATE models SET version = 9", "models: model/"),
        ("UPDATE goldens SET name = 'other'", "goldens: golden/"),
        ("UPDATE persons SET roles = 'approver operator'", "persons: person/kim"),
        ("UPDATE nodes SET state = 'trusted', ak_public = x'00'", f"nodes: node/{NODE}"),
        ("UPDATE nodes SET ek_name = x'00'", f"nodes: node/{NODE}"),
        ('UPDATE nodes SET labels = \'{"rack":"b"}\'', f"nodes: node/{NODE}"),
    ],
)
def test_an_edited_row_is_named_and_nothing_relies_on_it(
    bench: LogBench, explained: Explained, asked: tuple[str, ...], statement: str, named: str
) -> None:
    for _ in asked:
        check(bench, explained)
    bench.change(statement)
    with pytest.raises(Unavailable, match="cannot be relied on") as refused:
        check(bench, explained)
    assert named in str(refused.value)
    assert "audit" in refused.value.remedy


@pytest.mark.parametrize("statement", ["UPDATE goldens SET document = x'00'", "UPDATE models SET content = x'00'"])
def test_edited_content_is_found_at_the_start(bench: LogBench, explained: Explained, statement: str) -> None:
    bench.change(statement)
    with pytest.raises(Unavailable, match="cannot be relied on"):
        bench.read(explained.require_policy)


def test_a_row_that_no_act_made_is_refused_unless_it_may_be_older_than_the_log(
    bench: LogBench, explained: Explained
) -> None:
    bench.change("INSERT INTO persons (name, roles, certificate_sha256, added) VALUES ('eve', 'approver', x'00', 0)")
    with pytest.raises(Unavailable, match="persons: person/eve cannot be relied on: no act made it"):
        bench.read(explained.require_policy)


def test_an_act_that_was_edited_explains_nothing(bench: LogBench, explained: Explained) -> None:
    bench.change("UPDATE acts SET mac = zeroblob(32) WHERE kind = 'key.granted'")
    with pytest.raises(Unavailable, match="MAC is wrong"):
        check(bench, explained)
