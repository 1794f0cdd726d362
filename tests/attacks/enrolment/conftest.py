"""The verifier that identities enrol with.

Every refusal changes one fact of an identity that enrols, and leaves nodes and audit log as they were.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.enrolments import Scene, a_scene
from support.verifier import RunningVerifier


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A verifier that trusts several vendors and a few keys by name, with a golden and a model."""
    with a_scene(tmp_path_factory.mktemp("enrolment")) as made:
        yield made


@pytest.fixture(scope="module")
def verifier(scene: Scene) -> RunningVerifier:
    """The scene's verifier."""
    return scene.verifier
