"""``nodeseal appraise``: kept evidence, judged by the verifier's rules without a verifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.swtpm.sample_log import SampleBoot
from support.evidence_folders import write_folder
from support.rounds import exact_golden, measured, ran, runtime_rules

MACHINE = measured()
GOLDEN = replace(exact_golden(MACHINE), runtime=runtime_rules())


def written(golden: Golden, folder: Path) -> Path:
    file = folder / f"{golden.name}.yaml"
    file.write_bytes(dump_golden(golden))
    return file


def run(evidence: Path, *goldens: Path, as_json: bool = False) -> Result:
    files = [part for golden in goldens for part in ("--golden", str(golden))]
    return CliRunner().invoke(app, ["appraise", *files, "--evidence", str(evidence), *["--json"] * as_json])


def printed(evidence: Path, *goldens: Path) -> Any:
    return json.loads(run(evidence, *goldens, as_json=True).stdout)


def test_evidence_is_trusted_under_its_own_golden(tmp_path: Path) -> None:
    evidence, golden = write_folder(MACHINE, tmp_path / "evidence"), written(GOLDEN, tmp_path)
    result = run(evidence, golden)
    assert result.exit_code == 0, result.stdout
    assert "trusted" in result.stdout
    assert "attestation key" in result.stdout
    said = printed(evidence, golden)
    assert said["ak_name"] == MACHINE.key.public.name().hex()
    assert [each["name"] for each in said["goldens"]] == [GOLDEN.name]
    assert said["boot"]["secure_boot"] is True
    assert [image["path"].rpartition("\\")[2] for image in said["boot"]["images"]] == [
        "shimx64.efi",
        "grubx64.efi",
        "vmlinuz",
    ]
    assert said["boot"]["command_lines"] == ["/vmlinuz root=LABEL=root ro quiet"]
    assert said["ima_proved_bytes"] == len(MACHINE.ima_log or b"")


def test_another_boot_loader_is_refused_with_the_event_that_explains_it(tmp_path: Path) -> None:
    # a golden with reference events comes from a capture; the finding names the PCR in any case
    evidence = write_folder(measured(SampleBoot(boot_loader=b"another")), tmp_path / "evidence")
    golden = written(GOLDEN, tmp_path)
    assert run(evidence, golden).exit_code == 1
    said = printed(evidence, golden)
    assert said["verdict"] == "untrusted"
    assert ("pcr.mismatch", "sha256 PCR 4, golden rack-a") in [(f["id"], f["where"]) for f in said["findings"]]


def test_an_unknown_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    evidence = write_folder(MACHINE.running(ran("/opt/miner", b"x")), tmp_path / "evidence")
    result = run(evidence, written(GOLDEN, tmp_path))
    assert result.exit_code == 1
    assert "ima.unknown-file" in result.stdout
    assert "/opt/miner" in result.stdout
    assert "runtime list" in result.stdout


def test_one_of_several_goldens_is_enough(tmp_path: Path) -> None:
    other = replace(exact_golden(measured(SampleBoot(kernel=b"next"))), name="next")
    evidence = write_folder(MACHINE, tmp_path / "evidence")
    assert run(evidence, written(other, tmp_path), written(GOLDEN, tmp_path)).exit_code == 0


@pytest.mark.parametrize("name", ["attest.bin", "signature.bin", "claims.json", "pcr-values.json", "ak.pub"])
def test_a_changed_file_is_no_proof(tmp_path: Path, name: str) -> None:
    evidence = write_folder(MACHINE, tmp_path / "evidence")
    content = bytearray((evidence / name).read_bytes())
    content[-8] ^= 1
    (evidence / name).write_bytes(content)
    result = run(evidence, written(GOLDEN, tmp_path))
    assert result.exit_code == 1
    assert isinstance(result.exception, ProofFailed | MalformedInput)


@pytest.mark.parametrize("name", ["boot-log.bin", "ima-log.bin"])
def test_a_changed_log_is_not_believed(tmp_path: Path, name: str) -> None:
    evidence = write_folder(MACHINE, tmp_path / "evidence")
    content = bytearray((evidence / name).read_bytes())
    content[-50] ^= 1  # in the last digest
    (evidence / name).write_bytes(content)
    said = printed(evidence, written(GOLDEN, tmp_path))
    assert said["verdict"] == "untrusted"
    assert {f["id"] for f in said["findings"]} & {"uefi.replay", "uefi.log-malformed", "ima.replay"}


def test_a_folder_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    result = run(tmp_path, written(GOLDEN, tmp_path))
    assert isinstance(result.exception, MalformedInput)
    assert f"{tmp_path}: evidence: evidence.json is missing" in str(result.exception)


def test_a_file_that_nobody_judges_is_refused_by_name(tmp_path: Path) -> None:
    evidence = write_folder(MACHINE, tmp_path / "evidence")
    (evidence / "extra.bin").write_bytes(b"x")
    result = run(evidence, written(GOLDEN, tmp_path))
    assert isinstance(result.exception, MalformedInput)
    assert "'extra.bin' does not belong to an evidence folder" in str(result.exception)


@pytest.mark.parametrize("place", [lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_is_not_read(place: Callable[[Path], None], tmp_path: Path) -> None:
    evidence = write_folder(replace(MACHINE, boot_log=None), tmp_path / "evidence")
    place(evidence / "boot-log.bin")
    result = run(evidence, written(GOLDEN, tmp_path))
    assert isinstance(result.exception, MalformedInput)
    assert f"{evidence}: boot-log.bin: is no file" in str(result.exception)
