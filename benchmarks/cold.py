"""Sealed models from the disk, where real loads come from: 2 GB in four shards, nothing of them in the page cache.

Disks that are shared vary by a factor of two within an hour, so all ways are measured in turn, and the runs beside the
median say how much they varied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from benchmarks.harness import PAIRS, Missing, Result
from benchmarks.loading import ask, worker
from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import KeyId, ModelId
from nodeseal.loader.keys import encode_insecure_key
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import survey
from nodeseal.sealed.model_key import ModelKey

_SHARDS: Final = 4
_TENSORS: Final = 16
_SIZE: Final = 32 << 20
_BARE: Final = 6
"""Ways of the worker to read without anything else."""


def over_safetensors() -> Result:
    """Over mapping the plain files and copying their tensors."""
    return _over("plain", "safetensors 0.8: safe_open (mmap) and Tensor.clone of the plain files")


def over_streamer() -> Result:
    """Over run:ai's model streamer on the plain files."""
    return _over("streamer", "run:ai model streamer 0.17 and Tensor.clone of the plain files")


def over_disk() -> Result:
    """Over the fastest bare read of the sealed files: buffered or direct, by two, four or eight threads."""
    with _models() as loader:
        trials = {number: _rate(loader, f"disk {number}") for number in range(_BARE)}
        best = max(trials, key=lambda number: trials[number])
        return _turns(loader, f"disk {best}", "the fastest of six bare ways to read the sealed files")


def _over(other: str, against: str) -> Result:
    with _models() as loader:
        _rate(loader, other)
        return _turns(loader, other, against)


def _turns(loader: Popen[str], other: str, against: str) -> Result:
    _rate(loader, "sealed")  # the first load of a process tries the ways to read
    pairs = [(_rate(loader, "sealed"), _rate(loader, other)) for _ in range(PAIRS)]
    sealed, others = (sorted(rates)[len(pairs) // 2] for rates in zip(*pairs, strict=True))
    note = f"sealed {sealed:.2f} GB/s, the other {others:.2f} GB/s; 2 threads, page cache dropped, new tensors"
    return Result.of(tuple(first / second for first, second in pairs), against=against, note=note)


def _rate(loader: Popen[str], way: str) -> float:
    answer = ask(loader, way)
    if answer.startswith("missing"):
        raise Missing(f"{way} does not run here: {answer.removeprefix('missing: ')}")
    return float(answer)


@contextmanager
def _models() -> Iterator[Popen[str]]:
    with TemporaryDirectory(prefix="nodeseal-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        (folder / "plain").mkdir()
        random = np.random.default_rng(2)
        for shard in range(_SHARDS):
            tensors = {f"{shard}.{number}": np.frombuffer(random.bytes(_SIZE), np.uint16) for number in range(_TENSORS)}
            save_file(tensors, folder / "plain" / f"model-{shard:05}.safetensors")
        private = ModelPrivateKey.generate(Suite.MLKEM768_X25519)
        key = ModelKey(key_id=KeyId("bench"), key_version=1, public=private.public)
        (folder / "key").write_bytes(encode_insecure_key(key.key_id, 1, private))
        label = Label(model_id=ModelId("bench"), version=1, created=datetime.now(UTC))
        seal_model(survey(folder / "plain"), folder / "sealed", [key], label)
        with worker("cold_worker.py", folder) as loader:
            yield loader
