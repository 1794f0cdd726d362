"""Brings the database to this version's schema, and refuses to work with any other.

Migrations are explicit steps in ``migrations/versions``; ``nodeseal-verifier init`` runs them, ``run`` only checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from nodeseal.errors import Unavailable

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Make or upgrade the schema, in one transaction.

    Args:
        engine: of the database.
        revision: the schema to stop at; this program works with the last one only.

    Raises:
        Unavailable: a newer version made it, or it cannot be read or written.
    """
    config = _config()
    try:
        with engine.execution_options(writes=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except CommandError as error:
        remedy = "run the version of the program that wrote it, or restore the backup of this one"
        raise Unavailable("store: the database has a schema that this program does not know", remedy=remedy) from error
    except sa.exc.DBAPIError as error:
        raise Unavailable(f"store: {error.orig}") from error


def check_schema(engine: sa.Engine) -> None:
    """Make sure that the database has the schema of this program.

    Raises:
        Unavailable: it was made by an older or newer version, or cannot be read.
    """
    head = ScriptDirectory.from_config(_config()).get_current_head()
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except sa.exc.DBAPIError as error:
        raise Unavailable(f"store: {error.orig}") from error
    if found != head:
        raise Unavailable(
            f"store: the database has schema {found}, this program needs {head}",
            remedy="run nodeseal-verifier upgrade, or the version of the program that wrote it",
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
