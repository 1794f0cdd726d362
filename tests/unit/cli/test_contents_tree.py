"""Trees: every regular file is hashed, and nothing outside the tree is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeseal.cli import contents_tree
from nodeseal.cli.contents_tree import tree_files
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg

HI = HashAlg.SHA256.digest(b"hi")


def read(root: Path) -> dict[bytes, bytes]:
    return dict(tree_files(root, HashAlg.SHA256, lambda _: None))


def test_files_have_the_paths_that_they_have_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/x").write_bytes(b"hi")
    (tmp_path / "top").write_bytes(b"")
    assert read(tmp_path) == {b"/usr/bin/x": HI, b"/top": HashAlg.SHA256.digest(b"")}


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/x").write_bytes(b"hi")
    (tmp_path / "root/file").symlink_to(tmp_path / "outside/secret")
    (tmp_path / "root/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "root/loop").symlink_to(".")
    assert read(tmp_path / "root") == {b"/x": HI}


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert read(tmp_path) == {}


def test_a_file_that_becomes_a_link_while_it_is_hashed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    monkeypatch.setattr(contents_tree, "_walk", lambda start: iter([start + b"/link"]))
    with pytest.raises(MalformedInput, match="link: Too many levels of symbolic links"):
        read(tmp_path)


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n")).write_bytes(b"hi")
    assert read(tmp_path) == {b"/\xff\n": HI}


def test_each_file_is_told(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"")
    told: list[int] = []
    assert len(dict(tree_files(tmp_path, HashAlg.SHA512, told.append))) == 5
    assert sum(told) == 5


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="absent: No such file"):
        read(tmp_path / "absent")


def test_a_tree_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"")
    monkeypatch.setattr(contents_tree, "MAX_FILES", 1)
    monkeypatch.setattr(contents_tree, "_walk", lambda start: iter([start + b"/x"] * 2000))
    with pytest.raises(MalformedInput, match="more than 1 files"):
        read(tmp_path)
