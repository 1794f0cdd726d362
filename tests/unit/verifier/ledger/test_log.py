"""The log as a whole: its key, its first act, and what a start finds that was done to its rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.errors import MalformedInput, OutOfOrder, Unavailable
from nodeseal.verifier.ledger.acts import VERIFIER, LogOpened
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.leaf import MacKey, read_entry
from nodeseal.verifier.ledger.log import (
    MAC_KEY_CREDENTIAL,
    check_log,
    has_begun,
    load_mac_key,
    make_mac_key,
    open_log,
    record_alone,
)
from nodeseal.verifier.store.acts import every_act, number_acts, unnumbered
from nodeseal.verifier.store.database import made_engine, run
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT
from support.damage import flipped
from support.ledgers import TELLING

KEY = MacKey(raw=bytes(range(32)))
COUNT = 5


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with made_engine(tmp_path / "db.sqlite") as made:
        METADATA.create_all(made)
        yield made


@pytest.fixture
def written(engine: sa.Engine, tmp_path: Path) -> Path:
    """A log of five acts, of which the last has no index yet."""
    open_log(engine, KEY, AT)
    for _ in range(COUNT - 2):
        tell(engine)
    number(engine)
    tell(engine)
    check_log(engine, KEY)
    return tmp_path / "db.sqlite"


def tell(engine: sa.Engine) -> None:
    record_alone(engine, KEY, "local/root", AT, lambda _: Decided(None, (TELLING,)))


def number(engine: sa.Engine) -> None:
    def work(connection: sa.Connection) -> None:
        number_acts(connection, unnumbered(connection, 100), 0)

    run(engine.execution_options(writes=True), work)


def tamper(path: Path, *changes: str, values: tuple[object, ...] = ()) -> None:
    with closing(sqlite3.connect(path)) as database:
        for change in changes:
            database.execute(change, values)
        database.commit()


# The key


def test_a_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "acts.key"
    make_mac_key(path)
    raw = path.read_bytes()
    assert (len(raw), path.stat().st_mode & 0o777) == (32, 0o600)
    make_mac_key(path)
    assert load_mac_key(path).raw == raw


def test_a_key_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match=r"keys\.acts: .*not there") as caught:
        load_mac_key(tmp_path / "acts.key")
    assert "nodeseal-verifier upgrade" in (caught.value.remedy or "")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "acts.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(MalformedInput, match=rf"keys\.acts: .*{size} bytes, not 32"):
        load_mac_key(path)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "acts.key"
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with pytest.raises(MalformedInput, match=r"keys\.acts"):
        load_mac_key(path)


def test_systemds_credential_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / MAC_KEY_CREDENTIAL).write_bytes(bytes([7]) * 32)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    path = tmp_path / "acts.key"
    make_mac_key(path)
    assert not path.exists()
    assert load_mac_key(path).raw == bytes([7]) * 32
    (folder / MAC_KEY_CREDENTIAL).write_bytes(b"short")
    with pytest.raises(MalformedInput, match="5 bytes, not 32"):
        load_mac_key(path)


# How it begins


def test_the_log_begins_once(engine: sa.Engine) -> None:
    for _ in range(2):
        open_log(engine, KEY, AT)
    rows = run(engine, lambda connection: list(every_act(connection)))
    (entry,) = [read_entry(row.envelope, row.body) for row in rows]
    assert entry.act == LogOpened(closed_size=0, closed_root=b"")
    assert (entry.actor, entry.at) == (VERIFIER, AT)


def test_a_log_that_has_not_begun_stops_a_start(engine: sa.Engine) -> None:
    with pytest.raises(Unavailable, match="the log has not begun") as caught:
        check_log(engine, KEY)
    assert caught.value.remedy == "run nodeseal-verifier upgrade"


def test_a_command_that_is_refused_records_nothing(engine: sa.Engine) -> None:
    def refuse(_: sa.Connection) -> Decided[None]:
        raise OutOfOrder("no")

    with pytest.raises(OutOfOrder):
        record_alone(engine, KEY, "local/root", AT, refuse)
    assert run(engine, lambda connection: list(every_act(connection))) == []


@pytest.mark.usefixtures("written")
def test_a_command_with_another_key_records_nothing(engine: sa.Engine) -> None:
    stranger = MacKey(raw=bytes(32))
    with pytest.raises(MalformedInput, match=r"keys\.acts: not the key of this database's log") as caught:
        record_alone(engine, stranger, "local/root", AT, lambda _: Decided(None, (TELLING,)))
    assert "acts.key" in caught.value.remedy
    with pytest.raises(MalformedInput, match="not the key"):
        open_log(engine, stranger, AT)
    check_log(engine, KEY)


def test_a_log_has_begun_with_its_first_act(engine: sa.Engine) -> None:
    assert not has_begun(engine)
    open_log(engine, KEY, AT)
    assert has_begun(engine)


# What a start finds


@pytest.mark.usefixtures("written")
def test_an_untouched_log_passes(engine: sa.Engine) -> None:
    check_log(engine, KEY)


@pytest.mark.usefixtures("written")
def test_another_key_is_found(engine: sa.Engine) -> None:
    with pytest.raises(MalformedInput, match="act 1 was not written by this verifier: its MAC is wrong"):
        check_log(engine, MacKey(raw=bytes(32)))


@pytest.mark.parametrize("act", range(1, COUNT + 1))
@pytest.mark.parametrize("column", ["envelope", "body", "mac", "salt"])
def test_a_flipped_bit_anywhere_is_found_and_named(written: Path, engine: sa.Engine, column: str, act: int) -> None:
    with closing(sqlite3.connect(written)) as database:
        (raw,) = database.execute(f"SELECT {column} FROM acts WHERE id = ?", (act,)).fetchone()  # noqa: S608
    for at in range(0, len(raw), max(1, len(raw) // 6)):
        tamper(written, f"UPDATE acts SET {column} = ? WHERE id = {act}", values=(flipped(raw, at),))  # noqa: S608
        with pytest.raises(MalformedInput, match=f"act {act} ") as caught:
            check_log(engine, KEY)
        assert "restore the last backup" in (caught.value.remedy or "")


@pytest.mark.parametrize("column", ["kind", "actor"])
def test_another_text_in_a_column_to_filter_by_is_found(written: Path, engine: sa.Engine, column: str) -> None:
    tamper(written, f"UPDATE acts SET {column} = 'node.admitted' WHERE id = 2")  # noqa: S608
    with pytest.raises(MalformedInput, match="columns of act 2 do not say what its leaf says"):
        check_log(engine, KEY)


MOVED = {
    "the first act removed": ("DELETE FROM acts WHERE id = 1", r"act 2 is number 1 of the log, where 0 must stand"),
    "a middle act removed": ("DELETE FROM acts WHERE id = 3", r"act 4 is number 3 of the log, where 2 must stand"),
    "an index changed": ("UPDATE acts SET leaf_index = 9 WHERE id = 4", "act 4 is number 9 of the log"),
    "an index taken away": ("UPDATE acts SET leaf_index = NULL WHERE id = 2", "act 3 is number 2 of the log"),
    "acts renumbered": ("UPDATE acts SET id = 10 - id", "must stand"),
}


@pytest.mark.parametrize(("change", "error"), MOVED.values(), ids=MOVED)
def test_moved_and_removed_acts_are_found_and_named(written: Path, engine: sa.Engine, change: str, error: str) -> None:
    tamper(written, "PRAGMA foreign_keys = OFF", change)
    with pytest.raises(MalformedInput, match=error) as caught:
        check_log(engine, KEY)
    assert "restore the last backup" in (caught.value.remedy or "")


def test_swapped_indices_are_found(written: Path, engine: sa.Engine) -> None:
    tamper(
        written,
        "UPDATE acts SET leaf_index = 99 WHERE id = 2",
        "UPDATE acts SET leaf_index = 1 WHERE id = 3",
        "UPDATE acts SET leaf_index = 2 WHERE id = 2",
    )
    with pytest.raises(MalformedInput, match="act 2 is number 2 of the log, where 1 must stand"):
        check_log(engine, KEY)


def test_an_act_that_was_put_behind_later_ones_is_found(written: Path, engine: sa.Engine) -> None:
    """Without its index it would get the next free one, at the end of the log."""
    tamper(
        written,
        "UPDATE acts SET leaf_index = NULL WHERE id = 2",
        "UPDATE acts SET leaf_index = leaf_index - 1 WHERE id = 3",
        "UPDATE acts SET leaf_index = leaf_index - 1 WHERE id = 4",
    )
    with pytest.raises(MalformedInput, match="act 3 has a number, and one before it has none"):
        check_log(engine, KEY)


@pytest.mark.parametrize("place", [0, -1, -(2**63)])
def test_an_inserted_row_is_found_whatever_its_id(written: Path, engine: sa.Engine, place: int) -> None:
    tamper(
        written,
        "INSERT INTO acts (id, salt, kind, actor, envelope, body, mac, leaf_index) "
        "SELECT ?, x'00', kind, 'person/forged', envelope, body, mac, 4 FROM acts WHERE id = 2",
        values=(place,),
    )
    with pytest.raises(MalformedInput, match=f"columns of act {place}"):
        check_log(engine, KEY)


def test_leaves_that_changed_places_are_found(written: Path, engine: sa.Engine) -> None:
    """Whole rows that changed their indices and ids look alike; only their places tell."""
    tamper(written, "UPDATE acts SET id = 50 WHERE id = 2", "UPDATE acts SET id = 2 WHERE id = 3")
    with pytest.raises(MalformedInput, match="must stand"):
        check_log(engine, KEY)


def test_an_inserted_row_is_found_and_named(written: Path, engine: sa.Engine) -> None:
    tamper(
        written,
        "INSERT INTO acts (salt, kind, actor, envelope, body, mac) SELECT x'00', kind, actor, envelope, body, mac "
        "FROM acts WHERE id = 2",
    )
    with pytest.raises(MalformedInput, match="columns of act 6"):
        check_log(engine, KEY)


@pytest.mark.parametrize(
    "change", ["DELETE FROM versions", "UPDATE versions SET version = 0", "UPDATE versions SET version = 'x'"]
)
def test_a_version_that_was_put_back_alone_is_found(written: Path, engine: sa.Engine, change: str) -> None:
    tamper(written, change)
    with pytest.raises(MalformedInput, match="the version of log is not the one of its last act"):
        check_log(engine, KEY)
