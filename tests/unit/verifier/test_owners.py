"""Whoever opens a database, a file or a thread closes it, also when it fails."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from nodeseal.errors import NodesealError, Unavailable
from nodeseal.ids import PersonId
from nodeseal.verifier.config import load_config
from nodeseal.verifier.main import app
from nodeseal.verifier.people.persons import People
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.store.database import opened_engine, run
from nodeseal.verifier.wiring import running

PLAN = SetupPlan(
    trust_domain="example.org",
    server_names=("localhost",),
    listen="127.0.0.1:0",
    listen_enrol="127.0.0.1:0",
    ek_roots=None,
    admin=PersonId("admin"),
    own=OwnCertificates(),
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[sqlite3.Connection]]:
    """All connections that were made since, held here so that no collector closes them."""
    connect, held = sqlite3.connect, list[sqlite3.Connection]()

    def connecting(*args: Any, **options: Any) -> sqlite3.Connection:
        held.append(connect(*args, **options))
        return held[-1]

    monkeypatch.setattr("sqlite3.dbapi2.connect", connecting)
    yield held
    for connection in held:
        connection.close()


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new verifier, to copy."""
    folder = tmp_path_factory.mktemp("pattern") / "v"
    initialise(folder, PLAN, datetime.now(UTC))
    return folder


@pytest.fixture
def folder(pattern: Path, tmp_path: Path) -> Path:
    """A new verifier."""
    return Path(shutil.copytree(pattern, tmp_path / "v"))


def is_open(connection: sqlite3.Connection) -> bool:
    with suppress(sqlite3.ProgrammingError):
        return connection.total_changes >= 0
    return False


def left_open(made: list[sqlite3.Connection], folder: Path) -> list[str]:
    """Return what this process still has open of a verifier."""
    files = [str(path.resolve()) for path in Path("/proc/self/fd").iterdir()]
    threads = [thread.name for thread in threading.enumerate()]
    return [
        *map(repr, filter(is_open, made)),
        *(file for file in files if file.startswith(str(folder))),
        *(name for name in threads if name.startswith(("store", "journal", "enrolment"))),
    ]


def stamped(folder: Path) -> None:
    """Let a newer version have made the database."""
    with closing(sqlite3.connect(folder / "verifier.sqlite")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")


def another_key(folder: Path) -> None:
    (folder / "acts.key").write_bytes(bytes(32))


def no_key(folder: Path) -> None:
    (folder / "acts.key").unlink()


def no_ear_key(folder: Path) -> None:
    (folder / "ear.key").unlink()


def nothing(_folder: Path) -> None:
    """Leave all as it is."""


COMMANDS = {
    "upgrade": ["upgrade"],
    "person add": ["person", "add", "kim", "--role", "viewer", "-o", "kim"],
    "person add again": ["person", "add", "admin", "--role", "viewer", "-o", "again"],
    "person remove": ["person", "remove", "admin"],
    "person remove nobody": ["person", "remove", "nobody"],
    "person list": ["person", "list"],
}


@pytest.mark.parametrize("change", [nothing, stamped, another_key, no_key])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_command_closes_what_it_opened_whether_or_not_it_succeeds(
    command: list[str],
    change: Callable[[Path], None],
    made: list[sqlite3.Connection],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(folder)
    monkeypatch.chdir(folder.parent)
    result = CliRunner().invoke(app, [*command, "--config", str(folder / "verifier.yaml")])
    assert result.exception is None or isinstance(result.exception, NodesealError)
    assert made, "it opened the database"
    assert left_open(made, folder) == []


def test_init_closes_the_database_that_it_makes(made: list[sqlite3.Connection], tmp_path: Path) -> None:
    initialise(tmp_path / "v", PLAN, datetime.now(UTC))
    assert made
    assert left_open(made, tmp_path) == []


def test_an_init_that_fails_closes_the_database(
    made: list[sqlite3.Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(People, "add", disk_full)
    with pytest.raises(Unavailable):
        initialise(tmp_path / "v", PLAN, datetime.now(UTC))
    assert made
    assert left_open(made, tmp_path) == []


def disk_full(*_: object) -> Never:
    raise Unavailable("no disk")


async def starts(folder: Path) -> None:
    async with running(load_config(folder / "verifier.yaml")):
        pass


def test_a_verifier_that_ends_closes_what_it_opened(made: list[sqlite3.Connection], folder: Path) -> None:
    asyncio.run(starts(folder))
    assert left_open(made, folder) == []


@pytest.mark.parametrize("change", [stamped, another_key, no_key, no_ear_key])
def test_a_verifier_that_refuses_to_start_closes_what_it_opened(
    change: Callable[[Path], None], made: list[sqlite3.Connection], folder: Path
) -> None:
    change(folder)
    with pytest.raises(NodesealError):
        asyncio.run(starts(folder))
    assert left_open(made, folder) == []


def test_a_verifier_whose_port_is_taken_closes_what_it_opened(made: list[sqlite3.Connection], folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path, port = folder / "verifier.yaml", taken.getsockname()[1]
        path.write_text(path.read_text().replace('enrol: "127.0.0.1:0"', f'enrol: "127.0.0.1:{port}"'))
        with pytest.raises(Unavailable):
            asyncio.run(starts(folder))
    assert left_open(made, folder) == []


def fails(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SELECT * FROM nothing")


def test_after_an_error_no_connection_is_used_again_and_none_is_lost(
    made: list[sqlite3.Connection], tmp_path: Path
) -> None:
    with opened_engine(tmp_path / "db.sqlite") as engine:
        with engine.connect() as reading:
            reading.exec_driver_sql("SELECT 1")
            with pytest.raises(Unavailable):
                run(engine, fails)
        with engine.connect(), engine.connect():
            assert [is_open(connection) for connection in made] == [False, False, True, True]
    assert left_open(made, tmp_path) == []
