"""Plaintext stays in the loader's own memory: not on a disk, not in /dev/shm, not in a core dump.

Each case loads in a process of its own, which then ends well, is killed, or crashes.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from support.sealed import Sample, seal_files

MARK = np.random.default_rng(7).bytes(1 << 20)
"""Tensor bytes that are nowhere else."""
PATH = "model.safetensors"

LOAD = """
import os, resource, sys
from pathlib import Path
from nodeseal.loader import InsecureFileKeys, open_model, open_tensors
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
model = open_model(sys.argv[1], InsecureFileKeys(Path(sys.argv[2])))
tensors = open_tensors(model, "model.safetensors").get_tensors()
one = open_tensors(model, "model.safetensors").get_tensor("t")
view = model.as_file("model.safetensors")
view.read(100)
print("loaded", flush=True)
sys.stdin.read(1)
"""
ENDS = {
    "well": "model.close(); view.close()",
    "by an abort": "os.abort()",
    "by a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "killed": "os.kill(os.getpid(), 9)",
    "by an error": "raise RuntimeError(len(tensors))",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    mark = np.frombuffer(MARK, np.uint8)
    return seal_files(tmp_path_factory.mktemp("leaks"), {PATH: save({"t": mark, "u": mark})})


def load(sample: Sample, folder: Path, end: str, wait: bool = False) -> subprocess.Popen[bytes]:  # noqa: FBT001, FBT002 - of one test
    """Run a process that loads everything in every way, and does ``end``."""
    key = next(sample.directory.parent.glob("*.insecure"))
    command = [sys.executable, "-c", LOAD + end, str(sample.directory), str(key)]
    environment = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder)}
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    assert process.stdout.readline() == b"loaded\n"
    if not wait:
        process.communicate(b"x", timeout=60)
    return process


def holders(places: list[Path]) -> list[Path]:
    """Return the files that hold a piece of the mark."""
    pieces = [MARK[at : at + 32] for at in range(0, len(MARK), 65536)]
    return [path for path in _files(places) if (raw := path.read_bytes()) and any(piece in raw for piece in pieces)]


def _files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        yield from (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("end", ENDS)
def test_no_file_holds_plaintext_after_a_process_ended(sample: Sample, tmp_path: Path, end: str) -> None:
    load(sample, tmp_path, ENDS[end])
    shared = Path("/dev/shm")  # noqa: S108 - looked into
    assert holders([tmp_path, sample.directory, *([shared] if shared.is_dir() else [])]) == []


def test_no_file_is_open_and_nothing_shared_is_mapped_while_plaintext_is_in_memory(
    sample: Sample, tmp_path: Path
) -> None:
    with load(sample, tmp_path, "model.close()", wait=True) as process:
        maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        opened = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]  # noqa: PTH115 - no files
        process.communicate(b"x", timeout=60)
    assert [line for line in maps if line.split()[1].endswith("s") and "memfd" in line] == []
    assert not [name for name in opened if "memfd" in name or (str(tmp_path) in name and "stderr" not in name)]


def test_the_memory_that_a_core_dump_takes_holds_no_plaintext(sample: Sample, tmp_path: Path) -> None:
    """Every mapping that holds a piece of the mark is one that the kernel leaves out (``dd`` of smaps, proc(5))."""
    pieces = [MARK[at : at + 32] for at in range(0, len(MARK), 65536)]
    with load(sample, tmp_path, "model.close(); view.close()", wait=True) as process:
        holding = [flags for raw, flags in _mappings(process.pid) if any(piece in raw for piece in pieces)]
        process.communicate(b"x", timeout=60)
    assert holding
    assert [flags for flags in holding if "dd" not in flags.split()] == []


def test_a_core_dump_holds_no_plaintext(sample: Sample, tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith("|") or "/" in pattern or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core dumps do not land in the working directory here")
    process = load(sample, tmp_path, ENDS["by an abort"])
    cores = [path for path in tmp_path.iterdir() if path.name.startswith("core")]
    assert process.returncode == -signal.SIGABRT
    assert cores
    assert holders(cores) == []


def _mappings(pid: int) -> Iterator[tuple[bytes, str]]:
    """Yield the contents and flags of each private writable mapping of no file."""
    span: tuple[int, int] | None = None
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            first, *rest = line.split()
            if not first.endswith(":"):
                low, high = (int(part, 16) for part in first.split("-"))
                span = (low, high) if (rest[0].startswith("rw") and not rest[4:]) or "heap" in line else None
            elif first == "VmFlags:" and span is not None:
                memory.seek(span[0])
                yield memory.read(span[1] - span[0]), line
