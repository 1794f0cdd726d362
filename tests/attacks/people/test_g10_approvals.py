"""Row g10: what was approved together leaves an export that holds, and approvals that were changed are named."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from nodeseal.crypto.hpke import Suite
from nodeseal.ids import digest_of
from nodeseal.v1 import admin_pb2
from support.admin import content_of
from support.audits import log_key_of
from support.terminal import Terminal
from support.together import quorum_rules, several
from support.verifier import RunningVerifier, a_verifier, refused

CREATE = {
    "kind": "key.create",
    "key": "llama",
    "suite": Suite.MLKEM768_X25519.value,
    "store": "file",
    "silence_seconds": 0,
}


async def history(verifier: RunningVerifier) -> None:
    async with several(verifier, quorum_rules()) as people:
        kim, lee, _ = people.values()
        assert (await lee.approve(await kim.propose(CREATE))).outcome == "executed"
        await kim.propose({**CREATE, "key": "waits"})


def test_g10_approvals_are_decided_again_from_an_export_alone(tmp_path: Path) -> None:
    with a_verifier(tmp_path) as verifier:
        asyncio.run(history(verifier))
        (tmp_path / "log.vkey").write_text(log_key_of(verifier))
        auditor = Terminal(verifier.folder / "persons" / "kim", tmp_path)
        auditor.type("audit", "export", "export", "--key", "log.vkey")
        assert auditor.type("audit", "verify", "export", "--key", "log.vkey").returncode == 0
        approvals = next(
            path
            for path in sorted((tmp_path / "export").rglob("*"))
            if path.is_file() and b"nodeseal/approvals/1" in path.read_bytes() and b"key.create" in _proposal(path)
        )
        plain = json.loads(approvals.read_bytes())
        plain["approvals"] = []
        raw = json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()
        approvals.write_bytes(raw)
        refused = auditor.type("audit", "verify", "export", "--key", "log.vkey", exit_code=1).stderr
        assert "log.export" in refused
        assert sha256(raw).hexdigest() not in refused


def test_g10_an_edited_proposal_takes_no_effect(tmp_path: Path) -> None:
    """What people signed counts, not what the database says of it."""

    async def case() -> None:
        async with several(verifier, quorum_rules()) as people:
            kim, lee, _ = people.values()
            content, other = content_of("llama", 1), content_of("mallory", 1)
            change = {"kind": "model.register", "model": digest_of(content), "again": False}
            first, second = await kim.propose(change, content), await kim.propose(change, content)
            with closing(sqlite3.connect(verifier.folder / "verifier.sqlite")) as database, database:
                database.execute("UPDATE proposals SET attachment = ? WHERE proposal = ?", (other, first.proposal))
            edited = await lee.approve(first)
            assert (edited.outcome, "attachment is not the one" in edited.why) == ("failed", True)
            with closing(sqlite3.connect(verifier.folder / "verifier.sqlite")) as database, database:
                forged = second.document.replace(b"a test", b"b test")
                database.execute("UPDATE proposals SET document = ? WHERE proposal = ?", (forged, second.proposal))
            refusal = await refused(lee.approve(second, lee.sign(forged)))
            assert "was changed by hand" in refusal.details
            assert not (await kim.calls.models.ListModels(admin_pb2.ListModelsRequest())).models

    with a_verifier(tmp_path) as verifier:
        verifier.tampered = True
        asyncio.run(case())


def _proposal(path: Path) -> bytes:

    return base64.b64decode(json.loads(path.read_bytes())["proposal"])
