"""The verifier that releases are asked of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.releases import Stage, a_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A verifier that lets nodes ask often, with one golden and a trusted node."""
    with a_stage(tmp_path_factory.mktemp("key-release")) as made:
        yield made
