"""One act as people read it: whole, with the documents that it names, if they are still what it names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.errors import MalformedInput, NotFound
from nodeseal.ids import node_id_of
from nodeseal.verifier.ledger.acts import NodeLabelled
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import Document, labels_document
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.log import open_log, read_whole, record_alone
from nodeseal.verifier.store.acts import ActRow, number_acts, unnumbered
from nodeseal.verifier.store.database import made_engine, run
from nodeseal.verifier.store.migrate import migrate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = MacKey(raw=bytes(32))
BEFORE, AFTER = labels_document({}), labels_document({"rack": "a"})
LABELLED = NodeLabelled(node_id=node_id_of(b"ek"), labels=AFTER.digest, previous=BEFORE.digest)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """Make a log of two acts, the second of which names two documents."""
    with made_engine(tmp_path / "db.sqlite") as engine:
        migrate(engine)
        open_log(engine, KEY, NOW)
        record_alone(engine, KEY, "person/ada", NOW, lambda _: Decided(None, (LABELLED,), (BEFORE, AFTER)))
        write(engine, number)
        yield engine


def number(connection: sa.Connection) -> None:
    number_acts(connection, unnumbered(connection, 10), 0)


def write(engine: sa.Engine, change: object) -> None:
    """Change the database, by a function of a connection or a statement."""
    writer = engine.execution_options(writes=True)
    run(writer, change if callable(change) else lambda connection: connection.execute(sa.text(str(change))))


def whole(engine: sa.Engine, sequence: int) -> tuple[ActRow, tuple[Document, ...]]:
    return run(engine, lambda connection: read_whole(connection, sequence))


def test_an_act_comes_with_the_documents_that_it_names(engine: sa.Engine) -> None:
    row, documents = whole(engine, 2)
    assert (row.kind, documents) == ("node.labelled", (AFTER, BEFORE))
    row, documents = whole(engine, 1)
    assert (row.kind, documents) == ("log.opened", ())


@pytest.mark.parametrize("sequence", [-1, 0, 3, 2**64 - 1])
def test_a_number_that_no_act_has_is_refused(engine: sa.Engine, sequence: int) -> None:
    with pytest.raises(NotFound, match=rf"there is no act {sequence}\n"):
        whole(engine, sequence)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE documents SET content = x'7B7D'", id="changed"),
        pytest.param("DELETE FROM documents", id="removed"),
    ],
)
def test_a_document_that_is_not_what_the_act_names_is_an_error(engine: sa.Engine, change: str) -> None:
    write(engine, change)
    with pytest.raises(MalformedInput, match=AFTER.digest):
        whole(engine, 2)
