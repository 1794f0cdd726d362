"""The verbs of the Makefile that must tell apart what cannot be installed from what fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OF_MAKE = {"JOBS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTEST_ARGS"}  # of the make that runs us
DONE = ("python", "requirements", "nodeseal")
PYTHON = """#!/bin/sh
# Stands in for the Python of both environments: $0 tells which.
case "$*" in
*"-m venv"*) mkdir -p {venv}-integrations/bin && cp "$0" {venv}-integrations/bin/python ;;
*"-m pip"*) echo "$*" >>{venv}/pip; {pip} ;;
*"-m pytest"*) echo "TESTS $*"; exit {tests} ;;
esac
"""


def make(folder: Path, *arguments: str, pip: str = "true", tests: int = 0) -> subprocess.CompletedProcess[str]:
    """Run make where everything but the integrations is set up."""
    venv = folder / "venv"
    if not venv.exists():
        (venv / "bin").mkdir(parents=True)
        (venv / "stamps").mkdir()
        for name in DONE:
            (venv / "stamps" / name).touch()
    for python in (venv / "bin" / "python", folder / "venv-integrations" / "bin" / "python"):
        if python.parent.exists():
            python.write_text(PYTHON.format(venv=venv, pip=pip, tests=tests))
            python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    return subprocess.run(
        ["make", f"VENV={venv}", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


NOT_FOUND = "echo 'ERROR: No matching distribution found for torch==1+cpu' >&2; exit 1"


def test_integrations_that_do_not_install_are_skipped_with_the_reason_and_the_remedy(tmp_path: Path) -> None:
    done = make(tmp_path, "test-integrations", pip=NOT_FOUND, tests=1)
    assert done.returncode == 0, done.stderr
    assert "SKIPPED the tests with PyTorch and transformers: No matching distribution found for torch" in done.stdout
    assert "PIP_EXTRA_INDEX_URL" in done.stdout
    assert "TESTS" not in done.stdout
    assert not (tmp_path / "venv-integrations").exists()


def test_integrations_that_did_not_install_are_tried_again(tmp_path: Path) -> None:
    make(tmp_path, "test-integrations", pip=NOT_FOUND)
    assert "TESTS" in make(tmp_path, "test-integrations").stdout


def test_integrations_that_are_installed_are_not_installed_again(tmp_path: Path) -> None:
    make(tmp_path, "test-integrations")
    assert "TESTS" in make(tmp_path, "test-integrations", pip="exit 1").stdout


@pytest.mark.parametrize("verb", ["test", "test-integrations"])
def test_a_test_that_fails_fails_the_verb(tmp_path: Path, verb: str) -> None:
    assert make(tmp_path, verb, "--assume-old=check", tests=1).returncode != 0


def test_only_pinned_packages_are_installed_and_no_build_of_theirs_runs(tmp_path: Path) -> None:
    make(tmp_path, "test-integrations")
    packages, nodeseal = (tmp_path / "venv" / "pip").read_text().splitlines()
    assert "--no-deps --no-compile --require-hashes --only-binary :all:" in packages
    assert nodeseal.endswith("--no-deps --no-build-isolation --editable .")


def test_all_tests_are_those_of_the_integrations_too_unless_some_are_picked(tmp_path: Path) -> None:
    runs = [
        line for line in make(tmp_path, "test", "JOBS=2", "--assume-old=check").stdout.splitlines() if "TESTS" in line
    ]
    assert [run.partition("pytest ")[2] for run in runs] == [
        "-n 2 --dist worksteal --ignore tests/integrations_optional --ignore tests/unit/test_repository.py",
        "tests/integrations_optional",
    ]
    some = make(tmp_path, "test", "JOBS=2", "--assume-old=check", "PYTEST_ARGS=tests/unit -k quote").stdout
    assert "TESTS -m pytest -n 2 --dist worksteal tests/unit -k quote" in some
    assert "integrations_optional" not in some
