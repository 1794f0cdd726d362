"""Software-TPM machines for tests: a vendor and machines, in directories with short paths."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.pcr_usage import EPOCH_PCR


def need(*programs: str) -> None:
    """Skip the test, saying so, where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@contextmanager
def a_vendor() -> Iterator[TpmVendor]:
    """A vendor in a directory whose path is short enough for sockets below it."""
    need("swtpm")
    with tempfile.TemporaryDirectory(prefix="nodeseal-") as directory:
        yield TpmVendor.create(Path(directory) / "vendor")


@contextmanager
def a_machine(
    vendor: TpmVendor, name: str = "node", *, ek: str = "ecc", banks: tuple[str, ...] = ("sha256",)
) -> Iterator[Machine]:
    """A machine that runs; it is stopped and removed afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="nodeseal-") as directory,
        Machine.manufacture(Path(directory), name=name, vendor=vendor, ek=ek, banks=banks) as machine,
    ):
        yield machine


def tool(machine: Machine, *command: str, cwd: Path) -> str:
    """Run one of tpm2-tools against a machine in a process; return its output.

    Raises:
        AssertionError: it fails.
    """
    need(command[0])
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "TPM2TOOLS_TCTI": machine.tcti},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def judged_pcrs(machine: Machine) -> dict[int, bytes]:
    """Return all PCRs but the lease epoch, which the node's agent changes while it runs."""
    return {pcr: value for pcr, value in machine.read_pcrs().items() if pcr != EPOCH_PCR}
