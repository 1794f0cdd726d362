"""A new log on a database that was put back: it names the old one, and nothing that came back to life counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import NotFound, OutOfOrder
from nodeseal.golden.document import parse_golden
from nodeseal.ids import ModelId, PersonId
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.ledger.leaf import read_entry
from nodeseal.verifier.ledger.log import record_alone
from nodeseal.verifier.ledger.tree.new_origin import Begun, NewOrigin, begin_anew
from nodeseal.verifier.store.acts import every_act
from support.acts import AT, EXAMPLES, KEY, NODE, OTHER_NODE
from support.log_trees import KEY as MAC_KEY
from support.log_trees import LogBench, a_log
from support.replay import replay

CONTENT = document_of(b"{}")
GOLDEN = document_of(b'format: nodeseal/golden/1\nname: rack-a\npcrs:\n  sha256:\n    "4": ["' + b"ab" * 32 + b'"]\n')
PLAN = NewOrigin(actor="local/root", at=AT, reason="a disk failed", keep=(PersonId("kim"),))


def in_force() -> tuple[acts.Act, ...]:
    """Return acts after which something of every kind is in force."""
    enrolled = EXAMPLES["node.enrolled"]
    return (
        *(replace(EXAMPLES["person.added"], name=PersonId(name)) for name in ("kim", "lee")),
        *(replace(enrolled, node_id=node, ek_name=node.encode()) for node in (NODE, OTHER_NODE)),
        acts.NodeRetired(node_id=OTHER_NODE, reason="sold"),
        acts.KeyCreated(key_id=KEY, key_version=1, suite="x", public=b"p", place="file", silence_seconds=0),
        acts.KeyGranted(key_id=KEY, node_id=NODE, max_leases=2),
        acts.ModelRegistered(
            digest=CONTENT.digest, model_id=ModelId("m"), model_version=1, size=1, files=1, again=False
        ),
        replace(EXAMPLES["golden.activated"], digest=parse_golden(GOLDEN.content, "g").digest, document=GOLDEN.digest),
        replace(EXAMPLES["lease.issued"], model_digest=CONTENT.digest),
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LogBench]:
    with a_log(tmp_path) as made:
        everything = in_force()
        record_alone(made.engine, MAC_KEY, "test", AT, lambda _: Decided(None, everything, contents=(CONTENT, GOLDEN)))
        made.number()
        yield made


def begin(bench: LogBench, plan: NewOrigin = PLAN) -> Begun:
    bench.restart()
    return begin_anew(bench.engine, MAC_KEY, bench.tree, bench.file, plan)


def count(bench: LogBench, query: str) -> Any:
    with closing(sqlite3.connect(bench.database)) as connection:
        return connection.execute(query).fetchone()[0]


def test_a_log_that_goes_on_gets_no_new_origin(bench: LogBench) -> None:
    with pytest.raises(OutOfOrder, match="no new log is needed"):
        begin(bench)


def test_leaf_0_of_the_new_log_names_the_old_one(bench: LogBench) -> None:
    old = bench.kept()
    bench.file.unlink()
    bench.tell(2)
    begun = begin(bench)
    shape = bench.check()
    assert (shape.first, shape.size) == (old.size + 2, begun.signed.checkpoint.size)
    leaf = bench.read(lambda rows: list(every_act(rows)))[shape.first]
    changed = read_entry(leaf.envelope, leaf.body).act
    assert isinstance(changed, acts.OriginChanged)
    assert (changed.origin, changed.signed_size, changed.signed_root) == (old.origin, old.size, old.root)
    assert (changed.kept_size, changed.reason) == (old.size + 2, "a disk failed")
    assert begun.signed.checkpoint.origin != old.origin
    assert bench.kept() == begun.signed.checkpoint
    bench.restart()
    assert bench.grow(1).checkpoint.size == shape.size + 1


def test_the_last_checkpoint_that_is_known_is_named_where_the_database_is_behind(bench: LogBench) -> None:
    copy = bench.whole_database()
    far = bench.grow(5)
    bench.replace_database(copy)
    begun = begin(bench)
    assert begun.before == far.checkpoint
    assert begun.kept == far.checkpoint.size - 5


def test_nothing_that_was_in_force_counts_afterwards(bench: LogBench) -> None:
    bench.file.unlink()
    begun = begin(bench)
    assert len(begun.taken) == 6
    assert count(bench, "SELECT count(*) FROM grants") == 0
    assert count(bench, "SELECT count(*) FROM goldens WHERE retired IS NULL") == 0
    assert count(bench, "SELECT count(*) FROM models WHERE retired IS NULL") == 0
    assert count(bench, "SELECT count(*) FROM leases WHERE ended IS NULL") == 0
    assert count(bench, "SELECT group_concat(state) FROM nodes ORDER BY node_id") == "quarantined,retired"
    assert count(bench, "SELECT group_concat(name) FROM persons WHERE removed IS NULL") == "kim"
    assert replay(bench.database, bench.folder / "scratch.sqlite") > 10


def test_who_is_to_stay_must_be_there(bench: LogBench) -> None:
    bench.file.unlink()
    with pytest.raises(NotFound, match="nobody is called sam"):
        begin(bench, replace(PLAN, keep=(PersonId("sam"),)))
    assert not bench.file.exists()


def test_a_restored_database_may_be_restored_again(bench: LogBench) -> None:
    bench.file.unlink()
    first = begin(bench).signed.checkpoint
    bench.file.unlink()
    second = begin(bench)
    assert second.before == first
    assert second.kept == first.size
    bench.check()
