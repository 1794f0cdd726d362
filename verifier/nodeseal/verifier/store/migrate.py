"""Brings the database to this version's schema, and refuses to work with any other.

Migrations are explicit steps in ``migrations/versions``; ``nodeseal-verifier init`` runs them, ``run`` only checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from nodeseal.errors import Unavailable
from nodeseal.verifier.store.database import inspected_engine, opened_engine, require_database

SCRIPTS: Final = Path(__file__).parent / "migrations"
SCHEMA: Final = "0008"
"""The last migration, which this program works with. Only migrations need Alembic, which is slow to load."""
_VERSION: Final = sa.table("alembic_version", sa.column("version_num", sa.String))


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Make or upgrade the schema, in one transaction.

    Args:
        engine: of the database.
        revision: the schema to stop at; this program works with the last one only.

    Raises:
        Unavailable: a newer version made it, or it cannot be read or written.
    """
    from alembic import command  # noqa: PLC0415 - only migrations need it
    from alembic.config import Config  # noqa: PLC0415 - as above
    from alembic.util import CommandError  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    try:
        with engine.execution_options(writes=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except CommandError as error:
        remedy = "run the version of the program that wrote it, or restore the backup of this one"
        raise Unavailable("store: the database has a schema that this program does not know", remedy=remedy) from error
    except sa.exc.DBAPIError as error:
        raise Unavailable(f"store: {error.orig}") from error


@contextmanager
def current_database(path: Path, *, untouched: bool = False) -> Iterator[sa.Engine]:
    """Open a database of this program's schema while the block runs.

    Args:
        path: the file.
        untouched: whether it is only read; see :func:`~nodeseal.verifier.store.database.inspected_engine`.

    Raises:
        Unavailable: there is none, it was made by an older or newer version, or it cannot be read.
    """
    require_database(path)
    with inspected_engine(path) if untouched else opened_engine(path) as engine:
        check_schema(engine)
        yield engine


def check_schema(engine: sa.Engine) -> None:
    """Make sure that the database has the schema of this program.

    Raises:
        Unavailable: it was made by an older or newer version, or cannot be read.
    """
    try:
        with engine.connect() as connection:
            made = sa.inspect(connection).has_table(_VERSION.name)
            found = connection.scalar(sa.select(_VERSION.c.version_num)) if made else None
    except sa.exc.DBAPIError as error:
        raise Unavailable(f"store: {error.orig}") from error
    if found != SCHEMA:
        raise Unavailable(
            f"store: the database has schema {found}, this program needs {SCHEMA}",
            remedy="run nodeseal-verifier upgrade, or the version of the program that wrote it",
        )
