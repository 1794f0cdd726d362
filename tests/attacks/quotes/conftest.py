"""The verifier that quotes are forged for, and a node to forge them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from support.fake_node import FakeNode
from support.forged_rounds import Scene, a_scene, granted_node


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A verifier with a golden and a model."""
    with a_scene(tmp_path_factory.mktemp("quotes")) as made:
        yield made


@pytest.fixture
def node(scene: Scene) -> FakeNode:
    """A node that is admitted and may open the model; it is trusted after its first round."""
    return asyncio.run(granted_node(scene))
