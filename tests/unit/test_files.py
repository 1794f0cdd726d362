"""Whole reads and writes: errors name the file, and readers see the old content or the new, never a part."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import (
    PUBLIC,
    new_file,
    open_regular,
    read_exactly,
    read_private,
    read_small,
    replace_file,
    write_file,
    write_new,
)


@contextmanager
def descriptor_of(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_all_bytes_come_even_if_the_kernel_gives_them_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read, buffer = tmp_path / "file", os.preadv, bytearray(7)
    path.write_bytes(b"0123456789")
    monkeypatch.setattr(os, "preadv", lambda descriptor, buffers, offset: read(descriptor, [buffers[0][:2]], offset))
    with descriptor_of(path) as descriptor:
        read_exactly(descriptor, memoryview(buffer), 2, path)
    assert buffer == b"2345678"


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"0123")
    with descriptor_of(path) as descriptor, pytest.raises(Unavailable, match="short: became shorter"):
        read_exactly(descriptor, memoryview(bytearray(4)), 1, path)


def test_a_read_that_the_system_refuses_is_named_with_its_reason(tmp_path: Path) -> None:
    with descriptor_of(tmp_path) as descriptor, pytest.raises(Unavailable, match=f"{tmp_path.name}: Is a directory"):
        read_exactly(descriptor, memoryview(bytearray(4)), 0, tmp_path)


def test_a_new_file_is_private_and_leaves_no_draft(tmp_path: Path) -> None:
    write_new(tmp_path / "key", b"secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_new_file_takes_no_other_files_place(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"before")
    with pytest.raises(MalformedInput, match="key: exists already"):
        write_new(tmp_path / "key", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing_of_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="key: No space left"):
        write_new(tmp_path / "key", b"secret")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_file_that_was_to_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"before", tmp_path / "draft", PUBLIC)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="file: No space left"):
        replace_file(path, b"after", tmp_path / "draft", PUBLIC)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]


def test_a_draft_that_a_crash_left_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "draft").write_bytes(b"half a fi")
    replace_file(tmp_path / "file", b"whole", tmp_path / "draft")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"whole"]


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, link, replace = os.fsync, os.link, Path.replace

    def noted_sync(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def noted_link(source: Path, target: Path) -> None:
        steps.append("name")
        link(source, target)

    def noted_replace(source: Path, target: Path) -> Path:
        steps.append("name")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "link", noted_link)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_new(tmp_path / "a", b"")
    replace_file(tmp_path / "a", b"", tmp_path / "draft")
    assert steps == ["sync", "name", "sync"] * 2


def test_a_secret_that_other_users_may_read_is_refused(tmp_path: Path) -> None:
    write_new(tmp_path / "key", b"secret")
    assert read_private(tmp_path / "key", "tls.key") == b"secret"
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(MalformedInput, match=r"tls\.key: .*key: other users may read or change it"):
        read_private(tmp_path / "key", "tls.key")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(MalformedInput, match="not a regular file"):
            open_regular(tmp_path / name)


def test_a_link_is_followed_only_if_the_caller_allows_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_small(tmp_path / "link", 7) == b"content"
    with pytest.raises(Unavailable, match="link: Too many levels"):
        open_regular(tmp_path / "link", follow=False)


def test_a_file_beyond_its_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(MalformedInput, match="file: 7 bytes, at most 6"):
        read_small(tmp_path / "file", 6)


def test_a_new_file_is_never_written_through_a_name_that_exists(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("file", "link"):
        with pytest.raises(Unavailable, match="File exists"):
            write_file(tmp_path / name, b"after")
        with pytest.raises(Unavailable, match="File exists"), new_file(tmp_path / name):
            pass
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_new_file_is_on_the_disk_when_its_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with new_file(tmp_path / "file") as descriptor:
        assert synced == []
    assert synced == [descriptor]
