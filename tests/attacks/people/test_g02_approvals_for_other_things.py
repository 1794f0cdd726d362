"""Row g02: an approval counts for one document, one base, one domain, one time and one person, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc

from nodeseal.crypto.hpke import Suite
from nodeseal.governance.proposal import decode_proposal
from nodeseal.ids import digest_of
from nodeseal.v1 import admin_pb2, people_pb2
from nodeseal.v1 import governance_pb2 as pb
from support.in_process import MovableClocks, in_process
from support.together import Somebody, put_in_force, quorum_rules, several
from support.verifier import Refusal, a_verifier, refused


def policy(seconds: int, key: str = "llama") -> dict[str, object]:
    return {"kind": "key.policy", "key": key, "silence_seconds": seconds}


async def silence(somebody: Somebody) -> int:
    return (await somebody.calls.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))).silence_seconds


def assert_refused(refusal: Refusal, why: str) -> None:
    denied = (grpc.StatusCode.PERMISSION_DENIED, ("person.approval",))
    assert (refusal.code, refusal.findings) == denied or refusal.code is grpc.StatusCode.FAILED_PRECONDITION, refusal
    assert why in refusal.details, refusal


def test_g02_an_approval_counts_for_nothing_else(tmp_path: Path) -> None:
    async def case() -> None:
        async with several(verifier) as people, verifier.person() as admin:
            kim, lee, ann = people.values()
            await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="llama"))
            await put_in_force(people, quorum_rules())
            first, second = await kim.propose(policy(1)), await kim.propose(policy(2))

            assert_refused(await refused(lee.approve(second, lee.sign(first.document))), "ssh.signature")
            other_namespace = lee.signer.signature(first.document, "file")
            assert_refused(await refused(lee.approve(first, other_namespace)), "ssh.namespace")
            assert_refused(await refused(lee.make(first.document)), "kim's")  # not the proposer's to submit

            fields = decode_proposal(await kim.draft(policy(3)), "draft")
            for forged, why in (
                (replace(fields, trust_domain="other.example"), "another trust domain"),
                (replace(fields, origin="other"), "another log"),
                (replace(fields, base=digest_of(b"other")), "what it changes has changed"),
                (replace(fields, rules=digest_of(b"other")), "the rules have changed"),
            ):
                assert_refused(await refused(kim.make(forged.encode())), why)

            assert (await lee.approve(first)).outcome == "executed"
            assert await silence(kim) == 1
            assert_refused(await refused(lee.approve(second)), "what it changes has changed since it was made")
            assert (await kim.settled(second.proposal)).outcome == "stale"
            assert await silence(kim) == 1

            third = await kim.propose(policy(3))
            verifier.remove_person("ann")
            assert (await refused(ann.approve(third))).findings == ("person.unknown",)
            assert_refused(await refused(lee.approve(third, ann.sign(third.document))), "not theirs alone")
            assert await silence(kim) == 1

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case())


def test_g02_time_ends_proposals_and_approvals(tmp_path: Path) -> None:
    clocks = MovableClocks()

    async def case() -> None:
        async with in_process(verifier, clocks), several(verifier, quorum_rules(approvals=2, hours=1)) as people:
            kim, lee, ann = people.values()
            create = {
                "kind": "key.create",
                "key": "llama",
                "suite": Suite.P384.value,
                "store": "file",
                "silence_seconds": 0,
            }
            proposal = await kim.make(await kim.draft(create, hours=3))
            await lee.approve(proposal)
            clocks.wall_ahead += timedelta(hours=1)
            late = await ann.approve(proposal)
            assert (late.outcome, [each.refused for each in late.approvals]) == (
                "open",
                ["older than approvals last", ""],
            )
            clocks.wall_ahead += timedelta(hours=2)
            assert_refused(await refused(lee.approve(proposal)), "its time has passed")
            assert (await kim.settled(proposal.proposal)).outcome == "expired"
            assert not (await kim.calls.keys.ListKeys(admin_pb2.ListKeysRequest())).keys

    with a_verifier(tmp_path, start=False) as verifier:
        asyncio.run(case())


def test_g02_a_suspended_person_neither_calls_nor_counts(tmp_path: Path) -> None:
    async def case() -> None:
        async with several(verifier, quorum_rules(approvals=2)) as people:
            kim, lee, ann = people.values()
            proposal = await kim.propose({"kind": "person.key-remove", "person": "ann", "fingerprint": "SHA256:x"})
            await lee.approve(proposal)
            suspend = people_pb2.SuspendPersonRequest(person="lee", reason="laptop stolen")
            facts = await kim.calls.people.SuspendPerson(suspend)
            assert facts.HasField("suspended_until")
            listing = lee.calls.proposals.ListProposals(pb.ListProposalsRequest())
            assert (await refused(listing)).findings == ("person.suspended",)
            assert (await ann.approve(proposal)).outcome == "open"
            assert "you have suspended lee already" in (await refused(kim.calls.people.SuspendPerson(suspend))).details
            confirmed = await ann.calls.people.SuspendPerson(suspend)
            assert not confirmed.HasField("suspended_until")
            resume = people_pb2.ResumePersonRequest(person="lee")
            assert (await refused(kim.calls.people.ResumePerson(resume))).findings == ("person.quorum",)

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case())


def test_g02_a_suspension_by_one_person_lapses_and_one_by_two_does_not(tmp_path: Path) -> None:
    clocks = MovableClocks()

    async def case() -> None:
        async with in_process(verifier, clocks), several(verifier) as people:
            kim, lee, _ = people.values()
            for key in ("one", "two"):
                await kim.calls.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key))
                await kim.calls.keys.SuspendKey(admin_pb2.SuspendKeyRequest(key_id=key, reason="leak?"))
            await lee.calls.keys.SuspendKey(admin_pb2.SuspendKeyRequest(key_id="two", reason="yes"))
            clocks.wall_ahead += timedelta(hours=71)
            assert await suspended(kim) == {"one", "two"}
            clocks.wall_ahead += timedelta(hours=1, minutes=1)
            for _ in range(600):
                if await suspended(kim) == {"two"}:
                    break
                await asyncio.sleep(0.05)
            assert await suspended(kim) == {"two"}
        kinds = [(record["action"], record["subject"]) for record in verifier.records()]
        assert ("key.resumed", "key/one") in kinds
        assert ("key.resumed", "key/two") not in kinds

    with a_verifier(tmp_path, start=False) as verifier:
        asyncio.run(case())


async def suspended(somebody: Somebody) -> set[str]:
    """Return the keys that are suspended."""
    keys = (await somebody.calls.keys.ListKeys(admin_pb2.ListKeysRequest())).keys
    return {key.key_id for key in keys if key.HasField("suspended")}
