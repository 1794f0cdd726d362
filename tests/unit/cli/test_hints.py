"""Hints lead on: none says to run what is running, files are called what they are, and pipes are not waited for."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.cli.main import app
from nodeseal.crypto.keys import decode_public_key
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden
from nodeseal.swtpm.sample_log import SampleBoot
from support.evidence_folders import write_folder
from support.rounds import exact_golden, measured

MACHINE = measured()


def refused(*command: str) -> MalformedInput:
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, MalformedInput), error
    return error


def test_explain_does_not_say_to_run_explain(tmp_path: Path) -> None:
    folder = write_folder(measured(SampleBoot(kernel=b"another")), tmp_path / "evidence")
    (tmp_path / "golden.yaml").write_bytes(dump_golden(exact_golden(MACHINE)))
    said = CliRunner().invoke(app, ["golden", "explain", str(folder), "--golden", str(tmp_path / "golden.yaml")])
    assert "pcr.mismatch" in said.stdout
    assert "nodeseal golden explain" not in said.stdout
    judged = ["appraise", "--evidence", str(folder), "--golden", str(tmp_path / "golden.yaml")]
    assert "nodeseal golden explain" in " ".join(CliRunner().invoke(app, judged).stdout.split())


@pytest.mark.parametrize(
    ("machine", "word"),
    [
        pytest.param(measured(SampleBoot(secure_boot=False)), "off", id="the log says off"),
        pytest.param(MACHINE, "user", id="on, with its mode"),
        pytest.param(replace(MACHINE, pcrs={**MACHINE.pcrs, 7: b"\1" * 32}), "not proved", id="nothing is proved"),
    ],
)
def test_secure_boot_is_called_off_where_the_log_says_off(tmp_path: Path, machine: object, word: str) -> None:
    folder = write_folder(machine, tmp_path / "evidence")  # type: ignore[arg-type]  # rounds
    (tmp_path / "golden.yaml").write_bytes(dump_golden(exact_golden(MACHINE)))
    judged = ["appraise", "--evidence", str(folder), "--golden", str(tmp_path / "golden.yaml")]
    lines = CliRunner().invoke(app, judged).stdout.splitlines()
    assert [line.split(maxsplit=2)[2].strip() for line in lines if line.startswith("secure boot")] == [word]


def test_a_log_of_sm3_alone_is_called_so_with_a_remedy(tmp_path: Path) -> None:
    head = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, 0x12, 32, 0)
    (tmp_path / "log").write_bytes(struct.pack("<II20xI", 0, 3, len(head)) + head)
    error = refused("log", "show", str(tmp_path / "log"))
    assert "none of the banks that are read, only sm3_256" in str(error)
    assert "SHA-256 bank" in error.remedy


def test_a_list_of_ima_behind_an_empty_line_is_no_event_log(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"\n10 {'0' * 40} ima-ng sha256:{'a' * 64} /usr/bin/x\n")
    assert "IMA list: line 1" in str(refused("log", "show", str(tmp_path / "list")))


@pytest.mark.parametrize("start", [struct.pack(">IHHI", 1, 3, 1, 12), b"\1\1\0\0\0\x11"])
def test_a_key_of_a_tpm_1_2_is_called_so(start: bytes) -> None:
    with pytest.raises(MalformedInput, match=r"TPM 1\.2") as caught:
        decode_public_key(start + bytes(280))
    assert "TPM 2.0" in caught.value.remedy


@pytest.mark.parametrize(
    "command", [("golden", "lint"), ("log", "show"), ("log", "replay"), ("golden", "runtime", "--ima-log")]
)
def test_a_pipe_is_refused_and_not_read_for_ever(tmp_path: Path, command: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in str(refused(*command, str(tmp_path / "pipe")))
