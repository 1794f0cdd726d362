"""Whole reads at offsets, with errors that name the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeseal.errors import Unavailable
from nodeseal.loader.files import read_exactly


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
