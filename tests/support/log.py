"""The verifier's log as tests read it: straight from the database, one mapping an act."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple


class LoggedAct(NamedTuple):
    """An act as its row has it.

    Attributes:
        leaf: leaf hash.
        place: place in the log; None: not numbered yet.
        plain: ``time``, ``actor``, ``action`` (its kind), ``subject`` (its first one) and ``details`` (its fields, with
            findings instead of their digest).
    """

    leaf: bytes
    place: int | None
    plain: dict[str, Any]


def read_log(database: Path) -> list[LoggedAct]:
    """Return all acts in the order in which they were written."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20)) as connection:
        return list(acts_of(connection))


def acts_of(connection: sqlite3.Connection) -> Iterator[LoggedAct]:
    """Yield all acts that a connection sees."""
    rows = list(connection.execute("SELECT leaf_index, kind, envelope, body FROM acts ORDER BY id"))
    # Read after the acts, whose transactions stored them: another one may end in between.
    documents = dict(connection.execute("SELECT digest, content FROM documents"))
    for index, kind, raw, body in rows:
        envelope, inner = json.loads(raw), json.loads(body)
        details = inner["fields"]
        if "findings" in details:
            details["findings"] = json.loads(documents[details["findings"]]) if details["findings"] else []
        plain = {
            "time": envelope["at"],
            "actor": inner["actor"],
            "action": kind,
            "subject": _main(kind, envelope["subjects"]),
            "details": details,
        }
        yield LoggedAct(hashlib.sha256(b"\0" + raw).digest(), index, plain)


def _main(kind: str, subjects: dict[str, int]) -> str:
    """Return the subject that an act is about, which its kind begins with."""
    about = kind.partition(".")[0]
    about = {"release": "model"}.get(about, about)
    named = sorted((name for name in subjects if name.startswith(f"{about}/")), key=len)
    return "/".join((named or [*subjects, ""])[0].split("/")[:2])
