"""Rows of acts: versions, indices, pages that are bounded in bytes, and filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.ids import Digest
from nodeseal.verifier.store.acts import (
    PAGE_BYTES,
    ActRow,
    Filter,
    add_acts,
    all_versions,
    every_act,
    find_document,
    first_of_newest,
    has_act,
    log_page,
    log_size,
    number_acts,
    put_document,
    set_versions,
    unnumbered,
    versions_of,
)
from nodeseal.verifier.store.database import made_engine
from nodeseal.verifier.store.schema import METADATA


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    with made_engine(tmp_path / "db.sqlite") as engine:
        METADATA.create_all(engine)
        with engine.execution_options(writes=True).begin() as made:
            yield made


def row(salt: int, *, kind: str = "node.judged", actor: str = "verifier", size: int = 10) -> ActRow:
    return ActRow(
        salt=salt.to_bytes(16, "big"), kind=kind, actor=actor, envelope=b"e" * size, body=b"b" * size, mac=bytes(32)
    )


def fill(connection: sa.Connection, count: int, size: int = 10) -> None:
    for number in range(count):
        add_acts(connection, [(row(number, size=size), [])])
    number_acts(connection, unnumbered(connection, count), log_size(connection))


def salts(rows: list[ActRow]) -> list[int]:
    return [int.from_bytes(each.salt, "big") for each in rows]


def test_an_act_comes_back_as_it_was_with_place_and_id(connection: sa.Connection) -> None:
    add_acts(connection, [(row(1), ["node/a", "key/b"])])
    (found,) = unnumbered(connection, 10)
    assert (found.salt, found.kind, found.actor, found.envelope, found.body, found.mac) == (
        (1).to_bytes(16, "big"),
        "node.judged",
        "verifier",
        b"e" * 10,
        b"b" * 10,
        bytes(32),
    )
    assert (found.id, found.leaf_index) == (1, None)


def test_a_salt_is_used_once(connection: sa.Connection) -> None:
    add_acts(connection, [(row(1), [])])
    assert has_act(connection, row(1).salt)
    assert not has_act(connection, row(2).salt)
    with pytest.raises(sa.exc.IntegrityError):
        add_acts(connection, [(row(1), [])])


def test_versions_of_subjects_are_kept_apart(connection: sa.Connection) -> None:
    assert versions_of(connection, ["node/a", "node/b"]) == {"node/a": 0, "node/b": 0}
    set_versions(connection, {"node/a": 1, "node/b": 1})
    set_versions(connection, {"node/a": 2})
    assert versions_of(connection, ["node/a", "node/c"]) == {"node/a": 2, "node/c": 0}
    assert all_versions(connection) == {"node/a": 2, "node/b": 1}


def test_numbers_go_on_from_the_last_one(connection: sa.Connection) -> None:
    assert log_size(connection) == 0
    number_acts(connection, [], 0)
    fill(connection, 3)
    add_acts(connection, [(row(10), [])])
    assert [each.leaf_index for each in every_act(connection)] == [0, 1, 2, None]
    assert log_size(connection) == 3
    number_acts(connection, unnumbered(connection, 10), log_size(connection))
    assert [each.leaf_index for each in every_act(connection)] == [0, 1, 2, 3]
    assert unnumbered(connection, 10) == []


def test_unnumbered_acts_come_in_the_order_of_writing_and_no_more_than_asked_for(connection: sa.Connection) -> None:
    for salt in (5, 3, 4):
        add_acts(connection, [(row(salt), [])])
    assert salts(unnumbered(connection, 2)) == [5, 3]


def test_every_act_is_read_page_by_page(connection: sa.Connection) -> None:
    fill(connection, 7)
    assert salts(list(every_act(connection, page=3))) == list(range(7))


def test_a_page_has_no_more_acts_than_asked_for(connection: sa.Connection) -> None:
    fill(connection, 5)
    assert salts(log_page(connection, Filter(), 3)) == [0, 1, 2]
    assert salts(log_page(connection, Filter(after=3), 3)) == [3, 4]
    assert log_page(connection, Filter(after=5), 3) == []


def test_a_page_has_no_more_bytes_than_its_bound(connection: sa.Connection) -> None:
    fill(connection, 10, size=PAGE_BYTES // 8)
    page = log_page(connection, Filter(), 1000)
    assert salts(page) == [0, 1, 2, 3]
    assert sum(len(each.envelope) + len(each.body) for each in page) <= PAGE_BYTES
    assert salts(log_page(connection, Filter(after=4), 1000)) == [4, 5, 6, 7]


def test_an_act_that_is_larger_than_a_page_comes_alone(connection: sa.Connection) -> None:
    fill(connection, 2, size=PAGE_BYTES)
    assert salts(log_page(connection, Filter(), 1000)) == [0]
    assert salts(log_page(connection, Filter(after=1), 1000)) == [1]


def test_acts_without_a_number_are_in_no_page(connection: sa.Connection) -> None:
    fill(connection, 1)
    add_acts(connection, [(row(9), [])])
    assert salts(log_page(connection, Filter(), 10)) == [0]


def test_filters(connection: sa.Connection) -> None:
    for salt, kind, actor, subjects in (
        (0, "node.judged", "verifier", ["node/a"]),
        (1, "node.labelled", "person/kim", ["node/a/labels"]),
        (2, "node.judged", "verifier", ["node/ab"]),
        (3, "lease.issued", "node/a", ["lease/x", "node/a"]),
        (4, "node.judged", "verifier", ["node/a_b", "node/axb/labels"]),
    ):
        add_acts(connection, [(row(salt, kind=kind, actor=actor), subjects)])
    number_acts(connection, unnumbered(connection, 10), 0)

    def found(**wanted: str) -> list[int]:
        return salts(log_page(connection, Filter(**wanted), 10))  # type: ignore[arg-type]  # texts all of them

    assert found(subject="node/a") == [0, 1, 3]
    assert found(subject="node/a_b") == [4]
    assert found(subject="node/%") == []
    assert found(subject="node") == [0, 1, 2, 3, 4]
    assert found(actor="person/kim") == [1]
    assert found(kind="node.judged") == [0, 2, 4]
    assert found(kind="node.judged", subject="node/a") == [0]
    assert salts(log_page(connection, Filter(kind="node.judged", after=1), 10)) == [2, 4]


def test_the_newest_acts(connection: sa.Connection) -> None:
    fill(connection, 10)
    assert [first_of_newest(connection, Filter(), count) for count in (1, 3, 10, 99)] == [9, 7, 0, 0]
    assert first_of_newest(connection, Filter(kind="no.such", after=4), 3) == 4
    assert first_of_newest(connection, Filter(after=8), 5) == 8


def test_a_document_is_stored_once(connection: sa.Connection) -> None:
    digest = Digest("1" * 64)
    assert put_document(connection, digest, b"x")
    assert not put_document(connection, digest, b"x")
    assert find_document(connection, digest) == b"x"
    assert find_document(connection, Digest("2" * 64)) is None
