"""The verifier that nodes show boot logs to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.suspects import LOG, UNIFIED_LOG, Court, a_court, exact_golden, rules_golden


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """A verifier with goldens for the labels ``exact``, ``rules`` and ``unified``."""
    goldens = exact_golden(LOG), rules_golden(LOG), rules_golden(UNIFIED_LOG, "unified")
    with a_court(tmp_path_factory.mktemp("boot-logs"), *goldens) as made:
        yield made
