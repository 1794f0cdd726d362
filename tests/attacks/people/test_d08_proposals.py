"""Row d08, of people: nobody takes the places of everybody's proposals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from nodeseal.verifier.people import proposals
from support.in_process import in_process
from support.together import quorum_rules, several
from support.verifier import a_verifier, refused


def test_d08_one_person_has_a_few_open_proposals_and_others_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with in_process(verifier), several(verifier, quorum_rules()) as people:
            kim, lee, _ = people.values()
            monkeypatch.setattr(proposals, "MAX_OPEN_OF_ONE", 2)
            change = {"kind": "person.remove", "person": "ann"}
            first, _second = await kim.propose(change), await kim.propose(change)
            refusal = await refused(kim.propose(change))
            assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "2 proposals of kim are open" in refusal.details
            await lee.propose(change)
            assert (await lee.approve(first)).outcome == "executed"

    with a_verifier(tmp_path, start=False) as verifier:
        asyncio.run(case())
