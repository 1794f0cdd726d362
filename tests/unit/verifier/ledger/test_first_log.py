"""The closed log of the first release: its root is RFC 6962's, and the new log names it."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.verifier.ledger.acts import LogOpened
from nodeseal.verifier.ledger.first_log import before_newest, head, page, tree_root
from nodeseal.verifier.ledger.leaf import MacKey, read_entry
from nodeseal.verifier.ledger.log import check_log, open_log
from nodeseal.verifier.store.acts import every_act
from nodeseal.verifier.store.database import made_engine, run
from nodeseal.verifier.store.migrate import check_schema, migrate
from support.acts import AT

# Test vectors of Certificate Transparency's reference implementation (merkletree test data): leaves and the roots of
# the trees of the first one to eight of them.
LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def leaf(content: bytes) -> bytes:
    return sha256(b"\0" + content).digest()


def defined(leaves: list[bytes]) -> bytes:
    """The Merkle tree hash as RFC 6962 §2.1 defines it: split at the largest power of two below the size."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + defined(leaves[:split]) + defined(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_known_vectors(size: int) -> None:
    assert tree_root([leaf(bytes.fromhex(each)) for each in LEAVES[:size]]).hex() == ROOTS[size - 1]


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129, 1000])
def test_roots_are_those_of_the_definition(size: int) -> None:
    leaves = [leaf(str(number).encode()) for number in range(size)]
    assert tree_root(leaves) == defined(leaves)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A database of the first release, with records."""
    with made_engine(tmp_path / "db.sqlite") as made:
        migrate(made, "0004")
        yield made


def fill(engine: sa.Engine, *contents: bytes) -> None:
    def work(connection: sa.Connection) -> None:
        for content in contents:
            connection.execute(
                sa.text("INSERT INTO audit (leaf_hash, content) VALUES (:leaf, :content)"),
                {"leaf": leaf(content), "content": content},
            )

    run(engine.execution_options(writes=True), work)


def first_act(engine: sa.Engine) -> object:
    row = run(engine, lambda connection: next(every_act(connection)))
    return read_entry(row.envelope, row.body).act


def test_an_upgrade_keeps_records_and_the_new_log_names_size_and_root(engine: sa.Engine) -> None:
    contents = [b'{"record":%d}' % number for number in range(5)]
    fill(engine, *contents)
    before = run(engine, lambda connection: page(connection, 0, 100))
    migrate(engine)
    check_schema(engine)
    assert run(engine, lambda connection: page(connection, 0, 100)) == before
    assert [(sequence, content) for sequence, _, content in before] == list(enumerate(contents, 1))
    key = MacKey(raw=bytes(32))
    open_log(engine, key, AT)
    check_log(engine, key)
    assert first_act(engine) == LogOpened(closed_size=5, closed_root=defined([leaf(each) for each in contents]))


def test_an_upgrade_without_records_names_none(engine: sa.Engine) -> None:
    migrate(engine)
    open_log(engine, MacKey(raw=bytes(32)), AT)
    assert first_act(engine) == LogOpened(closed_size=0, closed_root=b"")


def test_the_head_is_over_contents_whatever_their_column_of_hashes_says(engine: sa.Engine) -> None:
    fill(engine, b"a", b"b")
    run(
        engine.execution_options(writes=True),
        lambda connection: connection.execute(sa.text("UPDATE audit SET leaf_hash = x'00'")),
    )
    assert run(engine, head) == (2, defined([leaf(b"a"), leaf(b"b")]))


def test_pages_of_the_closed_log(engine: sa.Engine) -> None:
    fill(engine, *(str(number).encode() for number in range(10)))

    def contents(after: int, limit: int) -> list[bytes]:
        return [content for _, _, content in run(engine, lambda connection: page(connection, after, limit))]

    assert contents(0, 3) == [b"0", b"1", b"2"]
    assert contents(3, 3) == [b"3", b"4", b"5"]
    assert contents(9, 3) == [b"9"]
    assert contents(10, 3) == []

    def newest(count: int) -> int:
        return run(engine, lambda connection: before_newest(connection, count))

    assert [newest(count) for count in (1, 3, 10, 11)] == [9, 7, 0, 0]
