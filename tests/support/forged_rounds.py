"""A verifier and nodes for rounds that must not count.

Each forged round stands between two good ones (:func:`support.attackers.refused_round`): it costs the node its trust,
is recorded with its finding, and neither releases a key nor keeps honest evidence from being believed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodeseal.swtpm.synthetic import SyntheticTpm
from support.admin import Sealed, a_sealed_model, grant, trusted_node
from support.attackers import Forge, admitted_node, refused_round
from support.fake_node import FakeNode
from support.verifier import RunningVerifier, a_verifier


@dataclass(frozen=True, slots=True)
class Scene:
    """A verifier with a golden that :func:`support.verifier.a_node` matches, and a model."""

    verifier: RunningVerifier
    model: Sealed


@contextmanager
def a_scene(folder: Path) -> Iterator[Scene]:
    """Run the verifier; it sends the next challenge as soon as a node has answered the last one."""

    async def prepare() -> Sealed:
        async with verifier.person() as admin:
            await trusted_node(verifier)
            return await a_sealed_model(admin)

    with a_verifier(folder, interval_seconds=0, answer_within_seconds=10) as verifier:
        yield Scene(verifier, asyncio.run(prepare()))


async def granted_node(scene: Scene, tpm: SyntheticTpm | None = None) -> FakeNode:
    """Return a node that is admitted and may open the model; it is trusted after its first round."""
    node = await admitted_node(scene.verifier, tpm)
    async with scene.verifier.person() as admin:
        await grant(admin, node, max_leases=5)
    return node


def found(scene: Scene, node: FakeNode, forge: Forge) -> list[str]:
    """Send a forged round between two good ones; return its findings."""
    return asyncio.run(refused_round(node, scene.model, forge))
