"""Row g03: whoever can write to the database cannot make themselves a quorum, or an approver, by rows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.governance.proposal import NAMESPACE
from nodeseal.governance.rules import solo
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.states import Role
from support.ssh import ed25519_signer
from support.together import Somebody, quorum_rules, several
from support.verifier import RunningVerifier, a_verifier, refused

NEWKEY = {
    "kind": "key.create",
    "key": "llama",
    "suite": Suite.MLKEM768_X25519.value,
    "store": "file",
    "silence_seconds": 0,
}


def write(verifier: RunningVerifier, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(verifier.folder / "verifier.sqlite", timeout=20)) as database, database:
        database.execute(statement, values)


async def a_key_of_somebody_else(verifier: RunningVerifier, kim: Somebody) -> None:
    """A key is said to be lee's, and an approval by it is written."""
    forged = ed25519_signer()
    proposal = await kim.propose(NEWKEY)
    write(
        verifier,
        "INSERT INTO person_keys (blob, name, fingerprint, in_token, added) "
        "SELECT ?, name, 'SHA256:forged', in_token, added FROM person_keys WHERE name = 'lee'",
        forged.blob,
    )
    write(
        verifier,
        "INSERT INTO approvals (proposal, person, signature, at) SELECT proposal, 'lee', ?, made FROM proposals "
        "WHERE proposal = ?",
        forged.signature(proposal.document, NAMESPACE),
        proposal.proposal,
    )


async def other_rules(verifier: RunningVerifier, kim: Somebody) -> None:
    """The rule solo is written as the newest."""
    written = "INSERT INTO rules (version, document, since) SELECT 9, ?, since FROM rules WHERE version = 2"
    write(verifier, written, solo(9).encode())
    await kim.propose(NEWKEY)


async def no_rules(verifier: RunningVerifier, kim: Somebody) -> None:
    """The newest rules are taken away, so that the rule solo is the newest again."""
    write(verifier, "DELETE FROM rules WHERE version = 2")
    await kim.propose(NEWKEY)


@pytest.mark.parametrize("forgery", [a_key_of_somebody_else, other_rules, no_rules], ids=lambda each: each.__name__)
def test_g03_a_quorum_that_was_written_to_the_database_decides_nothing(
    tmp_path: Path, forgery: Callable[[RunningVerifier, Somebody], Awaitable[None]]
) -> None:
    async def case() -> None:
        async with several(verifier, quorum_rules()) as people:
            kim = people["kim"]
            try:
                await forgery(verifier, kim)
            except grpc.aio.AioRpcError as error:
                assert "store: " in (error.details() or "")  # noqa: PT017 - some are refused at once, some later
            await asyncio.sleep(2.5)
            keys = await kim.calls.keys.ListKeys(admin_pb2.ListKeysRequest())
            assert not keys.keys

    with a_verifier(tmp_path) as verifier:
        verifier.tampered = True
        asyncio.run(case())
        verifier.stop()
        with pytest.raises(AssertionError, match="the row of"):
            verifier.start()


def test_g03_a_role_that_was_written_to_the_database_allows_nothing(tmp_path: Path) -> None:
    async def case() -> None:
        async with verifier.person("lee") as lee:
            await lee.keys.ListKeys(admin_pb2.ListKeysRequest())
            write(verifier, "UPDATE persons SET roles = 'approver' WHERE name = 'lee'")
            refusal = await refused(lee.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="llama")))
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
            assert "the row of persons: person/lee" in refusal.details

    with a_verifier(tmp_path) as verifier:
        verifier.add_person("lee", Role.VIEWER)
        verifier.tampered = True
        asyncio.run(case())
