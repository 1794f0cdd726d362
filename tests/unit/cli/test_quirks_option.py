"""``--quirks``: commands judge with the operator's quirks, and say what they give up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden
from support.evidence_folders import write_folder
from support.rounds import SHA256, Round, exact_golden, measured

ROW = """quirks:
  - id: site-dl160
    vendor: "HPE"
    firmware: ".*"
    deviates: "PCR 0 is extended with something that is not logged"
    effect: value-alone
    pcr: 0
    source: "fwupd#2136"
"""


def server() -> Round:
    """A machine of that maker, whose PCR 0 has more than its log says."""
    machine = measured()
    value = SHA256.digest(machine.pcrs[0] + SHA256.digest(b"not logged"))
    claims = replace(machine.claims, firmware_vendor="HPE", firmware_version="U31")
    return replace(machine, claims=claims, pcrs={**machine.pcrs, 0: value}, ima_log=None)


def run(folder: Path, *command: str) -> Result:
    return CliRunner().invoke(app, [*command, "--quirks", str(folder / "own.yaml")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(server(), tmp_path / "evidence")
    (tmp_path / "golden.yaml").write_bytes(dump_golden(exact_golden(server())))
    (tmp_path / "own.yaml").write_text(ROW)
    return tmp_path


def test_evidence_is_judged_with_quirks_by_every_command(folder: Path) -> None:
    golden, evidence = str(folder / "golden.yaml"), str(folder / "evidence")
    for command in (
        ("appraise", "--evidence", evidence, "--golden", golden),
        ("golden", "explain", evidence, "--golden", golden),
        ("golden", "capture", evidence, "--name", "site", "-o", str(folder / "captured.yaml")),
    ):
        assert CliRunner().invoke(app, command).exit_code == 1, command
        done = run(folder, *command)
        assert done.exit_code == 0, done.output
        assert "site-dl160" in done.output
        assert "judged by its value alone" in " ".join(done.output.split())


def test_lint_says_what_a_quirk_gives_up_and_whether_the_golden_has_a_value(folder: Path) -> None:
    said = json.loads(run(folder, "golden", "lint", "--json", str(folder / "golden.yaml")).stdout)["open"][-1]
    assert said.startswith("PCR 0 is judged by its value alone")
    assert "(quirk site-dl160, firmware .* of HPE: PCR 0 is extended with something that is not logged)" in said
    pinned = exact_golden(server()).pcrs[SHA256]
    (folder / "less.yaml").write_bytes(dump_golden(replace(exact_golden(server()), pcrs={SHA256: {4: pinned[4]}})))
    said = json.loads(run(folder, "golden", "lint", "--json", str(folder / "less.yaml")).stdout)["open"][-1]
    assert said.startswith("no value for PCR 0, so nodes of a quirk do not match")


def test_a_bad_file_is_refused_with_its_place(folder: Path) -> None:
    (folder / "own.yaml").write_text(ROW.replace("pcr: 0", "pcr: 11"))
    error = run(folder, "golden", "lint", str(folder / "golden.yaml")).exception
    assert isinstance(error, MalformedInput)
    assert "own.yaml, line 7: pcr is not" in str(error)
