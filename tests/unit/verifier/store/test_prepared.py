"""Statements that are compiled once: values of types, rows, and errors as SQLAlchemy has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.errors import Unavailable
from nodeseal.verifier.store.database import made_engine, run
from nodeseal.verifier.store.prepared import Prepared
from nodeseal.verifier.store.schema import METADATA, PERSONS

AT = datetime(2026, 1, 2, tzinfo=UTC)
ADD = Prepared(PERSONS.insert(), "name", "roles", "certificate_sha256", "added")
NAMES = Prepared(sa.select(PERSONS.c.name).where(PERSONS.c.added == sa.bindparam("at")).order_by(PERSONS.c.name))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with made_engine(tmp_path / "db.sqlite") as made:
        METADATA.create_all(made)
        yield made


def person(name: str) -> dict[str, object]:
    return {"name": name, "roles": "viewer", "certificate_sha256": bytes(32), "added": AT}


def add_all(engine: sa.Engine, *names: str) -> None:
    run(engine.execution_options(writes=True), lambda made: ADD.run_all(made, [person(name) for name in names]))


def test_values_have_the_types_of_their_columns_and_rows_come_back(engine: sa.Engine) -> None:
    add_all(engine, "kim", "ada")
    assert run(engine, lambda made: NAMES.run(made, {"at": AT})) == [("ada",), ("kim",)]
    assert run(engine, lambda made: made.scalar(sa.select(PERSONS.c.added).limit(1))) == AT


def test_without_rows_nothing_runs(engine: sa.Engine) -> None:
    add_all(engine)
    assert run(engine, lambda made: NAMES.run(made, {"at": AT})) == []


def test_errors_of_the_driver_are_sqlalchemys(engine: sa.Engine) -> None:
    add_all(engine, "kim")
    with engine.begin() as connection, pytest.raises(sa.exc.IntegrityError):
        ADD.run(connection, person("kim"))
    missing = Prepared(sa.text("SELECT 1 FROM nowhere"))
    with pytest.raises(Unavailable, match="no such table"):
        run(engine, missing.run)


def test_a_connection_whose_disk_failed_is_not_used_again(engine: sa.Engine) -> None:
    """One that was made while the disk was read-only would stay so: the store would never recover."""
    add_all(engine, "kim")
    with engine.connect() as before:
        driver = before.connection.dbapi_connection
    with pytest.raises(Unavailable):
        run(engine, Prepared(sa.text("SELECT 1 FROM nowhere")).run)
    with engine.connect() as after:
        assert after.connection.dbapi_connection is not driver
