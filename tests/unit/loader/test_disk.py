"""Files of a disk: what the cache lacks is read past it or ahead of need; few of many files are open at once."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from nodeseal.errors import Unavailable
from nodeseal.loader import disk, load_into, open_model
from nodeseal.loader.disk import Descriptors, DiskFile, Pace
from support.sealed import seal_files

MIB = 1 << 20


class Clock:
    """Seconds that a test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def chosen(rate: Callable[[bool], float], pause: float = 0.0) -> list[bool]:
    """Return the ways of many reads of a MiB each, on a disk of these rates."""
    clock = Clock()
    pace, ways = Pace(clock), list[bool]()
    for number in range(300):
        ways.append(pace.past_cache(MIB))
        clock.now += MIB / rate(ways[-1]) + (pause if number == 40 else 0)
    return ways


@pytest.mark.parametrize(
    ("direct", "buffered", "past_cache"), [(2e9, 1e9, True), (1e9, 2e9, False), (1.05e9, 1e9, False)]
)
def test_both_ways_are_tried_and_the_faster_one_is_kept(direct: float, buffered: float, *, past_cache: bool) -> None:
    ways = chosen(lambda way: direct if way else buffered)
    assert {True, False} == set(ways[:130])
    assert set(ways[140:]) == {past_cache}


def test_a_pause_is_not_taken_for_a_slow_disk() -> None:
    assert set(chosen(lambda way: 2e9 if way else 1e9, pause=60.0)[200:]) == {True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3 * MIB + 1000))
    return file


def cold(monkeypatch: pytest.MonkeyPatch, *, held: int = 0) -> None:
    """Let the page cache hold nothing, or only the first ``held`` bytes of each read."""
    read = os.preadv

    def preadv(number: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if not flags & os.RWF_NOWAIT:
            return read(number, buffers, offset)
        if not held:
            raise BlockingIOError
        return read(number, [buffers[0][:held]], offset)

    monkeypatch.setattr("os.preadv", preadv)


def read(file: DiskFile, size: int, offset: int) -> bytes:
    buffer = memoryview(mmap.mmap(-1, size))
    file.read_into(buffer, offset)
    return bytes(buffer)


@pytest.mark.parametrize("held", [0, 1, 4096, 8192])
@pytest.mark.parametrize("past_cache", [False, True])
@pytest.mark.parametrize("part", [(0, MIB), (4096, 2 * MIB), (100, MIB), (3 * MIB, 1000)])
def test_what_is_read_is_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, held: int, part: tuple[int, int], *, past_cache: bool
) -> None:
    (offset, size) = part
    monkeypatch.setattr(Pace, "past_cache", lambda *_: past_cache)
    cold(monkeypatch, held=held)
    file = DiskFile(path, Descriptors())
    assert read(file, size, offset) == path.read_bytes()[offset : offset + size]
    file.close()


def test_the_cache_is_enough_where_it_holds_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.read_bytes()
    monkeypatch.setattr(disk, "read_exactly", lambda *_: pytest.fail("waited for the disk"))
    file = DiskFile(path, Descriptors())
    read(file, MIB, 0)
    assert not file.waits
    file.close()


def test_the_kernel_reads_ahead_once_of_each_byte(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advised: list[range] = []
    monkeypatch.setattr("os.posix_fadvise", lambda _, start, size, __: advised.append(range(start, start + size)))
    monkeypatch.setattr(Pace, "past_cache", lambda *_: False)
    cold(monkeypatch)
    file = DiskFile(path, Descriptors())
    for number in range(3):
        read(file, MIB, number * MIB)
    assert advised == [range(MIB, 3 * MIB + 1000)]
    assert file.waits
    file.close()


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_knows_none_of_this_is_read_as_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    preadv, opener = os.preadv, os.open

    def refuse(number: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(error, os.strerror(error))
        return preadv(number, buffers, offset)

    def no_direct(name: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return opener(name, flags, *rest)

    monkeypatch.setattr("os.preadv", refuse)
    monkeypatch.setattr("os.open", no_direct)
    file = DiskFile(path, Descriptors())
    assert read(file, MIB, 0) == path.read_bytes()[:MIB]
    file.close()
    monkeypatch.setattr("os.preadv", preadv)
    cold(monkeypatch)
    monkeypatch.setattr(Pace, "past_cache", lambda *_: True)
    file = DiskFile(path, Descriptors())
    assert read(file, MIB, 0) == path.read_bytes()[:MIB]
    file.close()


def test_a_file_that_ends_early_or_is_closed_cannot_be_read(path: Path) -> None:
    file = DiskFile(path, Descriptors())
    with pytest.raises(Unavailable, match="shorter"):
        read(file, MIB, 3 * MIB)
    file.close()
    with pytest.raises(Unavailable, match="closed"):
        read(file, 1, 0)
    file.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_descriptors_are_few_and_all_are_closed(tmp_path: Path) -> None:
    before, descriptors = open_files(), Descriptors(limit=3)
    for number in range(10):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 10)
    files = [DiskFile(tmp_path / str(number), descriptors) for number in range(10)]
    for _ in range(2):
        assert [read(file, 2, 3) for file in files] == [bytes([number]) * 2 for number in range(10)]
        assert open_files() - before <= 3
    held = descriptors.take((tmp_path / "5", False))
    files[5].close()
    assert os.pread(held.number, 1, 0) == b"\5"  # in use, so open
    descriptors.give_back(held)
    for file in files:
        file.close()
    assert open_files() == before


def test_a_model_of_many_files_loads_with_few_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_OPEN", 4)
    monkeypatch.setattr(Descriptors.__init__, "__defaults__", (4,))
    tensors = {f"t{number}": np.full(9, number, "<i4") for number in range(40)}
    sample = seal_files(tmp_path, {f"{name}.safetensors": save({name: value}) for name, value in tensors.items()})
    before = open_files()
    params = {name: np.zeros(9, "<i4") for name in tensors}
    most: list[int] = []
    take = Descriptors.take

    def take_and_count(self: Descriptors, key: tuple[Path, bool]) -> Any:
        most.append(open_files())
        return take(self, key)

    monkeypatch.setattr(Descriptors, "take", take_and_count)
    with open_model(sample.directory, sample.keys) as model:
        load_into(model, params)
    assert all(np.array_equal(params[name], value) for name, value in tensors.items())
    assert max(most) - before <= 4 + 4 * os.cpu_count()  # type: ignore[operator] # those in use may be more
    assert open_files() == before
