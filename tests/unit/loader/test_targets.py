"""Which memory stands for which bytes of a file."""

from __future__ import annotations

import pytest

from nodeseal.loader.targets import Targets


def parts(*starts_and_sizes: tuple[int, int]) -> list[tuple[int, memoryview]]:
    return [(start, memoryview(bytearray(size))) for start, size in starts_and_sizes]


@pytest.mark.parametrize(
    ("start", "stop", "direct"),
    [(10, 20, True), (12, 18, True), (10, 21, False), (9, 20, False), (20, 30, True), (30, 35, False), (15, 15, False)],
)
def test_bytes_go_straight_to_memory_that_holds_all_of_them(start: int, stop: int, direct: bool) -> None:  # noqa: FBT001 - a table's column
    some = parts((20, 10), (10, 10), (10, 0))
    assert (Targets(some).direct(start, stop) is not None) is direct
    assert Targets(some, unseen=False).direct(start, stop) is None


def test_memory_that_is_given_directly_is_the_right_part() -> None:
    (first, _) = some = parts((10, 10), (30, 10))
    view = Targets(some).direct(12, 15)
    assert view is not None
    view[:] = b"abc"
    assert bytes(first[1][2:5]) == b"abc"


def test_a_copy_lands_in_every_part_and_nowhere_else() -> None:
    some = parts((10, 4), (14, 2), (20, 3))
    targets = Targets(some)
    targets.copy(12, memoryview(bytearray(b"abcdefghi")))
    assert [bytes(part) for _, part in some] == [b"\0\0ab", b"cd", b"i\0\0"]
    targets.copy(0, memoryview(bytearray(b"x" * 10)))
    targets.copy(23, memoryview(bytearray(b"x")))
    assert [bytes(part) for _, part in some] == [b"\0\0ab", b"cd", b"i\0\0"]
    targets.wipe()
    assert not any(any(part) for _, part in some)
    Targets().copy(0, memoryview(bytearray(1)))
