"""``nodeseal golden egress`` writes the file of a golden, and ``nodeseal-agent egress plan`` says what it means."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.agent import main as agent_main
from nodeseal.cli.main import app
from nodeseal.egress.document import parse_egress_file
from nodeseal.errors import NodesealError, NotFound
from nodeseal.golden.document import dump_golden
from nodeseal.golden.lint import lint_golden
from nodeseal.settings import load_yaml
from support.egress import document, with_uplinks
from support.rounds import GOLDEN

LIMITED = replace(GOLDEN, egress=document())


def written(folder: Path, golden: object = LIMITED) -> Path:
    file = folder / "golden.yaml"
    file.write_bytes(dump_golden(golden))  # type: ignore[arg-type]  # a golden
    return file


def test_the_file_of_a_golden_has_its_document(tmp_path: Path) -> None:
    out = tmp_path / "egress.yaml"
    result = CliRunner().invoke(app, ["golden", "egress", str(written(tmp_path)), "-o", str(out)])
    assert result.exit_code == 0, result.stderr
    assert parse_egress_file(load_yaml(out)).digest == document().digest
    shown = CliRunner().invoke(app, ["golden", "egress", str(written(tmp_path))])
    assert shown.stdout == out.read_text()


def test_a_golden_without_limits_has_no_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["golden", "egress", str(written(tmp_path, GOLDEN))])
    assert isinstance(result.exception, NotFound)


def test_lint_says_what_may_leave_and_what_only_counts() -> None:
    found = lint_golden(replace(GOLDEN, egress=with_uplinks("up0", counted=("ib0",))))
    assert any("bytes to 10.77.0.0/24, fd77::/64 are free; others leave by up0 only" in line for line in found.covered)
    assert any(line.startswith("egress, tight: 100000 bytes a second") for line in found.covered)
    assert any(line.startswith("egress ib0: it sends without a limit") for line in found.open)


@pytest.mark.skipif(os.geteuid() != 0, reason="the file must be of root")
def test_a_plan_shows_the_table_and_devices_that_contradict_it(tmp_path: Path) -> None:
    out = tmp_path / "egress.yaml"
    CliRunner().invoke(app, ["golden", "egress", str(written(tmp_path)), "-o", str(out)])
    result = CliRunner().invoke(agent_main.app, ["egress", "plan", "--file", str(out), "--tight"])
    assert result.exit_code == 1, "no device of this machine is called up0"
    assert "limit rate over 100000 bytes/second burst 65536 bytes" in result.stdout
    assert "# PROBLEM up0: expected a device of this name, seen none" in result.stdout
    assert "present connections would be limited:" in result.stdout


def test_a_plan_needs_a_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(agent_main.app, ["egress", "plan", "--file", str(tmp_path / "none")])
    assert isinstance(result.exception, NodesealError)
    assert "egress.file" in str(result.exception)
