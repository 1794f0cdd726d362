"""The verifier that is flooded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.floods import Stage, a_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A verifier with short times, and an honest node that is trusted."""
    with a_stage(tmp_path_factory.mktemp("availability")) as made:
        yield made
