"""What ``make check-slow`` runs is there: it is run too rarely to find out by itself."""

from __future__ import annotations

from types import ModuleType

import pytest
from slow import busy, fresh, kills, leftovers, run


@pytest.mark.parametrize("part", [busy, fresh, kills, leftovers])
def test_each_part_names_test_modules_that_there_are(part: ModuleType) -> None:
    assert run.tests(*part._TESTS)


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(LookupError, match=r"test_nothing\.py"):
        run.tests("test_nothing.py")
