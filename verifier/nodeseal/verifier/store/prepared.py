"""Statements that are compiled once, for what every act runs: SQLAlchemy takes longer to prepare than SQLite to run.

They go to the driver as text, so results are values of the driver: texts, integers and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import sqlalchemy as sa

_NOTHING: Final[Mapping[str, object]] = {}
_Values: TypeAlias = tuple[object, ...]
_Convert: TypeAlias = Callable[[Any], Any]


class _Compiled(NamedTuple):
    """A statement of one database.

    Attributes:
        text: of the statement.
        parameters: their names in the order of the text, and what makes values of the driver of theirs.
    """

    text: str
    parameters: tuple[tuple[str, _Convert | None], ...]


class Prepared:
    """A statement whose parameters have names."""

    def __init__(self, statement: sa.sql.expression.ClauseElement, *columns: str) -> None:
        """Take a statement; ``columns`` are those that an INSERT fills."""
        self._statement: Final = statement
        self._columns: Final = columns
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, values: Mapping[str, object] = _NOTHING) -> list[tuple[Any, ...]]:
        """Run it once, and return the rows that it finds."""
        compiled = self._for(connection.dialect)
        return _execute(connection, compiled.text, _row(compiled, values))

    def run_all(self, connection: sa.Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it for each row; without rows, not at all."""
        if rows:
            compiled = self._for(connection.dialect)
            _execute(connection, compiled.text, [_row(compiled, row) for row in rows])

    def _for(self, dialect: sa.Dialect) -> _Compiled:
        known = self._compiled.get(dialect.name)
        if known is None:
            known = self._compiled[dialect.name] = self._compile(dialect)
        return known

    def _compile(self, dialect: sa.Dialect) -> _Compiled:
        made: Any = self._statement.compile(dialect=dialect, column_keys=self._columns or None)
        names = made.positiontup or tuple(made.binds)
        return _Compiled(str(made), tuple((name, _converter(made.binds[name].type, dialect)) for name in names))


def _execute(connection: sa.Connection, text: str, values: _Values | list[_Values]) -> list[tuple[Any, ...]]:
    """Give a statement to the driver; its errors are SQLAlchemy's, so whoever waits for those sees them."""
    errors: Any = connection.dialect.loaded_dbapi.Error
    try:
        cursor = connection.connection.cursor()
        if isinstance(values, list):
            cursor.executemany(text, values)
            return []
        cursor.execute(text, values)
        return list(cursor.fetchall()) if cursor.description else []
    except errors as error:
        raise sa.exc.DBAPIError.instance(text, None, error, errors, dialect=connection.dialect) from error


def concerns_disk(error: BaseException | None) -> bool:
    """Tell whether the database itself failed. A row that breaks a constraint says nothing about the disk."""
    return isinstance(error, sa.exc.DBAPIError) and not isinstance(error, sa.exc.IntegrityError)


def _row(compiled: _Compiled, values: Mapping[str, object]) -> _Values:
    return tuple([values[name] if convert is None else convert(values[name]) for name, convert in compiled.parameters])


def _converter(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> _Convert | None:
    """Return what makes values of the driver of a type's; drivers take bytes as they are."""
    return None if isinstance(kind, sa.LargeBinary) else kind.dialect_impl(dialect).bind_processor(dialect)
