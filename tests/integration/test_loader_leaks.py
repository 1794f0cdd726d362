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
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from support.sealed import Sample, seal_files

UNIT = np.random.default_rng(7).bytes(32)
"""Bytes that are nowhere else; tensors hold nothing but them."""
MARK = UNIT * 64
"""Half a page of plaintext gives itself away. Less may be in vector registers, which every core dump takes along."""
SHAPE = (1024, 1024)
PATH = "model.safetensors"

LOAD = """
import ctypes, mmap, os, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from nodeseal.loader import InsecureFileKeys, open_model, open_tensors
from nodeseal.loader.numpy import save_file
from nodeseal.loader.readable import folder_in_memory
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
model = open_model(sys.argv[1], InsecureFileKeys(Path(sys.argv[2])))
tensors = open_tensors(model, "model.safetensors").get_tensors()
one = open_tensors(model, "model.safetensors").get_tensor("t")
piece = open_tensors(model, "model.safetensors").get_slice("t")
pieces = [piece[10:20], piece[:, 64:128], piece[::2, ::2], piece[7]]
view = model.as_file("model.safetensors")
view.read(100)
with folder_in_memory(model) as folder, open(folder / "model.safetensors", "rb") as file:
    libc = ctypes.CDLL(None)  # Python's own mmap keeps a descriptor, unlike libraries
    libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 4)
    mapped = libc.mmap(None, os.fstat(file.fileno()).st_size, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0)
"""
LEAK = "copy = bytes(one.data)[999:3099]\n"
"""What the searches must find."""
SAY = """
print("loaded", flush=True)
sys.stdin.read(1)
"""
RESEAL = """
from nodeseal.loader.reseal import next_label, reseal_model
from nodeseal.sealed.model_key import parse_model_key
key = parse_model_key(Path(sys.argv[3]).read_bytes(), "key")
reseal_model(model, Path("resealed"), [key], next_label(model.content, datetime.now(UTC)))
"""
ENDS = {
    "well": "model.close(); view.close()",
    "by an abort": "os.abort()",
    "by a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "killed": "os.kill(os.getpid(), 9)",
    "by an error": "raise RuntimeError(len(tensors))",
    "well, having sealed again": RESEAL,
    "well, having sealed from memory": "save_file(tensors, 'made/m.safetensors', model_keys=[sys.argv[3]])",
    "killed while it seals again": RESEAL.replace("UTC)))", "UTC)), progress=lambda _: os.kill(os.getpid(), 9))"),
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    tensor = np.frombuffer(UNIT * (SHAPE[0] * SHAPE[1] // len(UNIT)), np.uint8).reshape(SHAPE)
    sample = seal_files(tmp_path_factory.mktemp("leaks"), {PATH: save({"t": tensor, "u": tensor})})
    (sample.directory.parent / "public").write_bytes(sample.key.encode())
    return sample


def load(sample: Sample, folder: Path, end: str, *, wait: bool = False, leak: str = "") -> subprocess.Popen[bytes]:
    """Run a process that loads everything in every way, does ``leak``, says so, and then does ``end``."""
    key = next(sample.directory.parent.glob("*.insecure"))
    command = [
        sys.executable,
        "-c",
        LOAD + leak + SAY + end,
        str(sample.directory),
        str(key),
        str(key.with_name("public")),
    ]
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
    """Return the files that hold plaintext."""
    return [path for place in places for path in place.rglob("*") if MARK in _content(path)]


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError):  # other programs come and go in /dev/shm
        return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return b""


def test_the_search_finds_half_a_page_of_plaintext_in_a_file(tmp_path: Path) -> None:
    for name, raw in {"a": MARK, "sub/b": bytes(5000) + (MARK * 2)[9:2088] + bytes(5), "none": MARK[:-1]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    assert sorted(holders([tmp_path])) == [tmp_path / "a", tmp_path / "sub" / "b"]


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


def flags_of_plaintext(process: subprocess.Popen[bytes]) -> list[list[str]]:
    """Return the flags of each mapping with plaintext of a process (``VmFlags`` in proc(5)), and let it end."""
    with process:
        flags = [line.split() for raw, line in _mappings(process.pid) if MARK in raw]
        process.communicate(b"x", timeout=60)
    return flags


def test_the_memory_that_a_core_dump_takes_holds_no_plaintext(sample: Sample, tmp_path: Path) -> None:
    """Every mapping that holds plaintext is one that the kernel leaves out (``dd``)."""
    flags = flags_of_plaintext(load(sample, tmp_path, "model.close(); view.close()", wait=True))
    assert flags
    assert [each for each in flags if "dd" not in each] == []


def test_the_search_finds_half_a_page_of_plaintext_in_memory(sample: Sample, tmp_path: Path) -> None:
    flags = flags_of_plaintext(load(sample, tmp_path, "model.close(); view.close()", wait=True, leak=LEAK))
    assert [each for each in flags if "dd" not in each]


def core_of(sample: Sample, folder: Path, leak: str = "") -> Path:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith("|") or "/" in pattern or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core dumps do not land in the working directory here")
    assert load(sample, folder, ENDS["by an abort"], leak=leak).returncode == -signal.SIGABRT
    (core,) = folder.glob("core*")
    return core


@pytest.mark.parametrize("leak", ["", LEAK])
def test_a_core_dump_holds_no_plaintext_but_what_was_copied(sample: Sample, tmp_path: Path, leak: str) -> None:
    assert (MARK in core_of(sample, tmp_path, leak).read_bytes()) is bool(leak)


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
