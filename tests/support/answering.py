"""Nodes that go on answering challenges while a test does something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nodeseal.v1 import attestation_pb2
from support.fake_node import FakeNode, FakeStream

Answer = Callable[[attestation_pb2.Challenge], list[attestation_pb2.Evidence]]


@asynccontextmanager
async def answering(node: FakeNode, answer: Answer | None = None) -> AsyncIterator[FakeStream]:
    """A node that answers every challenge after its first round, honestly or with ``answer``."""
    async with node.attesting() as stream:
        await stream.round()

        async def go_on() -> None:
            while True:
                for message in (answer or node.answer)(await stream.challenge()):
                    await stream.send(message)

        task = asyncio.create_task(go_on())
        try:
            yield stream
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
