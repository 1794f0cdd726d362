"""Whoever opens a database, a file or a thread closes it, also when it fails."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from nodeseal.errors import NodesealError, Unavailable
from nodeseal.ids import PersonId
from nodeseal.verifier.checks.start import proved
from nodeseal.verifier.config import load_config
from nodeseal.verifier.main import app
from nodeseal.verifier.people.persons import People
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.store.database import made_engine, run
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


@dataclass(frozen=True, slots=True)
class Made:
    """What was made since the test began, held here so that no collector closes it.

    Attributes:
        connections: to databases.
        pools: of threads.
    """

    connections: list[sqlite3.Connection] = field(default_factory=list)
    pools: list[ThreadPoolExecutor] = field(default_factory=list)

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        self.connections.append(_connect(*args, **options))
        return self.connections[-1]

    def pool(self, pool: ThreadPoolExecutor, *args: Any, **options: Any) -> None:
        _make_pool(pool, *args, **options)
        self.pools.append(pool)

    def open(self) -> list[object]:
        """Return what nobody has closed."""
        return [*filter(is_open, self.connections), *filter(works, self.pools)]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        for pool in self.pools:
            pool.shutdown()


_connect, _make_pool = sqlite3.connect, ThreadPoolExecutor.__init__


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    def pool(new: ThreadPoolExecutor, *args: Any, **options: Any) -> None:
        held.pool(new, *args, **options)

    with closing(Made()) as held:
        monkeypatch.setattr("sqlite3.connect", held.connect)
        monkeypatch.setattr(ThreadPoolExecutor, "__init__", pool)
        yield held


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


def works(pool: ThreadPoolExecutor) -> bool:
    with suppress(RuntimeError):
        return pool.submit(bool) is not None
    return False


def left(made: Made, folder: Path) -> list[object]:
    """Return what this process still has open of a verifier."""
    files = [str(path.resolve()) for path in Path("/proc/self/fd").iterdir()]
    return [*made.open(), *(file for file in files if file.startswith(str(folder)))]


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
    made: Made,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(folder)
    monkeypatch.chdir(folder.parent)
    result = CliRunner().invoke(app, [*command, "--config", str(folder / "verifier.yaml")])
    assert result.exception is None or isinstance(result.exception, NodesealError)
    assert made.connections, "it opened the database"
    assert left(made, folder) == []


def test_init_closes_the_database_that_it_makes(made: Made, tmp_path: Path) -> None:
    initialise(tmp_path / "v", PLAN, datetime.now(UTC))
    assert made.connections
    assert left(made, tmp_path) == []


def test_an_init_that_fails_closes_the_database(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(People, "add", disk_full)
    with pytest.raises(Unavailable):
        initialise(tmp_path / "v", PLAN, datetime.now(UTC))
    assert made.connections
    assert left(made, tmp_path) == []


def disk_full(*_: object) -> Never:
    raise Unavailable("no disk")


async def starts(folder: Path) -> None:
    file = folder / "verifier.yaml"
    config = load_config(file)
    with proved(config, file, datetime.now(UTC)):
        async with running(config):
            pass


def test_a_verifier_that_ends_closes_what_it_opened(made: Made, folder: Path) -> None:
    asyncio.run(starts(folder))
    assert left(made, folder) == []


@pytest.mark.parametrize("change", [stamped, another_key, no_key, no_ear_key])
def test_a_verifier_that_refuses_to_start_closes_what_it_opened(
    change: Callable[[Path], None], made: Made, folder: Path
) -> None:
    change(folder)
    with pytest.raises(NodesealError):
        asyncio.run(starts(folder))
    assert left(made, folder) == []


def test_a_verifier_whose_port_is_taken_closes_what_it_opened(made: Made, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path, port = folder / "verifier.yaml", taken.getsockname()[1]
        path.write_text(path.read_text().replace('enrol: "127.0.0.1:0"', f'enrol: "127.0.0.1:{port}"'))
        with pytest.raises(NodesealError):
            asyncio.run(starts(folder))
    assert left(made, folder) == []


def fails(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SELECT * FROM nothing")


def test_after_an_error_no_connection_is_used_again_and_none_is_lost(made: Made, tmp_path: Path) -> None:
    with made_engine(tmp_path / "db.sqlite") as engine:
        with engine.connect() as reading:
            reading.exec_driver_sql("SELECT 1")
            with pytest.raises(Unavailable):
                run(engine, fails)
        with engine.connect(), engine.connect():
            assert [is_open(connection) for connection in made.connections] == [False, False, True, True]
    assert left(made, tmp_path) == []
