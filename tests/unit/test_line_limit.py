"""Lines that a stranger causes in a log are bounded, and what is left out is counted."""

from __future__ import annotations

import pytest

from nodeseal import line_limit
from nodeseal.line_limit import LineLimit


def test_a_name_has_so_many_lines_a_minute_and_others_have_theirs() -> None:
    limit = LineLimit(2)
    assert [limit.left_out("a", 0.0) for _ in range(5)] == [0, 0, None, None, None]
    assert limit.left_out("b", 0.0) == 0


def test_the_next_line_says_how_many_were_left_out() -> None:
    limit = LineLimit(1)
    assert [limit.left_out("a", 0.0) for _ in range(4)] == [0, None, None, None]
    assert limit.left_out("a", 60.0) == 3
    assert limit.left_out("a", 120.0) == 0


def test_many_names_take_bounded_memory_and_share_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_limit, "_MAX_NAMES", 10)
    limit = LineLimit(1)
    lines = [limit.left_out(str(number), 0.0) for number in range(1000)]
    assert lines.count(0) == 11
    assert len(limit._names) == 11
    assert limit.left_out("new", 61.0) == 0
    assert len(limit._names) == 1
