"""The three programs begin and end well: what is missing is named, Ctrl-C is quiet, every encoding will do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = {"nodeseal": "cli", "nodeseal_agent": "agent", "nodeseal_verifier": "verifier"}
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise {error}
sys.meta_path.insert(0, Missing())
from nodeseal.entry import {program}
{program}()
"""


def begun(
    program: str, *argv: str, module: str = "", error: str = "None", **variables: str
) -> subprocess.CompletedProcess[str]:
    script = BLOCKED.format(program=program, module=module, error=error)
    return subprocess.run(
        [sys.executable, "-c", script, *argv],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_two_names(program: str, option: str) -> None:
    assert "Usage: " in begun(program, option).stdout


@pytest.mark.parametrize(
    ("program", "command"),
    [("nodeseal", ("node", "list")), ("nodeseal_agent", ("check",)), ("nodeseal_verifier", ("person", "add"))],
)
def test_help_of_commands_has_two_names_as_well(program: str, command: tuple[str, ...]) -> None:
    assert "Example: nodeseal" in begun(program, *command, "-h").stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_tells_its_version(program: str) -> None:
    done = begun(program, "--version")
    assert done.returncode == 0
    assert done.stdout.count(".") == 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_package_that_is_not_installed_is_named_with_its_extra(program: str) -> None:
    done = begun(program, "--help", module="typer", error="ModuleNotFoundError(name='typer')")
    assert done.returncode == 1
    assert "typer is not installed" in done.stderr
    assert f"'nodeseal[{PROGRAMS[program]}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_whose_library_is_missing_is_named_with_it() -> None:
    said = "libtss2-esys.so.0: cannot open shared object file"
    done = begun("nodeseal_agent", "--help", module="typer", error=f"ImportError({said!r}, name='typer.core')")
    assert done.returncode == 1
    assert f"nodeseal-agent: the package typer does not load: {said}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_verifiers_package_as_a_program_names_what_is_missing_as_well(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        BLOCKED.format(module="typer", error="ModuleNotFoundError(name='typer')", program="nodeseal").partition(
            "from "
        )[0]
    )
    done = subprocess.run(
        [sys.executable, "-m", "nodeseal.verifier", "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "typer is not installed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_module_of_our_own_that_is_missing_is_a_mistake_of_ours() -> None:
    module = "nodeseal.cli.main"
    done = begun("nodeseal", module=module, error=f"ModuleNotFoundError(name={module!r})")
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt_while_modules_are_loaded_leaves_no_traceback(program: str) -> None:
    done = begun(program, "--help", module="typer", error="KeyboardInterrupt")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_what_an_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    missing = tmp_path / "größe…"
    done = begun("nodeseal", "inspect", str(missing), PYTHONIOENCODING="ascii", LANG="C")
    assert "Traceback" not in done.stderr
    shown = begun("nodeseal", "node", "show", "--help", PYTHONIOENCODING="ascii", LANG="C")
    assert shown.returncode == 0, shown.stderr
    assert "n-4xk2\\u2026" in shown.stdout


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("nodeseal", ("node", "list", "--client", "nowhere")),
        ("nodeseal_verifier", ("person", "list", "--config", "nowhere.yaml")),
        ("nodeseal_agent", ("status", "--config", "nowhere.yaml")),
    ],
)
def test_a_program_reads_an_error_as_json_and_a_person_as_text(program: str, command: tuple[str, ...]) -> None:
    done = begun(program, *command, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"].keys() == {"message", "remedy", "findings"}
    assert "nowhere" in json.loads(done.stdout)["error"]["message"]
    assert "nowhere" in done.stderr
    plain = begun(program, *command)
    assert (plain.stdout, plain.returncode) == ("", 1)


def test_an_interrupt_of_a_command_ends_with_130_as_well() -> None:
    done = begun("nodeseal", "inspect", ".", module="nodeseal.cli.inspect", error="KeyboardInterrupt")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
