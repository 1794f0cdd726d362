"""Sealing against AES-256-GCM alone: 1 GiB from the page cache to the disk.

Both sides count processor time, as the other rates do: on the wall a disk decides, which is slower than the cipher
nearly everywhere. What the wall and the disk say stands in the note.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.harness import Result, ratios
from benchmarks.openssl import GCM, gcm_bytes_per_second
from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.files import new_file, write_exactly
from nodeseal.ids import KeyId, ModelId
from nodeseal.loader.crew import Crew
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import survey
from nodeseal.loader.staging import pass_cache_by
from nodeseal.sealed.model_key import ModelKey

_SIZE: Final = 1 << 30
_STEP: Final = 1 << 20


def over_openssl_gcm() -> Result:
    """Seal a model of one file, fsync and rename included, and run ``openssl speed``, in turn."""
    walls: list[float] = []
    disks: list[float] = []
    ciphers: list[float] = []
    cores = len(os.sched_getaffinity(0))

    def cipher() -> float:
        ciphers.append(gcm_bytes_per_second())
        disks.append(_gb_per_second(lambda: _write(folder / "written", 2 * cores)))
        return ciphers[-1]

    def seal() -> float:
        _read(folder / "plain" / "weights")
        start = time.process_time()
        walls.append(_gb_per_second(lambda: _seal(folder)))
        return _SIZE / (time.process_time() - start)

    with _model() as folder:
        runs = ratios(seal, cipher)
    wall, disk, all_cores = (statistics.median(found) for found in (walls, disks, ciphers))
    all_cores *= cores / 1e9
    note = (
        f"1 GiB of one file in the page cache, processor time of all threads, the kernel's own ones left out; on the "
        f"wall {wall:.2f} GB/s, {wall / all_cores:.2f} of the cipher on {cores} cores: in turn with it, direct writes "
        f"of nothing but zeros to the same disk ran at {disk:.2f} GB/s"
    )
    return Result.of(runs, against=GCM, note=note)


def _gb_per_second(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return _SIZE / 1e9 / (time.perf_counter() - start)


@contextmanager
def _model() -> Iterator[Path]:
    with TemporaryDirectory(prefix="nodeseal-bench-") as name:
        folder = Path(name)
        (folder / "plain").mkdir()
        with (folder / "plain" / "weights").open("wb") as file:
            for _ in range(_SIZE // _STEP):
                file.write(os.urandom(_STEP))
            os.fsync(file.fileno())
        yield folder


def _seal(folder: Path) -> None:
    public = ModelPrivateKey.generate(Suite.MLKEM768_X25519).public
    key = ModelKey(key_id=KeyId("bench"), key_version=1, public=public)
    label = Label(model_id=ModelId("bench"), version=1, created=datetime.now(UTC))
    with TemporaryDirectory(dir=folder) as made:
        seal_model(survey(folder / "plain"), Path(made) / "sealed", [key], label)


def _write(path: Path, threads: int) -> None:
    """Write as sealing does, without reading and encrypting."""
    with new_file(path) as target, Crew(threads) as crew:
        os.posix_fallocate(target, 0, _SIZE)
        pass_cache_by(target)
        steps = range(_SIZE // _STEP)
        crew.for_each(steps, _STEP, lambda number, zeros: write_exactly(target, zeros, number * _STEP, path))
    path.unlink()


def _read(path: Path) -> None:
    """Have the page cache hold a file."""
    with path.open("rb", buffering=0) as file:
        while file.read(_STEP):
            pass
