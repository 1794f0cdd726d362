"""The sealed model that attacks spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sealed import Sample, sealed_model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A sealed model that no test changes."""
    return sealed_model(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def sample(pristine: Sample, tmp_path: Path) -> Sample:
    """A copy of the sealed model, for one test to spoil."""
    return pristine.copied_to(tmp_path / "tiny")
