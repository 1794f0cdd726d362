"""Row g09: approvals, executions and restrictions race, and each proposal gets one outcome, which is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nodeseal.v1 import admin_pb2, people_pb2
from nodeseal.v1 import governance_pb2 as pb
from nodeseal.verifier.people import proposals
from nodeseal.verifier.people.execution import Executors, Order, execute
from support.in_process import in_process
from support.together import Somebody, put_in_force, quorum_rules, several
from support.verifier import RunningVerifier, a_verifier

ROUNDS = 12


def outcomes_of(verifier: RunningVerifier, proposal: str) -> list[str]:
    settled = [record for record in verifier.records() if record["action"] == "proposal.settled"]
    return [record["details"]["outcome"] for record in settled if record["subject"] == f"proposal/{proposal}"]


def policy(seconds: int) -> dict[str, object]:
    return {"kind": "key.policy", "key": "llama", "silence_seconds": seconds}


async def key_of(kim: Somebody) -> admin_pb2.Key:
    return await kim.calls.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))


@asynccontextmanager
async def three(verifier: RunningVerifier) -> AsyncIterator[list[Somebody]]:
    async with several(verifier) as people:
        async with verifier.person() as admin:
            await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="llama"))
        await put_in_force(people, quorum_rules())
        yield list(people.values())


async def approvals_at_once(verifier: RunningVerifier) -> None:
    """Two last approvals at once execute once."""
    async with three(verifier) as (kim, lee, ann):
        for number in range(1, ROUNDS):
            proposal = await kim.propose(policy(number))
            await asyncio.gather(lee.approve(proposal), ann.approve(proposal), return_exceptions=True)
            assert (await kim.settled(proposal.proposal)).outcome == "executed"
            assert (await key_of(kim)).silence_seconds == number
            assert outcomes_of(verifier, proposal.proposal) == ["executed"]


async def two_on_one_base(verifier: RunningVerifier) -> None:
    """Of two proposals on one base, the first to execute makes the other stale."""
    async with three(verifier) as (kim, lee, ann):
        for number in range(100, 100 + ROUNDS):
            pair = await kim.propose(policy(number)), await kim.propose(policy(number + 1000))
            await asyncio.gather(lee.approve(pair[0]), ann.approve(pair[1]), return_exceptions=True)
            outcomes = [(await kim.settled(each.proposal)).outcome for each in pair]
            assert sorted(outcomes) == ["executed", "stale"]
            assert (await key_of(kim)).silence_seconds == number + 1000 * outcomes.index("executed")
            assert all(len(outcomes_of(verifier, each.proposal)) == 1 for each in pair)


async def restrictions_at_once(verifier: RunningVerifier) -> None:
    """Approval, rejection and suspension at once: the suspension holds, and there is one outcome."""
    async with three(verifier) as (kim, lee, ann):
        proposal = await kim.propose(policy(7))
        rejection = pb.SettleProposalRequest(proposal=proposal.proposal, reason="no")
        suspension = admin_pb2.SuspendKeyRequest(key_id="llama", reason="leak?")
        await asyncio.gather(
            lee.approve(proposal),
            ann.calls.proposals.RejectProposal(rejection),
            kim.calls.keys.SuspendKey(suspension),
            return_exceptions=True,
        )
        state = await kim.settled(proposal.proposal)
        assert state.outcome in {"executed", "rejected", "stale"}
        assert outcomes_of(verifier, proposal.proposal) == [state.outcome]
        found = await key_of(kim)
        assert found.HasField("suspended")
        assert (found.silence_seconds == 7) == (state.outcome == "executed")


@pytest.mark.parametrize(
    "race", [approvals_at_once, two_on_one_base, restrictions_at_once], ids=lambda race: race.__name__
)
def test_g09_a_race_has_one_outcome(tmp_path: Path, race: Callable[[RunningVerifier], Awaitable[None]]) -> None:
    async def case() -> None:
        await race(verifier)

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case())


async def suspends_lee(ann: Somebody, _: str) -> None:
    await ann.calls.people.SuspendPerson(people_pb2.SuspendPersonRequest(person="lee", reason="stolen"))


async def rejects(ann: Somebody, proposal: str) -> None:
    await ann.calls.proposals.RejectProposal(pb.SettleProposalRequest(proposal=proposal, reason="no"))


@pytest.mark.parametrize(
    ("between", "outcome", "why"), [(suspends_lee, "failed", "1 more of 1 approvals"), (rejects, "rejected", "ann: no")]
)
def test_g09_what_comes_between_approval_and_execution_counts_in_its_transaction(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    between: Callable[[Somebody, str], Awaitable[None]],
    outcome: str,
    why: str,
) -> None:
    async def case() -> None:
        async with in_process(verifier), three(verifier) as (kim, lee, ann):
            proposal = await kim.propose(policy(7))

            async def raced(executors: Executors, order: Order) -> None:
                await between(ann, proposal.proposal)
                await execute(executors, order)

            monkeypatch.setattr(proposals, "execute", raced)
            approved = await lee.approve(proposal)
            assert (approved.outcome, why in approved.why) == (outcome, True)
            assert (await key_of(kim)).silence_seconds == 0

    with a_verifier(tmp_path, start=False) as verifier:
        asyncio.run(case())
