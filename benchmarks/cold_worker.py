"""Runs in the environment with PyTorch: for each line, loads 2 GB from the disk in the way it names; prints GB/s.

Arguments: a folder with ``plain``, ``sealed`` and ``key``, as :mod:`benchmarks.cold` makes it. What the page cache
holds of the files is dropped before each load. All ways give new tensors in main memory.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from safetensors import safe_open as plain_open

from nodeseal.loader import InsecureFileKeys, open_model, open_tensors

PEERS = Path(__file__).resolve().parents[1] / ".venv-loading-peers"
FOLDER = Path(sys.argv[1])
PLAIN, SEALED = sorted((FOLDER / "plain").iterdir()), sorted((FOLDER / "sealed").glob("*.sealed"))
CORES = sorted(os.sched_getaffinity(0))[:2]
PIECE = 1 << 20
BARE = [(direct, threads) for direct in (False, True) for threads in (2, 4, 8)]

Tensors = dict[str, torch.Tensor]


def main() -> None:
    """Serve until standard input ends."""
    os.sched_setaffinity(0, CORES)
    torch.set_num_threads(len(CORES))
    sys.path.append(str(PEERS))
    bare = {f"disk {number}": partial(disk, *way) for number, way in enumerate(BARE)}
    ways: dict[str, Callable[[], object]] = {"sealed": sealed, "plain": plain, "streamer": streamer, **bare}
    for line in sys.stdin:
        files = SEALED if line.startswith(("sealed", "disk")) else PLAIN
        drop(files)
        start = time.perf_counter()
        try:
            kept = ways[line.strip()]()
        except ImportError as error:
            print(f"missing: {error}", flush=True)  # noqa: T201 - the answer
            continue
        seconds = time.perf_counter() - start
        print(sum(file.stat().st_size for file in files) / 1e9 / seconds, flush=True)  # noqa: T201 - the answer
        del kept  # giving memory back is nobody's loading time


def drop(files: list[Path]) -> None:
    """Drop the files from the page cache, which are on the disk already."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sealed() -> Tensors:
    """Load all shards of the sealed model."""
    tensors: Tensors = {}
    with open_model(FOLDER / "sealed", InsecureFileKeys(FOLDER / "key")) as model:
        for file in SEALED:
            with open_tensors(model, file.name.removesuffix(".sealed"), "pt") as opened:
                tensors |= opened.get_tensors()
    return tensors


def plain() -> Tensors:
    """Load as people do: map each file, and copy, since a tensor that is only mapped is not loaded."""
    tensors: Tensors = {}
    for path in PLAIN:
        with plain_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensors[name] = file.get_tensor(name).clone()
    return tensors


def streamer() -> Tensors:
    """Load by run:ai's streamer, with its usual number of readers."""
    module = import_module("runai_model_streamer")
    with module.SafetensorsStreamer() as stream:
        stream.stream_files([str(path) for path in PLAIN])
        return {name: tensor.clone() for name, tensor in stream.get_tensors()}


def disk(direct: bool, threads: int) -> None:  # noqa: FBT001 - a way to read
    """Read the sealed files and no more, a piece at a time in each thread."""
    flags = os.O_RDONLY | (os.O_DIRECT if direct else 0)
    descriptors = [os.open(path, flags) for path in SEALED]
    pieces = iter(
        [(descriptor, offset) for descriptor in descriptors for offset in range(0, os.fstat(descriptor).st_size, PIECE)]
    )
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(read_all, pieces)
    for descriptor in descriptors:
        os.close(descriptor)


def read_all(pieces: Iterator[tuple[int, int]]) -> None:
    """Read pieces until none is left."""
    buffer = mmap.mmap(-1, PIECE)
    for descriptor, offset in pieces:
        os.preadv(descriptor, [buffer], offset)


main()
