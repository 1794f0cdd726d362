"""What the programs load: help and mistakes cost nothing that only some command needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = "cryptography", "google.protobuf", "grpc", "numpy", "sqlalchemy", "tpm2_pytss", "yaml", "zstandard"
PROGRAM = """
import sys
from contextlib import suppress
from nodeseal.{program}.main import main
with suppress(SystemExit):
    main()
print("loaded:", *(name for name in {modules} if name in sys.modules))
"""


def loaded(program: str, modules: tuple[str, ...], *argv: str) -> list[str]:
    """Return which of some modules a program has loaded when it ends."""
    script = PROGRAM.format(program=program, modules=modules)
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, check=True)
    found, *names = done.stdout.splitlines()[-1].split()
    assert found == "loaded:"
    return names


@pytest.mark.parametrize("argument", ["--help", "nonsense"])
@pytest.mark.parametrize("program", ["agent", "cli", "verifier"])
def test_what_calls_no_command_loads_none(program: str, argument: str) -> None:
    assert loaded(program, HEAVY, argument) == []


def test_a_command_that_reads_files_loads_no_grpc() -> None:
    assert loaded("cli", ("grpc", "google.protobuf"), "log", "--help") == []
