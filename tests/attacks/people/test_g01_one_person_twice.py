"""Row g01: nobody approves a proposal of theirs, or twice, and no key counts for two people."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from nodeseal.crypto.hpke import Suite
from nodeseal.governance.proposal import NAMESPACE
from nodeseal.v1 import admin_pb2, people_pb2
from support.ssh import ed25519_signer
from support.together import Somebody, quorum_rules, several
from support.verifier import Refusal, a_verifier, refused

CHANGE = {
    "kind": "key.create",
    "key": "llama",
    "suite": Suite.MLKEM768_X25519.value,
    "store": "file",
    "silence_seconds": 0,
}


async def keys_of(somebody: Somebody) -> list[str]:
    return [key.key_id for key in (await somebody.calls.keys.ListKeys(admin_pb2.ListKeysRequest())).keys]


def assert_not_counted(refusal: Refusal, why: str) -> None:
    assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("person.approval",)), refusal
    assert why in refusal.details


def test_g01_one_person_is_one_approval(tmp_path: Path) -> None:
    """Two others must approve; whatever one of them does, it counts once."""

    async def case() -> None:
        async with several(verifier, quorum_rules(approvals=2)) as people:
            kim, lee, ann = people.values()
            proposal = await kim.propose(CHANGE)
            assert proposal.outcome == "open"
            assert_not_counted(await refused(kim.approve(proposal)), "proposed it")
            once = await lee.approve(proposal)
            again = await lee.approve(proposal)
            assert [approval.person for approval in once.approvals] == ["lee"]
            assert [approval.person for approval in again.approvals] == ["lee"]
            second = ed25519_signer()
            add_second = await kim.propose({"kind": "person.key-add", "person": "lee", "key": second.line})
            for person in (lee, ann):
                add_second = await person.approve(add_second)
            assert add_second.outcome == "executed"
            by_second = await lee.approve(proposal, second.signature(proposal.document, NAMESPACE))
            assert ([approval.person for approval in by_second.approvals], by_second.outcome) == (["lee"], "open")
            assert_not_counted(await refused(ann.approve(proposal, lee.sign(proposal.document))), "not theirs alone")
            assert await keys_of(kim) == []
            assert (await ann.approve(proposal)).outcome == "executed"
            assert await keys_of(kim) == ["llama"]

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case())


def test_g01_two_people_do_not_share_a_key(tmp_path: Path) -> None:
    async def case() -> None:
        async with several(verifier) as people:
            kim, lee, _ = people.values()
            request = people_pb2.AddPersonKeyRequest(person="ann", key=lee.signer.line)
            refusal = await refused(kim.calls.people.AddPersonKey(request))
            assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
            assert "lee's already" in refusal.details
            listed = (await kim.calls.people.ListPeople(people_pb2.ListPeopleRequest())).people
            assert {person.name: len(person.keys) for person in listed} == {"admin": 0, "ann": 1, "kim": 1, "lee": 1}

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case())
