"""One empty software TPM, for tests that need a TPM and no machine."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_ACCEPTS = 0x10000
"""Flag of a listening socket in /proc/net/unix (proc(5))."""


@contextlib.contextmanager
def bare_tpm() -> Iterator[str]:
    """Start swtpm with fresh state and yield its TCTI; skip, saying so, where it is not installed."""
    # a short path: a Unix socket's has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="tpm") as folder:
        path = Path(folder, "s")
        command = [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"),
            *("--server", f"type=unixio,path={path}", "--ctrl", f"type=unixio,path={path}.ctrl"),
            *("--flags", "not-need-init,startup-clear"),
        ]
        try:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            pytest.skip("swtpm is not installed")
        try:
            _await(path)
            yield f"swtpm:path={path}"
        finally:
            process.kill()
            process.wait()


def _await(path: Path) -> None:
    for _ in range(500):
        if _listens(path) and _listens(Path(f"{path}.ctrl")):
            return
        time.sleep(0.02)
    pytest.fail("swtpm did not start")


def _listens(path: Path) -> bool:
    """Look without connecting, for swtpm ends with its first connection; a path exists before anybody listens."""
    rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(row[-1] == str(path) and int(row[3], 16) & _ACCEPTS for row in rows)
