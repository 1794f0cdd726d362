"""A database that cannot even be read, beside row d08: people still withdraw trust, and do nothing else.

Nothing changes a row behind the lock: the act is recorded when the database can be used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import pytest

from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_QUARANTINED
from nodeseal.verifier.states import Role
from support.admin import entitled
from support.agents import eventually
from support.fake_node import a_node
from support.faults import unreadable
from support.log import read_log
from support.verifier import RunningVerifier, Stubs, a_verifier, refused

pytestmark = pytest.mark.timeout(300)  # SQLite tries for ten seconds to read such a database


def quarantine(people: Stubs, node_id: str) -> Awaitable[admin_pb2.Node]:
    return people.nodes.QuarantineNode(admin_pb2.QuarantineNodeRequest(node_id=node_id, reason="odd"), timeout=100)


def revoke(people: Stubs, key_id: str) -> Awaitable[admin_pb2.Key]:
    return people.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=key_id, reason="leaked"), timeout=100)


def retire(people: Stubs, node_id: str) -> Awaitable[admin_pb2.Node]:
    return people.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node_id, reason="sold"), timeout=100)


async def in_force(attempt: Awaitable[object]) -> None:
    details = (await refused(attempt)).details
    assert "in force on this verifier, not recorded yet" in details
    assert "a restart of the verifier keeps it" in details


def play(folder: Path, scenario: Callable[[RunningVerifier], Coroutine[None, None, None]]) -> None:
    with a_verifier(folder, interval_seconds=0) as verifier:
        asyncio.run(scenario(verifier))


def test_d08_people_withdraw_trust_while_the_database_cannot_be_read(tmp_path: Path) -> None:
    async def scenario(verifier: RunningVerifier) -> None:
        async with entitled(verifier) as scene:
            await scene.lease()
            node_id, other = scene.node.node_id, a_node(verifier)
            await other.enrol()
            async with scene.node.attesting() as stream:
                await stream.round()
                with unreadable(verifier):
                    revoked = asyncio.create_task(in_force(revoke(scene.admin, "llama")))
                    assert list((await asyncio.wait_for(stream.revocation(), 100)).lease_ids) == list(scene.node.leases)
                    withdrawn = quarantine(scene.admin, node_id), retire(scene.admin, other.node_id)
                    await asyncio.gather(revoked, *map(in_force, withdrawn))
            await eventually(lambda: "node.quarantined" in verifier.actions(f"node/{node_id}"))
            await eventually(lambda: "node.retired" in verifier.actions(f"node/{other.node_id}"))
            known = await scene.admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node_id))
            assert (known.state, list(known.leases)) == (NODE_STATE_QUARANTINED, [])
            assert verifier.actions("key/llama")[-1] == "key.revoked"

    play(tmp_path, scenario)


def test_d08_nothing_else_is_done_on_what_memory_knows(tmp_path: Path) -> None:
    """Roles hold; who was removed, or whose key is none, may do nothing; all else waits, even looking."""

    async def scenario(verifier: RunningVerifier) -> None:
        for name, role in (("auditor", Role.AUDITOR), ("gone", Role.OPERATOR)):
            verifier.add_person(name, role)
        verifier.remove_person("gone")
        await eventually(lambda: verifier.records()[-1]["action"] == "person.removed")
        await eventually(lambda: numbered(verifier))
        async with entitled(verifier) as scene, verifier.person("auditor") as auditor, verifier.person("gone") as gone:
            node_id = scene.node.node_id
            with unreadable(verifier):
                refusals = await asyncio.gather(
                    refused(quarantine(auditor, node_id)),
                    refused(quarantine(gone, node_id)),
                    refused(revoke(scene.admin, "no-such-key")),
                    refused(scene.admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node_id), timeout=100)),
                )
            assert [refusal.findings for refusal in refusals] == [("person.role",), ("person.unknown",), (), ()]
            assert {refusal.code.name for refusal in refusals[2:]} == {"UNAVAILABLE"}
            assert not any("in force" in refusal.details for refusal in refusals)
            assert "node.quarantined" not in verifier.actions(f"node/{node_id}")

    play(tmp_path, scenario)


def test_d08_a_certificate_that_was_replaced_on_the_host_withdraws_nothing(tmp_path: Path) -> None:
    """Its key may be stolen; the new one counts."""

    async def scenario(verifier: RunningVerifier) -> None:
        verifier.add_person("kim", Role.OPERATOR)
        await eventually(lambda: numbered(verifier))
        fresh = verifier.renew_person("kim").name
        await eventually(lambda: numbered(verifier))
        async with entitled(verifier) as scene, verifier.person("kim") as thief, verifier.person(fresh) as kim:
            with unreadable(verifier):
                refusal = await refused(quarantine(thief, scene.node.node_id))
                assert refusal.findings == ("person.unknown",)
                await in_force(quarantine(kim, scene.node.node_id))

    play(tmp_path, scenario)


def numbered(verifier: RunningVerifier) -> bool:
    """Tell whether every act has its place in the log, so that memory knows what commands recorded."""
    return all(act.place is not None for act in read_log(verifier.folder / "verifier.sqlite"))
