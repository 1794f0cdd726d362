"""The store: schema and migrations agree, failures leave no trace, what is reported is on disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from nodeseal.appraisal.kinds.ima import ImaMark
from nodeseal.appraisal.model import UNKNOWN_TPM, Baseline, TpmFacts
from nodeseal.errors import Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, KeyId, NodeId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.acts import ActRow, add_acts
from nodeseal.verifier.store.database import _ERRORS, Store, made_engine, opened_engine, require_database, run
from nodeseal.verifier.store.migrate import SCHEMA, SCRIPTS, check_schema, migrate
from nodeseal.verifier.store.nodes import (
    NodeFacts,
    NodeProgress,
    NodeRecord,
    NodeStanding,
    load_nodes,
    put_node,
    put_progress,
    save_labels,
)
from nodeseal.verifier.store.policy import find_key, find_model
from nodeseal.verifier.store.schema import ACTS, METADATA, Instant

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
RECORD = NodeRecord(
    node_id=NodeId("n-" + "a" * 26),
    ek_name=b"ek",
    ak_name=b"ak",
    ak_public=b"public",
    certificate_sha256=b"c" * 32,
    next_certificate_sha256=None,
    facts=NodeFacts(hostname="h", boot_id="b", tpm_manufacturer="m", tpm_firmware="f"),
    enrolled=NOW,
    tpm=TpmFacts(manufacturer="IFX", ek_algorithm="rsa2048"),
    labels={"rack": "a", "role": "gpu"},
)
MARK = ImaMark(
    offset=2**40,
    aggregates={HashAlg.SHA256: b"a" * 32, HashAlg.SHA384: b"b" * 48},
    first_at=NOW,
    last_at=NOW + timedelta(days=1),
)
STANDING = NodeStanding(
    state=NodeState.QUARANTINED,
    reason="odd",
    findings=(Finding(id=FindingId.CLOCK_ROLLBACK, expected="on", seen="back\nwards", where="clock", event="tick"),),
    goldens=(Digest("ab" * 32),),
    trusted_until=None,
)
PROGRESS = NodeProgress(
    last_seen=NOW,
    baseline=Baseline(
        clock_info=ClockInfo(clock=2**63, reset_count=2**32 - 1, restart_count=3, safe=True),
        boot_id="boot",
        kept=(MARK,),
    ),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with made_engine(tmp_path / "db.sqlite") as engine:
        migrate(engine)
        yield engine


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[sa.Engine]:
    """A database without a schema, for those that older versions made."""
    with made_engine(tmp_path / "empty.sqlite") as engine:
        yield engine


def put(connection: sa.Connection, record: NodeRecord, progress: NodeProgress) -> None:
    """Write a node."""
    put_node(connection, record, STANDING)
    put_progress(connection, record.node_id, progress)


def add(connection: sa.Connection, salt: bytes) -> None:
    """Write a row."""
    row = ActRow(salt=salt, kind="k", actor="a", envelope=b"{}", body=b"{}", mac=bytes(32))
    add_acts(connection, [(row, ("x",))])


def stamp(engine: sa.Engine, version: str) -> None:
    """Let the database be of another version."""
    change = sa.text("UPDATE alembic_version SET version_num = :version")
    run(engine.execution_options(writes=True), lambda connection: connection.execute(change, {"version": version}))


def test_migrations_make_the_schema_that_the_program_uses(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert [each for each in differences if not _same_type(each)] == []


def test_the_program_works_with_the_last_migration() -> None:
    assert max(path.name[:4] for path in (SCRIPTS / "versions").glob("0*.py")) == SCHEMA


def _same_type(difference: Any) -> bool:
    """Tell whether a difference is only that SQLite knows no type of its own for points in time and states."""
    (inner,) = difference if isinstance(difference, list) else (difference,)
    return bool(inner[0] == "modify_type" and isinstance(inner[-1], (Instant, sa.Enum)))


def test_a_database_of_another_version_is_refused_with_a_remedy(engine: sa.Engine) -> None:
    check_schema(engine)
    stamp(engine, "9999")
    with pytest.raises(Unavailable, match="schema 9999, this program needs") as caught:
        check_schema(engine)
    assert "upgrade" in caught.value.remedy


def test_a_database_of_a_newer_version_is_not_upgraded_and_stays_as_it_is(engine: sa.Engine) -> None:
    stamp(engine, "9999")
    with pytest.raises(Unavailable, match="schema that this program does not know"):
        migrate(engine)
    with pytest.raises(Unavailable, match="schema 9999"):
        check_schema(engine)


def test_an_empty_database_is_refused(empty: sa.Engine) -> None:
    with pytest.raises(Unavailable, match="schema None"):
        check_schema(empty)


def test_commits_reach_the_disk_before_they_are_reported(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        }
    assert pragmas == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}


def test_a_transaction_that_fails_leaves_no_trace(engine: sa.Engine) -> None:
    def work(connection: sa.Connection) -> None:
        add(connection, b"first")
        raise RuntimeError("half way")

    store = Store(engine)

    async def case() -> int:
        with pytest.raises(RuntimeError, match="half way"):
            await store.write(work)
        await store.write(lambda connection: add(connection, b"second"))
        return await store.read(
            lambda connection: connection.execute(sa.select(sa.func.count()).select_from(ACTS)).scalar_one()
        )

    assert asyncio.run(case()) == 1
    store.close()


def test_a_locked_database_is_unavailable_and_comes_back(engine: sa.Engine, tmp_path: Path) -> None:
    blocker = sqlite3.connect(tmp_path / "db.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writer = engine.execution_options(writes=True)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    with pytest.raises(Unavailable, match="locked"):
        run(writer, lambda connection: add(connection, b"first"))
    blocker.execute("ROLLBACK")
    blocker.close()
    run(writer, lambda connection: add(connection, b"second"))


def test_a_node_comes_back_from_the_database_as_it_was(engine: sa.Engine) -> None:
    run(engine.execution_options(writes=True), lambda connection: put(connection, RECORD, PROGRESS))
    assert run(engine, load_nodes) == [(RECORD, STANDING, PROGRESS)]


def test_a_node_without_labels_certificate_or_ima_comes_back_without_them(engine: sa.Engine) -> None:
    bare = replace(RECORD, tpm=UNKNOWN_TPM, labels={})
    progress = replace(PROGRESS, baseline=PROGRESS.baseline._replace(kept=())) if PROGRESS.baseline else PROGRESS
    run(engine.execution_options(writes=True), lambda connection: put(connection, bare, progress))
    assert run(engine, load_nodes) == [(bare, STANDING, progress)]


def test_labels_are_kept(engine: sa.Engine) -> None:
    writer = engine.execution_options(writes=True)
    run(writer, lambda connection: put_node(connection, RECORD, STANDING))
    run(writer, lambda connection: save_labels(connection, RECORD.node_id, {"rack": "b"}))
    ((record, *_),) = run(engine, load_nodes)
    assert record == replace(RECORD, labels={"rack": "b"})


def test_a_database_of_the_first_version_is_upgraded_with_its_nodes(empty: sa.Engine) -> None:
    migrate(empty, "0001")
    values = {
        "node_id": RECORD.node_id,
        "state": "trusted",
        "reason": "",
        "findings": (
            b'[{"expected":"on","id":"clock.rollback","seen":"back","where":"clock"},'
            b'{"expected":"00","id":"pcr.capped","seen":"ff","where":"sha256 PCR 15"}]'
        ),
        "ek_name": b"ek",
        "ak_name": b"ak",
        "ak_public": b"public",
        "certificate_sha256": b"c" * 32,
        "hostname": "h",
        "boot_id": "b",
        "tpm_manufacturer": "m",
        "tpm_firmware": "f",
        "enrolled": 1_767_323_045_678_901,
        "clock": b'{"boot_id":"boot","clock":"7","reset_count":1,"restart_count":2,"safe":true}',
    }
    with empty.execution_options(writes=True).begin() as connection:
        columns = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        connection.execute(sa.text(f"INSERT INTO nodes ({columns}) VALUES ({places})"), values)  # noqa: S608 - constants
    with pytest.raises(Unavailable, match="schema 0001"):
        check_schema(empty)
    migrate(empty)
    check_schema(empty)
    ((record, standing, progress),) = run(empty, load_nodes)
    assert record == replace(RECORD, tpm=UNKNOWN_TPM, labels={})
    assert (standing.state, [each.event for each in standing.findings]) == (NodeState.TRUSTED, [""])
    clock = ClockInfo(clock=7, reset_count=1, restart_count=2, safe=True)
    assert progress.baseline == Baseline(clock_info=clock, boot_id="boot")


def test_keys_of_an_older_version_are_in_files_after_the_upgrade(empty: sa.Engine) -> None:
    migrate(empty, "0002")
    insert = "INSERT INTO model_keys (key_id, version, suite, public, created) VALUES ('llama', 1, 'any', X'00', 0)"
    with empty.execution_options(writes=True).begin() as connection:
        connection.execute(sa.text(insert))
    migrate(empty)
    found = run(empty, lambda connection: find_key(connection, KeyId("llama")))
    assert found is not None
    assert found.place == "file"


@pytest.mark.parametrize("version", ["0001", "0003"])
def test_models_of_an_older_version_are_registered_after_the_upgrade(empty: sa.Engine, version: str) -> None:
    migrate(empty, version)
    insert = "INSERT INTO models VALUES (:digest, 'llama', 2, 1, 1, X'7b7d', 1767323045678901)"
    with empty.execution_options(writes=True).begin() as connection:
        connection.execute(sa.text(insert), {"digest": "ab" * 32})
    migrate(empty)
    found = run(empty, lambda connection: find_model(connection, Digest("ab" * 32)))
    assert found is not None
    assert (found.version, found.registered, found.retired) == (2, NOW, None)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with opened_engine(tmp_path / "absent.sqlite") as engine, pytest.raises(Unavailable, match="unable to open"):
        run(engine, lambda connection: connection.exec_driver_sql("SELECT 1").all())
    assert not (tmp_path / "absent.sqlite").exists()
    with pytest.raises(Unavailable, match=r"absent\.sqlite: no such file"):
        require_database(tmp_path / "absent.sqlite")


def test_a_database_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "db ?#%.sqlite"
    with made_engine(path) as engine:
        run(engine, lambda connection: connection.exec_driver_sql("SELECT 1").all())
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Unavailable, match="File exists"), made_engine(path):
        pass


def test_a_connection_is_used_although_another_thread_met_an_error_since_it_was_made(engine: sa.Engine) -> None:
    """The pool makes at most two for a request, and then gives up with an error that is none of the database."""

    def fail(*_: object) -> None:
        _ERRORS[engine.pool].happened()

    sa.event.listen(engine, "connect", fail)
    fail()
    assert run(engine, lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
