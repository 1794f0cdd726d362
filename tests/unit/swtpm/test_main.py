"""``python -m nodeseal.swtpm``: machines by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from support.machines import need


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nodeseal.swtpm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_vendor_and_a_machine_are_made(tmp_path: Path) -> None:
    need("swtpm")
    assert _run("vendor", tmp_path / "vendor").returncode == 0
    made = _run(
        "manufacture", tmp_path, "node", "--vendor", tmp_path / "vendor", "--bank", "sha256", "--bank", "sha384"
    )
    assert (made.returncode, made.stderr) == (0, "")
    with Machine(tmp_path / "node") as machine:
        assert len(machine.read_pcrs()) == len(machine.read_pcrs("sha384")) == 24


def test_a_sample_log_is_written_with_the_boot_loader_asked_for(tmp_path: Path) -> None:
    assert _run("sample-log", tmp_path / "good.log").returncode == 0
    assert _run("sample-log", tmp_path / "bad.log", "--boot-loader", "other").returncode == 0
    assert (tmp_path / "good.log").read_bytes() == sample_boot_log(SampleBoot())
    assert (tmp_path / "bad.log").read_bytes() == sample_boot_log(SampleBoot(boot_loader=b"other"))


def test_what_fails_is_told_in_one_line(tmp_path: Path) -> None:
    done = _run("run", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"nodeseal.swtpm: {tmp_path}: no machine here\n"


def test_no_command_is_misuse() -> None:
    assert _run().returncode == 2
