"""Rows of a table as records whose fields have the names of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import sqlalchemy as sa

R = TypeVar("R")
NO_VALUES: Final[Mapping[str, object]] = {}


def read_records(
    connection: sa.Connection, query: sa.Select[Any], kind: Callable[..., R], values: Mapping[str, object] = NO_VALUES
) -> list[R]:
    """Return a record of ``kind`` for each row; ``values`` are those of the query's parameters."""
    return [kind(**row._mapping) for row in connection.execute(query, values)]  # noqa: SLF001 - public, despite its name


def find_record(
    connection: sa.Connection, query: sa.Select[Any], kind: Callable[..., R], values: Mapping[str, object] = NO_VALUES
) -> R | None:
    """Return the record of the only row, or None if there is no row; ``values`` are those of the query's parameters."""
    row = connection.execute(query, values).one_or_none()
    return None if row is None else kind(**row._mapping)  # noqa: SLF001 - public, despite its name
