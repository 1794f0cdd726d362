"""Rows of a table as records whose fields have the names of its columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

R = TypeVar("R")


def read_records(connection: sa.Connection, query: sa.Select[Any], kind: Callable[..., R]) -> list[R]:
    """Return a record of ``kind`` for each row."""
    return [kind(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - public, despite its name


def find_record(connection: sa.Connection, query: sa.Select[Any], kind: Callable[..., R]) -> R | None:
    """Return the record of the only row, or None if there is no row."""
    row = connection.execute(query).one_or_none()
    return None if row is None else kind(**row._mapping)  # noqa: SLF001 - public, despite its name
