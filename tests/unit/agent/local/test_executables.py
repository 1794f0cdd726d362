"""Digests of executables: right, remembered as long as the file is the same, and bounded for each user."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import threading
from io import BufferedReader
from pathlib import Path

import pytest

from nodeseal.agent.local import executables
from nodeseal.agent.local.executables import Executables


def _digest(pid: int = os.getpid()) -> bytes | None:
    return asyncio.run(Executables().digest(pid, 0))


def test_the_digest_is_that_of_the_running_file() -> None:
    assert _digest() == hashlib.sha256(Path("/proc/self/exe").read_bytes()).digest()


def test_a_process_that_is_gone_has_none() -> None:
    assert _digest(2**22 + 1) is None  # above the kernel's highest pid


def test_an_executable_too_large_to_hash_counts_as_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executables, "_MAX_EXECUTABLE", 1)
    assert _digest() is None


def _hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the files that are hashed from now on."""
    files: list[str] = []
    plain = hashlib.file_digest

    def noted(file: BufferedReader, name: str) -> object:
        files.append(name)
        return plain(file, name)

    monkeypatch.setattr("hashlib.file_digest", noted)
    return files


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folders of tests count as being on a disk, wherever they are."""
    monkeypatch.setattr(executables._Stamp, "on_disk", True)


def _of(known: Executables, path: Path) -> bytes | None:
    with path.open("rb") as file:
        return known._of_file(file)


@pytest.mark.usefixtures("on_disk")
def test_k11_a_file_that_stays_as_it_is_is_hashed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hashed, known, path = _hashed(monkeypatch), Executables(), tmp_path / "exe"
    path.write_bytes(b"one")
    monkeypatch.setattr(executables, "_SETTLED_NS", -(10**18))
    assert _of(known, path) == _of(known, path) == hashlib.sha256(b"one").digest()
    assert len(hashed) == 1


def test_k11_a_file_in_memory_that_changes_without_a_trace_is_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was mapped and read once may be written without a page fault, so tmpfs notes no time of change."""
    monkeypatch.setattr(executables, "_SETTLED_NS", -(10**18))
    known, descriptor = Executables(), os.memfd_create("exe")
    path = Path(f"/proc/self/fd/{descriptor}")
    try:
        os.write(descriptor, b"good")
        _of(known, path)
        before = os.fstat(descriptor)
        with mmap.mmap(descriptor, 0) as memory:
            assert memory[0] == ord("g")
            memory[:4] = b"evil"
        assert os.fstat(descriptor).st_ctime_ns == before.st_ctime_ns
        assert _of(known, path) == hashlib.sha256(b"evil").digest()
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("same_times", [False, True], ids=["changed", "changed and dated back"])
def test_k11_a_file_that_changed_is_hashed_again(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    same_times: bool,  # noqa: FBT001 - a case
) -> None:
    known, path = Executables(), tmp_path / "exe"
    path.write_bytes(b"one")
    monkeypatch.setattr(executables, "_SETTLED_NS", -(10**18))
    _of(known, path)
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(b"two")
        if same_times:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _of(known, path) == hashlib.sha256(b"two").digest()


def test_k11_a_file_that_has_just_changed_is_not_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hashed, known, path = _hashed(monkeypatch), Executables(), tmp_path / "exe"
    path.write_bytes(b"one")
    monkeypatch.setattr(executables, "_SETTLED_NS", 10**18)
    assert _of(known, path) == _of(known, path)
    assert len(hashed) == 2


@pytest.mark.usefixtures("on_disk")
def test_k11_many_files_take_bounded_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(executables, "_SETTLED_NS", -(10**18))
    monkeypatch.setattr(executables, "_MAX_KNOWN", 2)
    known = Executables()
    for number in range(5):
        path = tmp_path / str(number)
        path.write_bytes(b"exe")
        _of(known, path)
    assert len(known._known) == 2


def test_k11_one_user_whose_executables_never_end_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    endless, stuck, done = threading.Event(), list[int](), bytes(32)

    def digest(_self: Executables, pid: int) -> bytes:
        if pid == 1:
            stuck.append(pid)
            endless.wait(60)
        return done

    monkeypatch.setattr(Executables, "_digest", digest)

    async def case() -> None:
        known = Executables()
        hostile = [asyncio.create_task(known.digest(1, 1000)) for _ in range(50)]
        try:
            assert await asyncio.wait_for(known.digest(2, 1001), 30) == done
            for task in hostile:
                task.cancel()
            await asyncio.gather(*hostile, return_exceptions=True)
            assert await asyncio.wait_for(known.digest(2, 1001), 30) == done
            assert len(stuck) <= 2
        finally:
            endless.set()

    asyncio.run(case())
