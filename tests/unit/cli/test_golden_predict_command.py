"""``nodeseal golden predict``: an update from files to YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.offline import appraise_folder, observe
from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.swtpm.sample_log import SampleBoot
from support.evidence_folders import folder_of
from support.pe_images import build_pe
from support.rounds import measured

BEFORE = SampleBoot(initrd=b"initrd 1", command_line="/vmlinuz-6.1 root=LABEL=root ro")
AFTER = SampleBoot(initrd=b"initrd 2", command_line="/vmlinuz-6.1 root=LABEL=root ro")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["golden", "predict", *map(str, arguments)])


@pytest.fixture
def now(tmp_path: Path) -> Path:
    golden = capture([observe(folder_of(measured(BEFORE))).observation], CaptureOptions(name="now")).golden
    file = tmp_path / "now.yaml"
    file.write_bytes(dump_golden(golden))
    return file


def test_machines_that_booted_the_new_files_match_the_prediction_and_no_other_does(now: Path, tmp_path: Path) -> None:
    (tmp_path / "initrd.img").write_bytes(b"initrd 2")
    out = tmp_path / "next.yaml"
    result = run(now, "--name", "next", "--replace", tmp_path / "initrd.img", "-o", out)
    assert result.exit_code == 0, result.stderr
    predicted = parse_golden(out.read_bytes(), "next")
    assert appraise_folder(folder_of(measured(AFTER)), [predicted]).trusted
    assert not appraise_folder(folder_of(measured(BEFORE)), [predicted]).trusted


def test_json_says_what_changes(now: Path, tmp_path: Path) -> None:
    (tmp_path / "initrd.img").write_bytes(b"initrd 2")
    said = json.loads(run(now, "--name", "next", "--replace", tmp_path / "initrd.img", "--json").stdout)
    assert [(step["pcr"], step["what"]) for step in said["changed"]] == [(9, "/initrd.img")]
    assert parse_golden(said["document"].encode(), "next").digest == said["digest"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param([], "nothing to predict", id="no file"),
        pytest.param(["--rename", "6.1"], "not OLD=NEW", id="half a pair"),
    ],
)
def test_misuse_is_told(now: Path, arguments: list[str], complaint: str) -> None:
    result = run(now, "--name", "next", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_file_that_replaces_nothing_is_refused(now: Path, tmp_path: Path) -> None:
    (tmp_path / "unknown.efi").write_bytes(build_pe())
    result = run(now, "--name", "next", "--replace", tmp_path / "unknown.efi")
    assert isinstance(result.exception, MalformedInput)
    assert "no reference event is about 'unknown.efi'" in str(result.exception)
