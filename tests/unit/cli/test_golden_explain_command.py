"""``nodeseal golden explain`` and ``golden check`` over kept evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.offline import observe
from nodeseal.cli import output
from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import Window
from nodeseal.swtpm.sample_log import SampleBoot
from support.evidence_folders import folder_of, write_folder
from support.rounds import NOW, Round, measured, ran, runtime_rules

MACHINE = measured()
OTHER = measured(SampleBoot(boot_loader=b"another loader"))
WANTED = CaptureOptions(name="rack-a")


def golden_of(machine: Round, wanted: CaptureOptions = WANTED) -> Golden:
    return capture([observe(folder_of(machine)).observation], wanted).golden


GOLDEN = golden_of(MACHINE)


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    return write_folder(MACHINE, tmp_path / "evidence")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Evidence of a machine with another boot loader."""
    return write_folder(OTHER, tmp_path / "changed")


def written(golden: Golden, folder: Path) -> str:
    file = folder / f"{golden.name}.yaml"
    file.write_bytes(dump_golden(golden))
    return str(file)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no cell of a table be folded; the console took its width from whoever imported it first."""
    monkeypatch.setattr(output.console, "_width", 250)


def run(*argv: str | Path, exit_code: int) -> Result:
    result = CliRunner().invoke(app, ["golden", *map(str, argv)])
    assert result.exit_code == exit_code, result.output
    return result


def told(*argv: str | Path, exit_code: int) -> Any:
    return json.loads(run(*argv, "--json", exit_code=exit_code).stdout)


def test_a_golden_that_matches_is_named(evidence: Path, tmp_path: Path) -> None:
    result = run("explain", evidence, "--golden", written(GOLDEN, tmp_path), exit_code=0)
    assert f"rack-a  {GOLDEN.digest}  matches\n" in result.stdout
    assert "PCR" not in result.stdout


def test_what_differs_is_shown_event_by_event(changed: Path, tmp_path: Path) -> None:
    shown = run("explain", changed, "--golden", written(GOLDEN, tmp_path), exit_code=1).stdout
    assert "does not match" in shown
    assert "pcr.mismatch sha256 PCR 4, golden rack-a" in shown
    minus, plus = (line for line in shown.splitlines() if line.startswith(("  - ", "  + ")))
    assert minus.endswith("… EV_EFI_BOOT_SERVICES_APPLICATION \\EFI\\sample\\grubx64.efi")
    assert "… event " in plus


def test_every_golden_is_judged_by_itself_and_one_match_is_enough(changed: Path, tmp_path: Path) -> None:
    other = replace(golden_of(OTHER), name="rack-b")
    argv = ("explain", changed, "--golden", written(GOLDEN, tmp_path), "--golden", written(other, tmp_path))
    said = told(*argv, exit_code=0)
    assert [(each["name"], each["matches"], each["trusted"]) for each in said["goldens"]] == [
        ("rack-a", False, False),
        ("rack-b", True, True),
    ]
    differing = [each for each in said["goldens"][0]["pcrs"] if each["differs"]]
    (step,) = differing[0]["differences"]
    assert [each["pcr"] for each in differing] == [4]
    assert set(step) == {"golden", "seen"}
    assert step["golden"]["digest"] != step["seen"]["digest"]
    assert differing[0]["seen"] not in differing[0]["expected"]


def test_events_under_rules_are_shown_when_the_golden_does_not_match(changed: Path, tmp_path: Path) -> None:
    rules = golden_of(MACHINE, replace(WANTED, rules=True))
    shown = run("explain", changed, "--golden", written(rules, tmp_path), exit_code=1).stdout
    assert "uefi.image" in shown
    assert "sha256 PCR 4, judged by rules\n  - " in shown


def test_a_node_that_matches_and_sent_another_log_is_not_called_trusted(tmp_path: Path) -> None:
    lying = write_folder(replace(MACHINE, boot_log=OTHER.boot_log), tmp_path / "lying")
    shown = run("explain", lying, "--golden", written(GOLDEN, tmp_path), exit_code=1).stdout
    assert "matches, but something else speaks against the node" in shown
    assert "uefi.replay" in shown


def test_a_pcr_that_the_log_does_not_account_for_is_said_to_be_unexplained(tmp_path: Path) -> None:
    moved = write_folder(MACHINE.extended(4), tmp_path / "moved")
    shown = run("explain", moved, "--golden", written(GOLDEN, tmp_path), exit_code=1).stdout
    assert "sha256 PCR 4\n  the boot log does not account for this PCR" in shown


def test_pcrs_of_which_nothing_else_is_known_share_a_line(tmp_path: Path) -> None:
    evidence = write_folder(Round(), tmp_path / "evidence")
    shown = run("explain", evidence, "--golden", written(GOLDEN, tmp_path), exit_code=1).stdout
    assert "sha256 PCR 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14\n  there is no boot log" in shown
    assert shown.count("there is no boot log") == 1


def test_without_goldens_the_verifier_is_asked_which_are_active(evidence: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["golden", "explain", str(evidence), "--client", str(tmp_path / "nobody")])
    assert isinstance(result.exception, MalformedInput)
    assert "nobody/client.yaml" in str(result.exception) or "nobody: no such file" in str(result.exception)


def test_what_was_expected_checks_as_expected(changed: Path, tmp_path: Path) -> None:
    result = run("check", written(golden_of(OTHER), tmp_path), changed, exit_code=0)
    assert "as expected" in result.stdout
    assert "differs" not in result.stdout.replace("first event that differs", "")


def test_a_check_that_fails_names_pcr_and_event(changed: Path, tmp_path: Path) -> None:
    shown = run("check", written(GOLDEN, tmp_path), changed, exit_code=1).stdout
    (row,) = (line for line in shown.splitlines() if " differs " in line and line.startswith("sha256"))
    assert row.startswith("sha256 4 ")
    assert "grubx64.efi" in row
    assert "pcr.mismatch" not in shown


def test_rules_are_judged_beside_values(tmp_path: Path) -> None:
    golden = replace(golden_of(MACHINE, replace(WANTED, rules=True)), runtime=runtime_rules())
    strange = write_folder(MACHINE.running(ran("/opt/miner", b"x")), tmp_path / "strange")
    shown = run("check", written(golden, tmp_path), strange, exit_code=1).stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["boot", "log", "kept"] in rows
    assert ["runtime", "not", "kept"] in rows
    assert "/opt/miner" in shown
    assert "see the rules" in shown


def test_rules_of_a_golden_that_does_not_count_are_not_judged(evidence: Path, tmp_path: Path) -> None:
    golden = replace(GOLDEN, runtime=runtime_rules(), valid=Window(end=NOW.replace(year=2020)))
    shown = run("check", written(golden, tmp_path), evidence, exit_code=1).stdout
    assert ["runtime", "not", "judged"] in [line.split() for line in shown.splitlines()]


def test_a_check_in_json_is_an_explanation(changed: Path, tmp_path: Path) -> None:
    said = told("check", written(GOLDEN, tmp_path), changed, exit_code=1)
    assert (said["name"], said["matches"]) == ("rack-a", False)
    assert [each["pcr"] for each in said["pcrs"] if each["differs"]] == [4]


def test_a_folder_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["golden", "check", written(GOLDEN, tmp_path), str(tmp_path)])
    assert isinstance(result.exception, MalformedInput)
    assert f"{tmp_path}: evidence: evidence.json is missing" in str(result.exception)
