"""Sealed files against plain ones: from the page cache into memory, 1 GB at a time.

Times are on the wall, because two threads are what is measured. The loads run in the environment that ``make
test-integrations`` makes, where PyTorch is.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from benchmarks.harness import PAIRS, Missing, Result, ratios
from benchmarks.sparse import sparse_model
from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import KeyId, ModelId
from nodeseal.loader import InsecureFileKeys, open_model, open_tensors, safe_open
from nodeseal.loader.keys import encode_insecure_key
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import survey
from nodeseal.sealed.model_key import ModelKey

_PYTHON: Final = Path(__file__).resolve().parents[1] / ".venv-integrations" / "bin" / "python"
_FILE: Final = "model.safetensors"
_LAYERS, _ROWS = 32, 4096
"""32 tensors of 4096 x 4096 in bfloat16: 1.07 GB."""
_PLAIN: Final = "safetensors 0.8: safe_open (mmap) and Tensor.copy_ into the same parameters, 2 threads, page cache"
_RAW: Final = "a bare loop of preadv into warm memory and AESGCM.decrypt_into the same parameters, 2 threads"


def direct_over_safetensors() -> Result:
    """Decrypt straight into parameters that nobody looks at yet, over loading the plain file."""
    return _compare("direct", "plain", _PLAIN, "header, tags and keys included")


def verified_over_safetensors() -> Result:
    """Verify each segment before it reaches the parameters, over loading the plain file."""
    return _compare("verified", "plain", _PLAIN, "no unverified byte reaches a parameter")


def direct_over_raw() -> Result:
    """The load into parameters that nobody reads yet, over the same reads and decryption with nothing around them."""
    return _compare("direct", "raw", _RAW, "")


def verified_over_raw() -> Result:
    """The load that verifies before it copies, likewise."""
    return _compare("verified", "raw, verified", f"{_RAW}, by way of a buffer", "")


def over_no_cipher() -> Result:
    """The same pipeline with the cipher replaced by a copy."""
    return _compare("direct", "no cipher", "the same load with memmove in place of AES-256-GCM", "")


def two_threads_over_one() -> Result:
    """Two threads on two cores over one on one."""
    return _compare("direct", "one thread", "the same load with one thread on one core", "")


def peak_memory_over_model() -> Result:
    """How much the resident set grows at most while a file is loaded into fresh memory, over the file's size."""
    with plain_and_sealed() as folder:
        keys, size = InsecureFileKeys(folder / "key"), (folder / "plain" / _FILE).stat().st_size
        runs = tuple(_peak(folder, keys) / size for _ in range(3))
    note = "all tensors into fresh memory; peak of the resident set less what it was before"
    return Result.of(runs, against="bytes of the plain file", note=note)


def first_tensor() -> Result:
    """From a directory and a key in hand to the first tensor of a 10 GB file."""
    with TemporaryDirectory(prefix="nodeseal-bench-") as name:
        folder = Path(name)
        keys = sparse_model(folder)
        runs = tuple(_first_tensor_ms(folder / "sealed", keys) for _ in range(PAIRS))
    note = "open_model and get_tensor of 32 MiB out of 10 GB; all but that tensor is a hole"
    return Result.of(runs, unit="ms", against="", note=note)


def _first_tensor_ms(directory: Path, keys: InsecureFileKeys) -> float:
    start = time.perf_counter()
    with open_model(directory, keys) as model, open_tensors(model, _FILE) as file:
        file.get_tensor(file.offset_keys()[0])
        return (time.perf_counter() - start) * 1e3


def _compare(first: str, second: str, against: str, note: str) -> Result:
    with plain_and_sealed() as folder, worker("loading_worker.py", folder) as loader:
        rates: dict[str, list[float]] = {first: [], second: []}

        def rate(way: str) -> float:
            rates[way].append(float(ask(loader, way)))
            return rates[way][-1]

        runs = ratios(lambda: rate(first), lambda: rate(second))
    middle = {way: sorted(found)[len(found) // 2] for way, found in rates.items()}
    speeds = ", ".join(f"{way} {speed:.2f} GB/s" for way, speed in middle.items())
    return Result.of(runs, against=against, note=f"{speeds}; {note}".rstrip("; "))


@contextmanager
def plain_and_sealed() -> Iterator[Path]:
    """Give a folder with a plain model, the same sealed, and a key."""
    with TemporaryDirectory(prefix="nodeseal-bench-") as name:
        folder = Path(name)
        (folder / "plain").mkdir()
        random = np.random.default_rng(1)
        save_file({f"layers.{number}.weight": _layer(random) for number in range(_LAYERS)}, folder / "plain" / _FILE)
        private = ModelPrivateKey.generate(Suite.MLKEM768_X25519)
        key = ModelKey(key_id=KeyId("bench"), key_version=1, public=private.public)
        (folder / "key").write_bytes(encode_insecure_key(key.key_id, 1, private))
        label = Label(model_id=ModelId("bench"), version=1, created=datetime.now(UTC))
        seal_model(survey(folder / "plain"), folder / "sealed", [key], label)
        yield folder


def _layer(random: np.random.Generator) -> np.ndarray:
    return np.frombuffer(random.bytes(_ROWS * _ROWS * 2), ml_dtypes.bfloat16).reshape(_ROWS, _ROWS)


@contextmanager
def worker(script: str, *arguments: Path | str) -> Iterator[subprocess.Popen[str]]:
    """Run a script that lies beside this one in the environment with PyTorch; it answers lines with lines.

    Raises:
        Missing: there is no such environment, or one processor only.
    """
    if not _PYTHON.exists():
        raise Missing("PyTorch cannot be installed here: there is no .venv-integrations (make bench makes it)")
    if len(os.sched_getaffinity(0)) < 2:  # noqa: PLR2004 - what is measured
        raise Missing("there is one processor only")
    command = [str(_PYTHON), str(Path(__file__).with_name(script)), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], line: str) -> str:
    """Return what a worker answers.

    Raises:
        RuntimeError: it ended, and said why on standard error.
    """
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the worker has no pipes")
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("the worker stopped; it says why on standard error")
    return answer.strip()


def _peak(folder: Path, keys: InsecureFileKeys) -> int:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): forget the peak
    before = _status("VmRSS")
    with safe_open(folder / "sealed" / _FILE, keys=keys) as file:
        tensors = file.get_tensors()
    peak = _status("VmHWM") - before
    del tensors
    return peak


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise Missing(f"the kernel says nothing of {field}")
