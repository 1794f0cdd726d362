"""Connections to SQLite files warn when they are dropped unclosed, as they do by themselves since Python 3.13."""

from __future__ import annotations

import sqlite3
import sys
import warnings
from typing import Any

_connect = sqlite3.connect


class _Connection(sqlite3.Connection):
    _open = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open = True

    def close(self) -> None:
        super().close()
        self._open = False

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"unclosed database in {self!r}", ResourceWarning, source=self, stacklevel=1)


def warn_of_unclosed_databases() -> None:
    """Let this process warn, whichever Python runs it."""
    if sys.version_info < (3, 13):
        sqlite3.connect = sqlite3.dbapi2.connect = lambda *args, **options: _connect(
            *args, **{"factory": _Connection, **options}
        )
