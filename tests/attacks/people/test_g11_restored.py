"""Attacks by an older database: row g11, and the part of row g04 that a start must find."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.v1.admin_pb2 import QuarantineNodeRequest, RevokeKeyRequest
from nodeseal.verifier.main import app
from nodeseal.verifier.states import PEOPLE
from support.admin import Entitled, entitled
from support.audits import log_key_of
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path) as made:
        made.add_person("kim", *PEOPLE)
        yield made


def copy(verifier: RunningVerifier, target: Path) -> None:
    """Copy the database in one state."""
    with (
        closing(sqlite3.connect(verifier.folder / "verifier.sqlite")) as source,
        closing(sqlite3.connect(target)) as made,
    ):
        source.backup(made)


def put_back(verifier: RunningVerifier, source: Path) -> None:
    """Put an older database in the place of the verifier's."""
    for suffix in ("-wal", "-shm"):
        (verifier.folder / f"verifier.sqlite{suffix}").unlink(missing_ok=True)
    shutil.copy(source, verifier.folder / "verifier.sqlite")


async def lose_everything(verifier: RunningVerifier, target: Path) -> Entitled:
    """Give a node a key, copy the database, then take all of it away."""
    async with entitled(verifier) as case:
        await case.lease()
        verifier.add_person("lee", *PEOPLE)
        copy(verifier, target)
        await case.admin.keys.RevokeKey(RevokeKeyRequest(key_id="llama", node_id=case.node.node_id, reason="x"))
        await case.admin.nodes.QuarantineNode(QuarantineNodeRequest(node_id=case.node.node_id, reason="stolen"))
        verifier.remove_person("lee")
        return case


async def still_counts(verifier: RunningVerifier, case: Entitled) -> None:
    """See to it that nothing of what was taken away works."""
    async with verifier.person() as admin:
        again = Entitled(verifier=verifier, admin=admin, node=case.node, model=case.model)
        await again.denied()


def test_g11_a_restored_database_is_refused_and_nothing_that_it_brings_back_counts_after_new_origin(
    verifier: RunningVerifier, tmp_path: Path
) -> None:
    case = asyncio.run(lose_everything(verifier, tmp_path / "old.sqlite"))
    key = log_key_of(verifier)
    verifier.stop()
    put_back(verifier, tmp_path / "old.sqlite")
    with pytest.raises(AssertionError, match="it is behind"):
        verifier.start()
    config = ["--config", str(verifier.folder / "verifier.yaml")]
    begun = CliRunner().invoke(app, ["new-origin", "--keep", "admin", "--keep", "kim", "--reason", "disk", *config])
    assert begun.exit_code == 0, begun.output
    assert "lee" in begun.output
    verifier.start()
    asyncio.run(still_counts(verifier, case))
    lee = Terminal(verifier.folder / "persons" / "lee", tmp_path)
    assert "person.unknown" in lee.type("node", "list", exit_code=1).stderr
    assert log_key_of(verifier) != key
    audit_of_the_new_log(verifier, tmp_path, key)


def audit_of_the_new_log(verifier: RunningVerifier, folder: Path, old_key: str) -> None:
    (folder / "new.vkey").write_text(log_key_of(verifier))
    (folder / "old.vkey").write_text(old_key)
    kim = Terminal(verifier.folder / "persons" / "kim", folder)
    kim.type("audit", "export", str(folder / "export"), "--key", str(folder / "new.vkey"))
    said = kim.type("audit", "verify", str(folder / "export"), "--key", str(folder / "new.vkey")).stdout
    assert said.startswith("complete: ")
    kim.type("audit", "verify", str(folder / "export"), "--key", str(folder / "old.vkey"), exit_code=1)


def test_g04_a_database_that_is_put_back_with_other_acts_in_it_is_refused(
    verifier: RunningVerifier, tmp_path: Path
) -> None:
    copy(verifier, tmp_path / "old.sqlite")
    checkpoint = (verifier.folder / "checkpoint").read_bytes()
    Terminal(verifier.folder / "persons" / "kim", tmp_path).type("key", "create", "one")
    verifier.stop()
    ahead = (verifier.folder / "checkpoint").read_bytes()
    put_back(verifier, tmp_path / "old.sqlite")
    (verifier.folder / "checkpoint").write_bytes(checkpoint)  # as root can; then the log goes on in another way
    verifier.start()
    Terminal(verifier.folder / "persons" / "kim", tmp_path).type("key", "create", "two")
    verifier.stop()
    (verifier.folder / "checkpoint").write_bytes(ahead)
    with pytest.raises(AssertionError, match="are not those that were signed"):
        verifier.start()
    (verifier.folder / "checkpoint").unlink()
    with pytest.raises(AssertionError, match="checkpoint"):
        verifier.start()


def test_g11_the_old_log_stays_readable_and_is_named_by_the_new_one(verifier: RunningVerifier, tmp_path: Path) -> None:
    verifier.stop()
    (verifier.folder / "checkpoint").unlink()
    config = ["--config", str(verifier.folder / "verifier.yaml")]
    assert CliRunner().invoke(app, ["new-origin", "--keep", "kim", "--reason", "moved", *config]).exit_code == 0
    verifier.start()
    kim = Terminal(verifier.folder / "persons" / "kim", tmp_path)
    kinds = [record["content"]["kind"] for record in kim.json("audit", "list", "--after", "0")]
    assert kinds[0] == "log.opened"
    assert "log.origin-changed" in kinds
