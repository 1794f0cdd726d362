"""A restriction overwritten, row t05: a refused round while the store cannot take it, then good ones.

Whatever keeps the store from taking the refusal, for however long, and whoever ends the verifier meanwhile: the refusal
is in force at once, is recorded before any later trust, and state and leases follow it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc import aio

from nodeseal.v1 import attestation_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_QUARANTINED, NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED
from support.admin import Entitled, entitled
from support.agents import eventually
from support.attackers import altered, seen_by
from support.damage import flipped
from support.fake_node import FakeNode, FakeStream
from support.faults import FAULTS, Fault, locked
from support.verifier import RunningVerifier, a_verifier, refused

HOUR_MS = 3_600_000
LONGEST_SECONDS = float(os.environ.get("NODESEAL_LOCKED_SECONDS", "6"))
"""How long the store is locked at the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Betrayal:
    """Evidence against a node.

    Attributes:
        evidence: makes it for a challenge.
        finding: what it shows.
        state: of the node from then on.
        after: of the node after good rounds, once the refusal is recorded.
    """

    evidence: Callable[[FakeNode, attestation_pb2.Challenge], attestation_pb2.Evidence]
    finding: str
    state: int
    after: int


def badly_signed(node: FakeNode, challenge: attestation_pb2.Challenge) -> attestation_pb2.Evidence:
    evidence = node.evidence(challenge)
    return altered(evidence, signature=flipped(evidence.signature))


def rolled_back(node: FakeNode, challenge: attestation_pb2.Challenge) -> attestation_pb2.Evidence:
    honest = node.tpm._milliseconds
    now = honest()
    node.tpm._milliseconds = lambda: now - HOUR_MS
    evidence = node.evidence(challenge)
    node.tpm._milliseconds = honest
    return evidence


BAD_SIGNATURE = Betrayal(
    evidence=badly_signed, finding="quote.signature", state=NODE_STATE_UNTRUSTED, after=NODE_STATE_TRUSTED
)
ROLLBACK = Betrayal(
    evidence=rolled_back, finding="clock.rollback", state=NODE_STATE_QUARANTINED, after=NODE_STATE_QUARANTINED
)


async def betray(stream: FakeStream, betrayal: Betrayal) -> None:
    """Send evidence against the node; its leases end before the store has taken anything."""
    await stream.send(betrayal.evidence(stream.node, await stream.challenge()))
    revocation = await asyncio.wait_for(stream.revocation(), 20)
    assert list(revocation.lease_ids) == list(stream.node.leases)
    assert (await asyncio.wait_for(stream.verdict(), 20)).state == betrayal.state


async def good_round(node: FakeNode) -> int:
    """Prove a good state on a new stream and return the state that the verdict says; 0: the verifier gave none."""
    try:
        async with asyncio.timeout(20), node.attesting() as stream:
            return (await stream.round()).state
    except (aio.AioRpcError, TimeoutError):
        return 0


async def restricted(scene: Entitled, betrayal: Betrayal) -> None:
    """See to it that the refusal is in force for everybody who asks."""
    known = await seen_by(scene.admin, scene.node)
    assert (known.state, list(known.leases)) == (betrayal.state, [])
    assert (await refused(scene.release())).code.name in {"PERMISSION_DENIED", "UNAVAILABLE"}


def refusals_of(verifier: RunningVerifier) -> set[str]:
    """Return the ids of all findings that the log has; a store that is full may still take a small act."""
    judged = (record["details"] for record in verifier.records() if record["action"] == "node.judged")
    return {finding["id"] for details in judged for finding in details["findings"]}


def recorded_in_order(verifier: RunningVerifier, node: FakeNode, lease: str, betrayal: Betrayal) -> None:
    """See to it that the log has the refusal, right behind it the end of the lease, and later trust only later."""
    records = verifier.records()
    told = [
        record["details"]["state"]
        for record in records
        if record["action"] == "node.judged" and record["details"]["node_id"] == node.node_id
    ]
    refusals = [
        place
        for place, record in enumerate(records)
        if record["action"] == "node.judged"
        and [finding["id"] for finding in record["details"]["findings"]] == [betrayal.finding]
    ]
    ends = [place for place, record in enumerate(records) if record["action"] == "lease.ended"]
    assert len(refusals) == 1, told
    assert ends == [refusals[0] + 1]
    assert records[ends[0]]["details"]["lease_id"] == lease
    assert records[ends[0]]["details"]["cause"] == "distrust"
    if betrayal.after == NODE_STATE_QUARANTINED:
        assert told[-1] == "quarantined"
    else:
        assert told[told.index("untrusted") :].count("untrusted") == 1


async def attack(verifier: RunningVerifier, betrayal: Betrayal, fault: Fault, seconds: float, *, kill: bool) -> None:
    async with entitled(verifier) as scene:
        node, lease = scene.node, await scene.lease()
        async with node.attesting() as stream:
            await stream.round_until(NODE_STATE_TRUSTED)
            with fault(verifier):
                began = time.monotonic()
                await betray(stream, betrayal)
                await restricted(scene, betrayal)
                if kill:
                    verifier.kill()
                    verifier.start()
                    async with verifier.person() as admin:  # before any stream
                        known = await seen_by(admin, node)
                        assert (known.state, list(known.leases)) == (betrayal.state, [])
                if fault is FAULTS["locked"] or not kill:
                    while time.monotonic() - began < seconds:
                        trusted = await good_round(node) == NODE_STATE_TRUSTED
                        assert not trusted or betrayal.finding in refusals_of(verifier)
                        await asyncio.sleep(0.05)
        node.leases = ()
        await eventually(lambda: "lease.ended" in verifier.actions(f"lease/{lease}"))
        for _ in range(5):
            if await good_round(node) == betrayal.after:
                break
        else:
            raise AssertionError("the node never came back")
    recorded_in_order(verifier, node, lease, betrayal)
    if betrayal.after == NODE_STATE_TRUSTED:
        async with verifier.person() as admin:
            again = Entitled(verifier=verifier, admin=admin, node=node, model=scene.model)
            assert await again.lease() != lease


def play(folder: Path, betrayal: Betrayal, fault: Fault, seconds: float, *, kill: bool = False) -> None:
    with a_verifier(folder, interval_seconds=0, trust_seconds=60) as verifier:
        asyncio.run(attack(verifier, betrayal, fault, seconds, kill=kill))
        assert list((verifier.folder / "journal").iterdir()) == []


@pytest.mark.timeout(120 + 4 * LONGEST_SECONDS)
@pytest.mark.parametrize("seconds", [0.3, 2.2, LONGEST_SECONDS])
@pytest.mark.parametrize("betrayal", [BAD_SIGNATURE, ROLLBACK], ids=["bad signature", "clock rollback"])
def test_t05_a_refusal_while_the_store_is_locked_is_not_overwritten(
    tmp_path: Path, betrayal: Betrayal, seconds: float
) -> None:
    play(tmp_path, betrayal, locked, seconds)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_t05_a_refusal_while_the_store_takes_nothing_is_not_overwritten(tmp_path: Path, fault: str) -> None:
    play(tmp_path, BAD_SIGNATURE, FAULTS[fault], 3.0)


@pytest.mark.parametrize(
    ("fault", "betrayal"),
    [("locked", BAD_SIGNATURE), ("locked", ROLLBACK), ("full", ROLLBACK), ("read-only", BAD_SIGNATURE)],
    ids=["locked, bad signature", "locked, clock rollback", "full, clock rollback", "read-only, bad signature"],
)
def test_t05_a_verifier_that_is_killed_before_it_could_record_a_refusal_knows_it_when_it_starts(
    tmp_path: Path, fault: str, betrayal: Betrayal
) -> None:
    play(tmp_path, betrayal, FAULTS[fault], 4.0, kill=True)
