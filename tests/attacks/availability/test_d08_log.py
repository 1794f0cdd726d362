"""A node that fills the log, row d08: long findings round after round, and requests for keys that it may not have.

What one node makes the log grow by is bounded; others go on; people take trust away though the disk is nearly full.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import grpc
import pytest
from grpc import aio

from nodeseal.errors import TooManyRequests
from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import (
    NODE_STATE_PENDING,
    NODE_STATE_QUARANTINED,
    NODE_STATE_TRUSTED,
    NODE_STATE_UNTRUSTED,
)
from nodeseal.verifier.ledger import ledger as ledger_module
from nodeseal.verifier.ledger.shares import Shares
from nodeseal.verifier.store.database import Store
from support.admin import Entitled, a_sealed_model, entitled
from support.attackers import altered, seen_by
from support.damage import flipped
from support.fake_node import FakeNode, a_node
from support.in_process import in_process
from support.verifier import RunningVerifier, a_verifier, refused

SHARE = 64 * 1024
ROUNDS = 150
LARGEST_DECISION = 64 * 4 * 256 * 4 + 16 * 1024
"""Bytes of 64 findings with four texts of 256 characters each, and of the acts beside them."""


@pytest.fixture
def verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningVerifier]:
    """A verifier in this process; each node has a share that a test can use up."""
    monkeypatch.setattr(ledger_module, "Shares", lambda: Shares(SHARE))
    with a_verifier(tmp_path, start=False, interval_seconds=0, trust_seconds=120) as made:
        config = made.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("per_minute: 60", "per_minute: 100000"))
        yield made


def grown(verifier: RunningVerifier, node: FakeNode) -> int:
    """Return the bytes of acts about a node, and of the documents that they name."""
    with closing(sqlite3.connect(verifier.folder / "verifier.sqlite", timeout=20)) as database:
        rows = list(
            database.execute(
                "SELECT envelope, body FROM acts WHERE id IN (SELECT act_id FROM act_subjects WHERE subject LIKE ?)",
                (f"node/{node.node_id}%",),
            )
        )
        sizes: dict[str, int] = dict(database.execute("SELECT digest, length(content) FROM documents"))
    named = {json.loads(body)["fields"].get("findings", "") for _, body in rows}
    return sum(len(envelope) + len(body) for envelope, body in rows) + sum(sizes.get(each, 0) for each in named)


async def betray_without_end(node: FakeNode, rounds: int) -> None:
    """Send evidence whose findings are news every time and as long as they get."""
    honest = node.claims
    async with node.attesting() as stream:
        for number in range(rounds):
            challenge = await stream.challenge()
            if number % 2:
                text = f"{number} ".ljust(4096, "\U0001f600")
                node.claims = lambda text=text: json.dumps({text: text}, ensure_ascii=False).encode()  # type: ignore[method-assign, misc]
                await stream.send(node.evidence(challenge))
                node.claims = honest  # type: ignore[method-assign]
            else:
                evidence = node.evidence(challenge)
                await stream.send(altered(evidence, signature=flipped(evidence.signature)))
            assert (await stream.verdict()).findings


async def ask_without_end(scene: Entitled, node: FakeNode, rounds: int) -> None:
    """Ask for a key that the node may not have."""
    for _ in range(rounds):
        refusal = await refused(node.release(scene.model.digest, [scene.model.slot]))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
        assert "release.node-state" in refusal.findings


def test_d08_what_a_node_makes_the_log_grow_by_is_bounded(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with in_process(verifier), entitled(verifier) as scene:
            hostile = a_node(verifier)
            await hostile.enrol()
            await betray_without_end(hostile, ROUNDS)
            await ask_without_end(scene, hostile, ROUNDS)
            size = grown(verifier, hostile)
            assert SHARE / 2 <= size <= SHARE / 2 + LARGEST_DECISION  # nothing of it was proved by a TPM
            await betray_without_end(hostile, 20)
            await ask_without_end(scene, hostile, 20)
            assert grown(verifier, hostile) == size  # used up is used up
            known = await seen_by(scene.admin, hostile)
            assert known.state == NODE_STATE_PENDING
            assert known.findings  # people see what it did last, recorded or not
            assert await scene.lease()  # others go on
            async with scene.node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED
            request = admin_pb2.QuarantineNodeRequest(node_id=hostile.node_id, reason="noise")
            await scene.admin.nodes.QuarantineNode(request)
            assert verifier.actions(f"node/{hostile.node_id}")[-1] == "node.quarantined"

    asyncio.run(case())


def test_d08_a_thief_of_the_tls_key_leaves_half_of_the_share_to_what_the_tpm_proves(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with in_process(verifier), entitled(verifier) as scene:
            other = await a_sealed_model(scene.admin, "another", "another")
            for _ in range(ROUNDS):  # no quote is asked for: the node has no grant for that key
                refusal = await refused(scene.node.release(other.digest, [other.slot]))
                assert "release.not-granted" in refusal.findings, refusal
            used = grown(verifier, scene.node)
            assert SHARE / 2 <= used <= SHARE / 2 + LARGEST_DECISION
            assert await scene.lease()
            async with scene.node.attesting() as stream:
                evidence = scene.node.evidence(await stream.challenge())
                await stream.send(altered(evidence, signature=flipped(evidence.signature)))
                assert (await stream.verdict()).state == NODE_STATE_UNTRUSTED
                await stream.round_until(NODE_STATE_TRUSTED)
            assert await scene.lease()

    asyncio.run(case())


def test_d08_enrolling_again_and_again_uses_up_the_share_too(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with in_process(verifier):
            hostile = a_node(verifier)
            refusals: list[grpc.StatusCode] = []
            for _ in range(120):
                try:
                    await hostile.enrol()
                except aio.AioRpcError as error:
                    refusals.append(error.code())
            assert set(refusals) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert grown(verifier, hostile) <= SHARE + LARGEST_DECISION

    asyncio.run(case())


def test_d08_denials_that_were_not_recorded_are_counted_in_the_next_one(
    verifier: RunningVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with in_process(verifier), entitled(verifier) as scene:
            hostile = a_node(verifier)
            await hostile.enrol()
            await ask_without_end(scene, hostile, 1)
            with monkeypatch.context() as patch:
                patch.setattr(Shares, "require", spent)
                await ask_without_end(scene, hostile, 5)
            await ask_without_end(scene, hostile, 1)
            denials = [each["details"] for each in verifier.records() if each["action"] == "release.denied"]
            assert [denial["unrecorded"] for denial in denials] == [0, 5]

    def spent(self: Shares, node_id: str, now: float, **how: bool) -> None:
        raise TooManyRequests(f"{node_id} {now} {self} {how}")

    asyncio.run(case())


def test_d08_people_take_trust_away_though_the_disk_is_nearly_full(
    verifier: RunningVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with in_process(verifier), entitled(verifier) as scene:
            lease = await scene.lease()
            monkeypatch.setattr(Store, "free_bytes", lambda _: 1024)
            refusal = await refused(scene.admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="another")))
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
            assert "64 MiB" in refusal.details
            request = admin_pb2.QuarantineNodeRequest(node_id=scene.node.node_id, reason="odd")
            await scene.admin.nodes.QuarantineNode(request)
            await scene.admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id="llama", reason="leaked"))
            assert verifier.actions(f"lease/{lease}") == ["lease.issued", "lease.ended"]
            known = await seen_by(scene.admin, scene.node)
            assert (known.state, list(known.leases)) == (NODE_STATE_QUARANTINED, [])
            admit = admin_pb2.AdmitNodeRequest(node_id=scene.node.node_id)
            assert (await refused(scene.admin.nodes.AdmitNode(admit))).code is grpc.StatusCode.UNAVAILABLE
            assert verifier.actions("key/llama")[-1] == "key.revoked"

    asyncio.run(case())


def test_d08_listing_the_log_comes_in_small_messages(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with in_process(verifier), entitled(verifier) as scene:
            hostile = a_node(verifier)
            await hostile.enrol()
            with suppress(aio.AioRpcError):
                await betray_without_end(hostile, 40)
            listed = [each async for each in scene.admin.audit.ListRecords(admin_pb2.ListRecordsRequest())]
            assert len(listed) == len(verifier.records())
            assert max(each.ByteSize() for each in listed) < 16 * 1024
            newest = admin_pb2.ListRecordsRequest(newest=True, limit=5)
            assert [each async for each in scene.admin.audit.ListRecords(newest)] == listed[-5:]

    asyncio.run(case())
