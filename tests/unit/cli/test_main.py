"""The list of commands: it costs none of their imports and says what they say of themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from nodeseal.cli.later import Later
from nodeseal.cli.main import COMMANDS, app

HEAVY = ("cryptography", "google.protobuf", "grpc", "numpy", "sqlalchemy", "yaml", "zstandard")
PROGRAM = """
import sys
from contextlib import suppress
from nodeseal.cli.main import main
with suppress(SystemExit):
    main()
print("loaded:", *(name for name in sys.argv[-1].split() if name in sys.modules))
"""


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_the_list_says_what_the_help_of_each_command_begins_with(command: Later) -> None:
    first, _, _ = command.loaded().help.partition("\n\n")
    assert " ".join(first.split()) == command.help
    assert command.loaded().name == command.name


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_help_of_a_command_is_its_own(command: Later) -> None:
    shown = CliRunner().invoke(app, [str(command.name), "--help"])
    assert shown.exit_code == 0
    assert "Example: nodeseal" in shown.output or "COMMAND [ARGS]" in shown.output


@pytest.mark.parametrize("argument", ["--help", "--version", "nonsense"])
def test_what_calls_no_command_loads_none(argument: str) -> None:
    script = [sys.executable, "-c", PROGRAM.replace("sys.argv[-1]", repr(" ".join(HEAVY))), argument]
    shown = subprocess.run(script, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "loaded:"


def test_a_command_that_reads_files_loads_no_grpc() -> None:
    script = [sys.executable, "-c", PROGRAM.replace("sys.argv[-1]", repr("grpc google.protobuf")), "log", "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "loaded:"
