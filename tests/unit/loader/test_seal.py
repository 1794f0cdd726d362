"""Sealing: a whole directory or none, nothing readable that should not be, the source left alone."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader import InsecureFileKeys, open_model
from nodeseal.loader import seal as sealing
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
from nodeseal.loader.staging import pass_cache_by
from nodeseal.sealed.content import SealedFile
from nodeseal.sealed.slots import parse_slots
from support.sealed import PLAIN_WEIGHTS, content_of, key_file, label, model_key, plain_model, seal_files, sealed_model


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return plain_model(tmp_path / "plain")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suite", Suite)
def test_a_model_comes_back_as_it_was(tmp_path: Path, suite: Suite) -> None:
    sample = sealed_model(tmp_path, suite=suite)
    with open_model(sample.directory, sample.keys) as model:
        assert {file.path: bytes(model.read(file.path)) for file in model.files()} == tree(sample.plain)


def test_the_directory_holds_what_the_format_names_and_nothing_else(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    names = {
        "config.json",
        "sub/tokenizer.json",
        "model.safetensors.sealed",
        "nodeseal.model.json",
        "nodeseal.slots.json",
    }
    assert set(tree(sample.directory)) == names
    assert [path.name for path in sample.directory.parent.iterdir() if "sealing" in path.name] == []


def test_no_weights_and_no_key_are_readable_in_what_was_written(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    written = b"".join(tree(sample.directory).values())
    for at in range(0, len(PLAIN_WEIGHTS) - 64, 4096):
        assert PLAIN_WEIGHTS[at : at + 64] not in written


def test_sealing_leaves_the_source_alone(plain: Path, tmp_path: Path) -> None:
    before = tree(plain)
    seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert tree(plain) == before


def test_the_digest_returned_is_the_one_on_disk(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    assert content_of(sample.directory) == sample.content
    slots = parse_slots((sample.directory / "nodeseal.slots.json").read_bytes())
    assert slots.model_digest == sample.content.digest


def test_sealing_twice_gives_two_data_keys_and_two_digests(plain: Path, tmp_path: Path) -> None:
    _, key = model_key()
    first = seal_model(survey(plain), tmp_path / "a", [key], label())
    second = seal_model(survey(plain), tmp_path / "b", [key], label())
    assert first.digest != second.digest


def test_each_of_several_keys_opens_the_model(plain: Path, tmp_path: Path) -> None:
    pairs = [model_key(Suite.MLKEM768_X25519, "main"), model_key(Suite.P384, "recovery")]
    seal_model(survey(plain), tmp_path / "out", [key for _, key in pairs], label())
    for private, key in pairs:
        with open_model(tmp_path / "out", InsecureFileKeys(key_file(tmp_path, key, private))) as model:
            assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 32, (1 << 18) - 31, 2 * ((1 << 18) - 32)])
def test_files_of_awkward_sizes_come_back(tmp_path: Path, size: int) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "weights").write_bytes(b"w" * size)
    private, key = model_key()
    seal_model(survey(plain), tmp_path / "out", [key], label())
    with open_model(tmp_path / "out", InsecureFileKeys(key_file(tmp_path, key, private))) as model:
        assert bytes(model.read("weights")) == b"w" * size


def test_files_that_are_sealed_side_by_side_come_in_order_and_come_back(tmp_path: Path) -> None:
    files = {f"{number % 7}/{number:03}{suffix}": b"%d" % number for number in range(60) for suffix in ("", ".json")}
    sample = seal_files(tmp_path, files)
    assert [file.path for file in sample.content.files] == sorted(files)
    with open_model(sample.directory, sample.keys) as model:
        assert {path: bytes(model.read(path)) for path in files} == files


def test_segments_are_written_from_to_and_in_whole_pages_so_that_they_can_pass_the_page_cache_by(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[tuple[int, int, int]] = []
    passed: set[int] = set()
    write = os.pwrite

    def note_passing(descriptor: int) -> None:
        passed.add(descriptor)
        pass_cache_by(descriptor)

    def note(descriptor: int, data: memoryview, offset: int) -> int:
        if offset:  # headers are written as other files are
            assert descriptor in passed
            address = ctypes.addressof(ctypes.c_char.from_buffer(data))
            pages.append((address % 4096, offset % 4096, len(data) % 4096))
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", note)
    monkeypatch.setattr(sealing, "pass_cache_by", note_passing)
    seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert pages == [(0, 0, 0)] * 3


def test_a_file_system_without_direct_writes_gets_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model:
        assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(path.stat().st_size for path in plain.rglob("*") if path.is_file()) + 4096 + 3 * 32

    disk = SimpleNamespace(f_blocks=1 << 30, f_bavail=needed - 1, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    with pytest.raises(Unavailable, match=f"{needed:,} bytes are needed"):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]
    disk.f_bavail += 1
    seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())


def test_all_seals_every_file(plain: Path, tmp_path: Path) -> None:
    content = seal_model(survey(plain, seal_all=True), tmp_path / "out", [model_key()[1]], label())
    assert all(isinstance(file, SealedFile) for file in content.files)
    assert not (tmp_path / "out" / "config.json").exists()


def test_progress_adds_up_to_all_bytes(plain: Path, tmp_path: Path) -> None:
    done, lock = [0], Lock()

    def progress(count: int) -> None:
        with lock:
            done[0] += count

    content = seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label(), progress=progress)
    assert done[0] == content.size


def test_the_time_is_whole_seconds_of_utc(plain: Path, tmp_path: Path) -> None:
    when = datetime(2026, 1, 31, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    content = seal_model(survey(plain), tmp_path / "out", [model_key()[1]], replace(label(), created=when))
    assert content.created == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert content_of(tmp_path / "out") == content


def test_an_existing_destination_is_never_touched(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("out", "dangling"):
        with pytest.raises(MalformedInput, match="exists already"):
            seal_model(survey(plain), tmp_path / name, [model_key()[1]], label())
    assert list((tmp_path / "out").iterdir()) == []


def test_no_key_or_the_same_key_twice_is_refused(plain: Path, tmp_path: Path) -> None:
    _, key = model_key()
    for keys in ([], [key, key]):
        with pytest.raises(MalformedInput, match="keys"):
            seal_model(survey(plain), tmp_path / "out", keys, label())
    assert not (tmp_path / "out").exists()


def test_a_segment_size_that_readers_refuse_is_not_written(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="segment size"):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], replace(label(), segment_size=4096))


def test_names_that_collide_when_sealed_are_refused(plain: Path, tmp_path: Path) -> None:
    (plain / "model.safetensors.sealed").mkdir()
    (plain / "model.safetensors.sealed" / "a.json").write_bytes(b"{}")
    with pytest.raises(MalformedInput, match="collide"):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())


def test_names_that_collide_when_opened_are_refused(plain: Path, tmp_path: Path) -> None:
    (plain / "LICENSE").write_bytes(b"stays readable")
    (plain / "license").write_bytes(b"is sealed")
    with pytest.raises(MalformedInput, match="collide"):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("change", [b"", b"longer than before " * 100_000])
def test_a_source_that_changed_since_it_was_listed_is_refused(
    plain: Path, tmp_path: Path, name: str, change: bytes
) -> None:
    files = survey(plain)
    (plain / name).write_bytes(change)
    with pytest.raises(Unavailable, match="changed while it was sealed"):
        seal_model(files, tmp_path / "out", [model_key()[1]], label())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_source_that_changes_while_it_is_sealed_is_refused(plain: Path, tmp_path: Path, name: str) -> None:
    changed = plain / name

    def touch(_: int) -> None:
        os.utime(changed, ns=(0, time.time_ns()))

    with pytest.raises(Unavailable, match=f"{name}: changed while it was sealed"):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label(), progress=touch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("progress bar")])
def test_an_interruption_leaves_nothing_under_any_name(plain: Path, tmp_path: Path, error: BaseException) -> None:
    def interrupt(_: int) -> None:
        raise error

    with pytest.raises(type(error)):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label(), progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


def test_a_disk_that_is_full_is_named_and_nothing_is_left(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Unavailable, match="No space left on device"):
        seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


def test_a_file_size_limit_of_the_system_is_named_and_nothing_is_left(plain: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Unavailable, match="File too large"):
            seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from support.sealed import label, model_key
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
seal_model(survey(Path(sys.argv[1])), Path(sys.argv[2]), [model_key()[1]], label(),
           progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_sealer_leaves_nothing_under_the_final_name_and_a_second_try_works(
    plain: Path, tmp_path: Path
) -> None:
    support = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", _KILLED, plain, tmp_path / "out", support], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert tree(plain)["model.safetensors"] == PLAIN_WEIGHTS
    seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert (tmp_path / "out" / "nodeseal.model.json").exists()


def test_everything_is_on_the_disk_before_the_final_name_appears(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        events.append("folder" if name.endswith((".sealing", "sub")) else name)
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    at = events.index("rename")
    assert set(events[:at]) == {
        "config.json",
        "tokenizer.json",
        "model.safetensors.sealed",
        "nodeseal.model.json",
        "nodeseal.slots.json",
        "folder",
    }
    assert events[at + 1 :] == [tmp_path.name]


def test_the_data_key_is_wiped_after_sealing(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wiped: list[bytearray] = []
    monkeypatch.setattr(sealing, "wipe", wiped.append)
    seal_model(survey(plain), tmp_path / "out", [model_key()[1]], label())
    assert [len(buffer) for buffer in wiped] == [32]
