"""Files of a model as file objects and as files in memory with a path."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import io
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from nodeseal.crypto import floe
from nodeseal.errors import NotFound, PolicyRefused, ProofFailed, Unavailable
from nodeseal.loader import SealedModel, open_model
from nodeseal.loader.file_view import FileView, MappedWindow
from nodeseal.loader.opened import OpenFile
from support.mappings import left_out_of_core_dumps
from support.sealed import PLAIN_WEIGHTS, SEGMENT, Sample, sealed_model

WEIGHTS = "model.safetensors"
CAPACITY = SEGMENT - floe.SEGMENT_OVERHEAD


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def model(pristine: Sample) -> Iterator[SealedModel]:
    with open_model(pristine.directory, pristine.keys) as model:
        yield model


@pytest.fixture
def damaged(pristine: Sample, tmp_path: Path) -> Sample:
    """The second segment does not hold."""
    sample = pristine.copied_to(tmp_path / "tiny")
    raw = bytearray(sample.weights.read_bytes())
    raw[4096 + SEGMENT + 100] ^= 1
    sample.weights.write_bytes(raw)
    return sample


# File objects


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_file_reads_and_seeks_as_the_original_does(model: SealedModel, pristine: Sample, path: str) -> None:
    original = io.BytesIO((pristine.plain / path).read_bytes())
    size = len(original.getbuffer())
    with model.as_file(path) as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        for offset, whence, count in [
            (0, os.SEEK_SET, 0),
            (0, os.SEEK_SET, 3),
            (size // 2, os.SEEK_SET, size),
            (-5, os.SEEK_END, 100),
            (-3, os.SEEK_CUR, 2),
            (10, os.SEEK_END, 2),
            (0, os.SEEK_SET, -1),
        ]:
            assert file.seek(offset, whence) == original.seek(offset, whence)
            assert file.read(count) == original.read(count)
            assert file.tell() == original.tell()


def test_every_boundary_of_segments_is_read_across(model: SealedModel) -> None:
    with model.as_file(WEIGHTS) as file:
        for start in (CAPACITY - 1, CAPACITY, 2 * CAPACITY - 5):
            file.seek(start)
            assert io.BufferedReader(file, 16).read(40) == PLAIN_WEIGHTS[start : start + 40]
            file = model.as_file(WEIGHTS)  # noqa: PLW2901 - the reader closed it


def test_small_reads_decrypt_a_segment_once(model: SealedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    positions: list[int] = []
    decrypt = floe.Decryptor.decrypt_into

    def note(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        positions.append(position)
        decrypt(self, position, segment, out, final=final)

    monkeypatch.setattr(floe.Decryptor, "decrypt_into", note)
    with model.as_file(WEIGHTS) as file:
        while file.read(10_000):
            pass
    assert positions == [0, 1, 2]


def test_a_position_before_the_file_and_a_closed_file_are_mistakes(model: SealedModel) -> None:
    file = model.as_file(WEIGHTS)
    with pytest.raises(ValueError, match="before the first byte"):
        file.seek(-1)
    file.close()
    file.close()
    for use in (file.tell, file.read, lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_damaged_segment_is_refused_when_it_is_reached(damaged: Sample) -> None:
    with open_model(damaged.directory, damaged.keys) as model, model.as_file(WEIGHTS) as file:
        assert file.read(100) == PLAIN_WEIGHTS[:100]
        file.seek(CAPACITY)
        with pytest.raises(ProofFailed):
            file.read(1)
        assert not any(file._window.memory)


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_revocation_ends_reading_and_wipes_what_was_kept(pristine: Sample, path: str) -> None:
    with open_model(pristine.directory, pristine.keys) as model, model.as_file(path) as file:
        assert file.read(5)
        window = file._window.memory
        assert any(window)
        model._lease.end("revoked")
        with pytest.raises(PolicyRefused, match="revoked"):
            file.read(1)
        if path == WEIGHTS:
            assert not any(window)


@pytest.mark.parametrize("size", [8, CAPACITY + 1])
def test_a_revocation_in_the_middle_of_a_read_leaves_nothing_with_the_caller(
    pristine: Sample, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    buffer = bytearray(size)
    with open_model(pristine.directory, pristine.keys) as model, model.as_file(WEIGHTS) as file:
        check = OpenFile.check

        def revoke(opened: OpenFile) -> None:
            assert any(buffer)
            model._lease.end("revoked")
            check(opened)

        monkeypatch.setattr(OpenFile, "check", revoke)
        with pytest.raises(PolicyRefused, match="revoked"):
            file.readinto(buffer)
        assert file.tell() == 0
    assert not any(buffer)


def test_closing_a_file_wipes_what_was_kept(model: SealedModel) -> None:
    file = model.as_file(WEIGHTS)
    file.read(5)
    window = file._window.memory
    file.close()
    assert not any(window)


# Files in memory


@pytest.mark.parametrize("path", [WEIGHTS, "config.json", "sub/tokenizer.json"])
def test_a_file_in_memory_has_the_plaintext_under_a_path(model: SealedModel, pristine: Sample, path: str) -> None:
    with model.to_memfd(path) as file:
        assert Path(file.path).read_bytes() == (pristine.plain / path).read_bytes()


def test_safetensors_own_loader_takes_the_path(model: SealedModel, pristine: Sample) -> None:
    with model.to_memfd(WEIGHTS) as file:
        loaded = load_file(file.path)
    original = load_file(pristine.plain / WEIGHTS)
    assert all(loaded[name].tobytes() == tensor.tobytes() for name, tensor in original.items())


def test_nobody_can_change_a_file_in_memory(model: SealedModel) -> None:
    with model.to_memfd(WEIGHTS) as file:
        for change in (
            lambda: os.write(file.descriptor, b"x"),
            lambda: os.ftruncate(file.descriptor, 1),
            lambda: os.ftruncate(file.descriptor, 1 << 30),
            lambda: mmap.mmap(file.descriptor, 0),
            lambda: fcntl.fcntl(file.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK),
        ):
            with pytest.raises(OSError, match="not permitted"):
                change()


def test_a_file_in_memory_is_not_inherited_unless_asked_for(model: SealedModel) -> None:
    with model.to_memfd(WEIGHTS) as file:
        assert not os.get_inheritable(file.descriptor)


def test_a_file_that_does_not_verify_leaves_no_descriptor(damaged: Sample) -> None:
    with open_model(damaged.directory, damaged.keys) as model:
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, no paths
        with pytest.raises(ProofFailed):
            model.to_memfd(WEIGHTS)
        gc.collect()  # frames of the error
        assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - numbers, no paths


class Unsteady:
    """Bytes that cannot be had now and then; whoever fails to read them has zeros."""

    fails = False

    def read_range_into(self, buffer: memoryview, start: int) -> None:
        buffer[:] = bytes(len(buffer)) if self.fails else b"0123456789abcdef"[start : start + len(buffer)]
        if self.fails:
            raise Unavailable("gone")

    def check(self) -> None:
        """Go on."""

    def close(self) -> None:
        """Do nothing."""


def test_a_read_that_failed_leaves_nothing_that_a_later_one_takes_for_the_file() -> None:
    ranges = Unsteady()
    with FileView(ranges, 16, MappedWindow(memoryview(bytearray(8)))) as file:
        assert file.read(2) == b"01"
        ranges.fails = True
        file.seek(8)
        with pytest.raises(Unavailable):
            file.read(2)
        ranges.fails = False
        file.seek(0)
        assert file.read(2) == b"01"


def test_a_file_in_memory_is_left_out_of_core_dumps_while_it_is_filled(
    model: SealedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out: list[bool] = []
    decrypt = floe.Decryptor.decrypt_into

    def note(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        left_out.append(left_out_of_core_dumps(ctypes.addressof(ctypes.c_char.from_buffer(out))))
        decrypt(self, position, segment, out, final=final)

    monkeypatch.setattr(floe.Decryptor, "decrypt_into", note)
    model.to_memfd(WEIGHTS).close()
    assert left_out == [True] * 3


def test_a_kernel_without_memory_is_unavailable(model: SealedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(Unavailable, match="Cannot allocate"):
        model.to_memfd(WEIGHTS)


def test_files_that_the_model_does_not_have_are_not_found(model: SealedModel) -> None:
    for give in (model.as_file, model.to_memfd, model.open):
        with pytest.raises(NotFound):
            give("nope")
