"""The command: all figures are there, whatever happens to one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.harness import Result
from benchmarks.openssl import parse_speed

_ROOT = Path(__file__).resolve().parents[3]

FIGURES = {
    "load_2t_over_1t": partial(divmod, 1, 0),
    "kib_per_node": partial(parse_speed, "nothing"),
    "first_tensor_ms": partial(Result.of, (3.0,), unit="ms", against="", note=""),
}
"""One that fails, one that is missing and one that is good; by names that other processes find as well."""


def test_a_figure_that_fails_is_null_with_its_reason_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_RESULTS", tmp_path)
    monkeypatch.setattr(command, "_benchmarks", lambda: FIGURES)
    assert command.main([]) == 1
    results = json.loads((tmp_path / "latest.json").read_text())["results"]
    assert {key: result["value"] for key, result in results.items()} == dict.fromkeys(FIGURES) | {"first_tensor_ms": 3}
    assert "ZeroDivisionError" in results["load_2t_over_1t"]["note"]
    assert "no figure" in results["kib_per_node"]["note"]


def test_a_figure_that_is_missing_is_no_failure_and_one_alone_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_RESULTS", tmp_path)
    monkeypatch.setattr(command, "_benchmarks", lambda: FIGURES)
    assert command.main(["kib_per_node"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_figure_whose_process_is_killed_is_a_failure_and_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_RESULTS", tmp_path)
    monkeypatch.setattr(command, "_benchmarks", lambda: FIGURES | {"kib_per_node": partial(os._exit, 9)})
    assert command.main([]) == 1
    results = json.loads((tmp_path / "latest.json").read_text())["results"]
    assert results["kib_per_node"]["note"] == "failed: its process ended early"
    assert results["first_tensor_ms"]["value"] == 3


def test_each_figure_is_asked_for_in_its_process_when_people_run_the_command(tmp_path: Path) -> None:
    (tmp_path / "git").symlink_to(shutil.which("git") or "no git")
    command_line = [sys.executable, "-m", "benchmarks", "enrol_overhead_ms"]
    environment = os.environ | {"PATH": str(tmp_path)}  # without a TPM there is nothing to wait for
    done = subprocess.run(command_line, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "swtpm is not installed" in done.stdout


_ENDLESS = """
import threading
from benchmarks import __main__ as command

def endless():
    try:
        print("measuring", flush=True)
        threading.Event().wait()
    finally:
        print("stopped in order", flush=True)

if __name__ == "__main__":
    command._measured("endless", endless)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_benchmark_ends_in_order_with_the_command_that_started_it(tmp_path: Path, signum: int) -> None:
    script = tmp_path / "endless.py"
    script.write_text(_ENDLESS)
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"measuring\n"
        parent.send_signal(signum)
        said, _ = parent.communicate(timeout=60)  # which ends when nobody is left who could say more
    assert said == b"stopped in order\n"


def test_every_figure_has_a_benchmark() -> None:
    assert command._benchmarks().keys() == report.REACH.keys()
