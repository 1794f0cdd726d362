"""Attacks by rows that are edited in the database, as an auditor finds them: rows g03 and g10.

The verifier finds an inserted act by its MAC (tests/unit/verifier/ledger/test_log.py). Here somebody edits what is in
force, behind the verifier's back; the next export names the row.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from nodeseal.verifier.states import PEOPLE
from support.admin import entitled
from support.audits import Audit, log_key_of
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier, refused
from support.who_could_open import openings, releases

EDITS = {
    "grants": "UPDATE grants SET max_leases = 99",
    "persons": "UPDATE persons SET roles = 'approver operator' WHERE name = 'lee'",
    "model_keys": "UPDATE model_keys SET silence_seconds = 86400",
    "models": "UPDATE models SET retired = 1",
    "goldens": "UPDATE goldens SET retired = 1",
    "nodes": "UPDATE nodes SET ak_public = zeroblob(8)",
    "leases": "UPDATE leases SET ended = NULL",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("rows")) as verifier:
        verifier.add_person("kim", *PEOPLE)
        verifier.add_person("lee")
        asyncio.run(_history(verifier))
        yield verifier


async def _history(verifier: RunningVerifier) -> None:
    async with entitled(verifier) as case:
        lease = await case.lease()
        await case.node.give_back(lease)


@pytest.fixture
def audit(running: RunningVerifier, tmp_path: Path) -> Audit:
    (tmp_path / "log.vkey").write_text(log_key_of(running))
    terminal = Terminal(running.folder / "persons" / "kim", tmp_path)
    return Audit(running, terminal, tmp_path / "log.vkey", tmp_path / "export")


def change(verifier: RunningVerifier, statement: str) -> None:
    with closing(sqlite3.connect(verifier.folder / "verifier.sqlite", timeout=20)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("table", EDITS)
def test_g10_an_edited_row_is_named_by_the_next_audit(audit: Audit, table: str) -> None:
    with closing(sqlite3.connect(audit.verifier.folder / "verifier.sqlite", timeout=20)) as connection:
        before = list(connection.execute(f"SELECT * FROM {table}"))  # noqa: S608 - a name from the table above
        marks = ", ".join("?" * len(before[0]))
    change(audit.verifier, EDITS[table])
    audit.said("export", str(audit.folder), exit_code=0)
    said = audit.verify(exit_code=1)
    assert f"log.export ({table}: " in said
    with closing(sqlite3.connect(audit.verifier.folder / "verifier.sqlite", timeout=20)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from the table above
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", before)  # noqa: S608 - as above
        connection.commit()


def test_g03_an_added_grant_is_named_by_the_next_audit(audit: Audit) -> None:
    added = "n-zzzzzzzzzzzzzzzzzzzzzzzzzz"
    change(audit.verifier, "INSERT INTO grants VALUES ('llama', 'n-zzzzzzzzzzzzzzzzzzzzzzzzzz', 5)")
    audit.said("export", str(audit.folder), exit_code=0)
    assert f"log.export (grants: grant/llama/{added})" in audit.verify(exit_code=1)
    change(audit.verifier, "DELETE FROM grants WHERE node_id = 'n-zzzzzzzzzzzzzzzzzzzzzzzzzz'")


STOPPING = {
    "grants": "UPDATE grants SET max_leases = 99",
    "model_keys": "UPDATE model_keys SET silence_seconds = 86400",
    "models": "UPDATE models SET version = version + 7",
    "nodes": 'UPDATE nodes SET labels = \'{"rack":"z"}\'',
}


@pytest.mark.parametrize("table", STOPPING)
def test_g03_no_key_is_released_by_an_edited_row_and_the_row_is_named(tmp_path: Path, table: str) -> None:
    with a_verifier(tmp_path) as verifier:
        asyncio.run(_released_until(verifier, table))
        verifier.tampered = True
        verifier.stop()
        if table != "nodes":
            with pytest.raises(AssertionError, match=f"the row of {table}"):
                verifier.start()


async def _released_until(verifier: RunningVerifier, table: str) -> None:
    async with entitled(verifier) as case:
        await case.node.give_back(await case.lease())
        before = case.leases_begun()
        change(verifier, STOPPING[table])
        refusal = await refused(case.release())
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert f"the row of {table}: " in refusal.details
        assert case.leases_begun() == before


def test_g03_who_could_open_what_follows_from_an_export_alone_and_agrees_with_the_verifier(audit: Audit) -> None:
    audit.said("export", str(audit.folder), exit_code=0)
    possible = openings(audit.folder)
    begun = releases(audit.folder)
    assert begun
    for node, key, model, at in begun:
        assert any(
            (node, key, model) == each[:3] and each[3] <= at and (not each[4] or at <= each[4]) for each in possible
        )
    now = {each[:3] for each in possible if not each[4]}
    with closing(sqlite3.connect(audit.verifier.folder / "verifier.sqlite", timeout=20)) as connection:
        held = connection.execute(
            "SELECT n.node_id, k.key_id, m.digest FROM grants g JOIN nodes n USING (node_id) JOIN model_keys k USING "
            "(key_id), models m WHERE k.revoked IS NULL AND m.retired IS NULL "
            "AND n.state IN ('trusted', 'untrusted', 'stale')"
        )
        assert now == set(held)
