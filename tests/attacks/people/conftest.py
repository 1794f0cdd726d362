"""A verifier whose log an auditor follows, and an export of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.v1.admin_pb2 import QuarantineNodeRequest, RetireModelRequest, RevokeKeyRequest
from nodeseal.verifier.states import PEOPLE
from support.admin import Entitled, a_sealed_model, entitled, grant
from support.audits import Audit, log_key_of
from support.fake_node import a_node
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningVerifier, Path, Path]]:
    """A verifier with a history, the key of its log, and an export."""
    folder = tmp_path_factory.mktemp("proof")
    with a_verifier(folder) as verifier:
        verifier.add_person("kim", *PEOPLE)
        asyncio.run(history(verifier))
        (folder / "log.vkey").write_text(log_key_of(verifier))
        terminal = Terminal(verifier.folder / "persons" / "kim", folder)
        terminal.type("audit", "export", str(folder / "export"), "--key", str(folder / "log.vkey"))
        yield verifier, folder / "log.vkey", folder / "export"


async def history(verifier: RunningVerifier) -> None:
    """Let something of every kind come and go."""
    async with entitled(verifier) as case:
        await case.lease()
        model = await a_sealed_model(case.admin, "gone", "gone")
        await grant(case.admin, case.node, "gone")
        other = Entitled(verifier=verifier, admin=case.admin, node=case.node, model=model)
        await other.lease()
        await case.admin.keys.RevokeKey(RevokeKeyRequest(key_id="gone", reason="leaked"))
        await case.admin.models.RetireModel(RetireModelRequest(digest=model.digest, reason="old"))
    pending = a_node(verifier)
    await pending.enrol()
    async with verifier.person() as admin:
        await admin.nodes.QuarantineNode(QuarantineNodeRequest(node_id=pending.node_id, reason="odd"))


@pytest.fixture
def audit(running: tuple[RunningVerifier, Path, Path], tmp_path: Path) -> Audit:
    verifier, key, export = running
    shutil.copytree(export, tmp_path / "export")
    return Audit(verifier, Terminal(verifier.folder / "persons" / "kim", tmp_path), key, tmp_path / "export")
