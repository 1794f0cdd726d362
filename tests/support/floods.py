"""A verifier under a flood, and an honest node that must keep its rounds."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodeseal.v1 import attestation_pb2
from support.admin import trusted_node
from support.agents import eventually
from support.fake_node import FakeNode
from support.verifier import RunningVerifier, a_verifier, set_config

ANSWER_SECONDS = 3
ENROLMENT_SECONDS = 4
GROWTH = 64 << 20
"""Bytes that a verifier may grow by; 300 bare mTLS streams cost about 26 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A verifier, and an honest node that is trusted."""

    verifier: RunningVerifier
    honest: FakeNode


@contextmanager
def a_stage(folder: Path) -> Iterator[Stage]:
    """Run a verifier with short times and a trusted node."""
    with a_verifier(folder, start=False, trust_seconds=20, answer_within_seconds=ANSWER_SECONDS) as verifier:
        set_config(verifier, deadline_seconds=ENROLMENT_SECONDS)
        verifier.start()
        yield Stage(verifier=verifier, honest=asyncio.run(trusted_node(verifier)))


@asynccontextmanager
async def undisturbed(stage: Stage, growth: int = GROWTH) -> AsyncIterator[None]:
    """Let the honest node attest while the block runs: every verdict is good and in time, and memory stays bounded."""
    before, rounds = resident(stage.verifier), 0

    async def attesting() -> None:
        nonlocal rounds
        async with stage.honest.attesting() as stream:
            while True:
                evidence = stage.honest.evidence(await stream.challenge())
                sent = time.monotonic()
                await stream.send(evidence)
                assert (await stream.verdict()).state == attestation_pb2.NODE_STATE_TRUSTED
                assert time.monotonic() - sent < ANSWER_SECONDS
                rounds += 1

    task = asyncio.create_task(attesting())
    try:
        yield
        assert resident(stage.verifier) - before < growth
        after = rounds + 1
        await eventually(lambda: rounds >= after or task.done())
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def resident(verifier: RunningVerifier) -> int:
    """Return how much memory a verifier holds, in bytes."""
    status = Path(f"/proc/{verifier.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def faults(verifier: RunningVerifier) -> list[str]:
    """Return the exceptions that a verifier logged."""
    return [line["exception"] for line in verifier.log() if line["event"] == "call failed"]


def connected(address: str) -> socket.socket:
    """Return a bare TCP connection."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)
