"""Recording: versions, leaves, documents, rows and progress of a decision, all in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.errors import MalformedInput
from nodeseal.ids import Digest
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Committed, Decided
from nodeseal.verifier.ledger.documents import Document, document_of
from nodeseal.verifier.ledger.leaf import MacKey, leaf_hash, read_entry
from nodeseal.verifier.ledger.record import Authorship, Recorder, checked_versions, record
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.acts import Filter, all_versions, every_act, find_document, log_page, number_acts
from nodeseal.verifier.store.database import Savepoint, made_engine
from nodeseal.verifier.store.nodes import NodeProgress, find_node
from nodeseal.verifier.store.schema import DOCUMENTS, METADATA
from support.acts import AT, EXAMPLES, NODE

KEY = MacKey(raw=bytes(range(32)))
ENROLLED = EXAMPLES["node.enrolled"]
QUARANTINED = acts.NodeQuarantined(node_id=NODE, reason="odd")
EXPORTED = acts.EvidenceExported(node_id=NODE, quote_sha256=bytes(32), codes=(), findings=Digest(""))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    with made_engine(tmp_path / "db.sqlite") as engine:
        METADATA.create_all(engine)
        with engine.execution_options(writes=True).begin() as made:
            yield made


def keep(connection: sa.Connection, decided: Decided[None], salt: bytes = b"") -> Committed[None]:
    return record(connection, decided, Authorship(actor="person/kim", at=AT, salt=salt), KEY)


def test_versions_rise_with_every_act_and_those_that_it_rests_on_stay(connection: sa.Connection) -> None:
    committed = keep(connection, Decided(None, (ENROLLED, QUARANTINED, EXPORTED, QUARANTINED)))
    node = f"node/{NODE}"
    assert [recorded.entry.versions for recorded in committed.recorded] == [
        {node: 1, f"{node}/identity": 1, f"{node}/certificate": 1},
        {node: 2},
        {node: 2},
        {node: 3},
    ]
    assert all_versions(connection) == {node: 3, f"{node}/identity": 1, f"{node}/certificate": 1}


def test_rows_say_what_was_recorded(connection: sa.Connection) -> None:
    committed = keep(connection, Decided(None, (ENROLLED, QUARANTINED)))
    rows = list(every_act(connection))
    assert [read_entry(row.envelope, row.body) for row in rows] == [recorded.entry for recorded in committed.recorded]
    assert [checked_versions(row, KEY) for row in rows] == [each.entry.versions for each in committed.recorded]
    assert [leaf_hash(row.envelope) for row in rows] == [recorded.leaf for recorded in committed.recorded]
    assert committed.size == sum(len(row.envelope) + len(row.body) for row in rows)
    assert [(row.kind, row.actor) for row in rows] == [
        ("node.enrolled", "person/kim"),
        ("node.quarantined", "person/kim"),
    ]


def test_acts_are_found_by_each_of_their_subjects(connection: sa.Connection) -> None:
    keep(connection, Decided(None, (ENROLLED, EXPORTED)))
    number_acts(connection, list(every_act(connection)), 0)
    assert [row.kind for row in log_page(connection, Filter(subject=f"node/{NODE}/identity"), 9)] == ["node.enrolled"]
    assert len(log_page(connection, Filter(subject=f"node/{NODE}"), 9)) == 2


def test_the_first_act_has_the_salt_that_was_given_and_others_fresh_ones(connection: sa.Connection) -> None:
    committed = keep(connection, Decided(None, (ENROLLED, QUARANTINED, QUARANTINED)), bytes([7]) * 16)
    salts = [recorded.entry.salt for recorded in committed.recorded]
    assert salts[0] == bytes([7]) * 16
    assert len(set(salts)) == 3
    assert {len(salt) for salt in salts} == {16}


def test_without_a_salt_every_one_is_fresh(connection: sa.Connection) -> None:
    salts = {keep(connection, Decided(None, (EXPORTED,))).recorded[0].entry.salt for _ in range(20)}
    assert len(salts) == 20


def test_rows_follow_from_acts(connection: sa.Connection) -> None:
    keep(connection, Decided(None, (ENROLLED, QUARANTINED)))
    stored = find_node(connection, NODE)
    assert stored is not None
    assert (stored.standing.state, stored.standing.reason) == (NodeState.QUARANTINED, "odd")


def test_progress_is_stored_beside_the_decision(connection: sa.Connection) -> None:
    keep(connection, Decided(None, (ENROLLED,)))
    keep(connection, Decided(None, (QUARANTINED,), progress=((NODE, NodeProgress(last_seen=AT)),)))
    stored = find_node(connection, NODE)
    assert stored is not None
    assert stored.progress.last_seen == AT


def test_documents_are_stored_once_and_counted_once(connection: sa.Connection) -> None:
    document = document_of(b"x" * 100)
    none = Document(Digest(""), b"")
    first = keep(connection, Decided(None, (EXPORTED,), (document, none)))
    again = keep(connection, Decided(None, (EXPORTED,), (document,)))
    assert first.size - again.size == 100
    assert find_document(connection, document.digest) == b"x" * 100
    assert first.recorded[0].documents == {document.digest: b"x" * 100, "": b""}
    assert len(list(connection.execute(sa.select(DOCUMENTS.c.digest)))) == 1


def test_an_act_that_names_a_document_that_is_not_there_is_refused(connection: sa.Connection) -> None:
    keep(connection, Decided(None, (ENROLLED,)))
    with pytest.raises(MalformedInput, match="is not in the database"):
        keep(connection, Decided(None, (replace(EXAMPLES["node.judged"]),)))


def test_columns_that_do_not_say_what_the_leaf_says_are_refused(connection: sa.Connection) -> None:
    keep(connection, Decided(None, (EXPORTED,)))
    (row,) = every_act(connection)
    for changed in (replace(row, kind="node.admitted"), replace(row, actor="x"), replace(row, salt=bytes(16))):
        with pytest.raises(MalformedInput, match="columns of act 1 do not say what its leaf says"):
            checked_versions(changed, KEY)
    with pytest.raises(MalformedInput, match="act 1 was not written by this verifier"):
        checked_versions(replace(row, mac=bytes(32)), KEY)


def test_decisions_of_one_transaction_see_the_versions_of_those_before_and_of_none_that_was_undone(
    connection: sa.Connection,
) -> None:
    recorder, authorship = Recorder(connection, KEY), Authorship(actor="person/kim", at=AT)
    recorder.record(Decided(None, (ENROLLED,)), authorship)
    undone = Savepoint(connection)
    with pytest.raises(MalformedInput):
        recorder.record(Decided(None, (QUARANTINED, EXAMPLES["node.judged"])), authorship)
    undone.undo()
    last = recorder.record(Decided(None, (QUARANTINED,)), authorship)
    recorder.write()
    assert last.recorded[0].entry.versions == {f"node/{NODE}": 2}
    assert [row.kind for row in every_act(connection)] == ["node.enrolled", "node.quarantined"]
    assert all_versions(connection)[f"node/{NODE}"] == 2
