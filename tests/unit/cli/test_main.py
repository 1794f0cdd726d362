"""The list of commands says what they say of themselves."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from nodeseal.cli.later import Later
from nodeseal.cli.main import COMMANDS, app


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
