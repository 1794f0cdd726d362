"""New files: past the page cache where that can be, and refused at once where they cannot fit."""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from nodeseal.errors import Unavailable
from nodeseal.files import new_file, write_file
from nodeseal.loader.staging import check_space, pass_cache_by


def disk(monkeypatch: pytest.MonkeyPatch, *, blocks: int, free: int) -> None:
    """Have every file system say that it has this many blocks of 4096 bytes."""
    said = SimpleNamespace(f_blocks=blocks, f_bavail=free, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: said)


def test_a_disk_that_is_too_small_is_refused_with_folder_needed_and_free_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, blocks=1000, free=500)
    with pytest.raises(Unavailable, match=f"{tmp_path}: 2,048,001 bytes are needed, 2,048,000 are free") as caught:
        check_space(tmp_path, 500 * 4096 + 1)
    assert "another disk" in caught.value.remedy


def test_a_disk_that_is_just_big_enough_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, blocks=1000, free=500)
    check_space(tmp_path, 500 * 4096)


def test_a_file_system_that_does_not_know_its_size_may_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, blocks=0, free=0)
    check_space(tmp_path, 1 << 40)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"{tmp_path}/nowhere: No such file"):
        check_space(tmp_path / "nowhere", 1)


def can_pass_by(folder: Path) -> bool:
    try:
        os.close(os.open(folder / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


def test_writes_pass_the_page_cache_by_where_the_file_system_can(tmp_path: Path) -> None:
    with new_file(tmp_path / "file") as descriptor:
        pass_cache_by(descriptor)
        assert bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT) is can_pass_by(tmp_path)
        os.pwrite(descriptor, mmap.mmap(-1, 4096), 4096)
    assert (tmp_path / "file").read_bytes() == bytes(8192)


@pytest.mark.parametrize("link", [False, True])
def test_what_is_there_already_is_never_written_to(tmp_path: Path, link: bool) -> None:  # noqa: FBT001 - a table's column
    path, target = tmp_path / "new", tmp_path / "target"
    target.write_bytes(b"before")
    path.symlink_to(target) if link else path.hardlink_to(target)
    with pytest.raises(Unavailable, match="File exists"):
        write_file(path, b"after")
    assert target.read_bytes() == b"before"
