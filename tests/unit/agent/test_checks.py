"""Every check of an agent's setup: files in which all is well, and one fact changed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.agent import main
from nodeseal.agent.checks import checks_of
from nodeseal.agent.config import load_config
from nodeseal.checks.faults import Fault, find_faults
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.errors import MalformedInput

Change = Callable[[Path], object]
NOW = datetime.now(UTC)
CONFIG = """\
verifier: {address: "localhost:1", enrol_address: "localhost:1", ca_file: ca.pem}
tcti: "swtpm:path=nothing"
state_directory: state
socket: s
boot_id_file: boot_id
boot_log: boot-log
ima_log: ima-log
on_revocation: [[/bin/true]]
callers: []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files in which all is well."""
    (tmp_path / "agent.yaml").write_text(CONFIG)
    (tmp_path / "ca.pem").write_bytes(CertificateAuthority.create("test", NOW, 400).certificate_pem)
    (tmp_path / "boot_id").write_text("0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e\n")
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path


def faults_of(folder: Path, now: datetime = NOW) -> tuple[Fault, ...]:
    return find_faults(checks_of(load_config(folder / "agent.yaml"), folder / "agent.yaml", now))


def content(name: str, raw: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(raw)


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def a_pipe(folder: Path) -> None:
    (folder / "ca.pem").unlink()
    os.mkfifo(folder / "ca.pem")


def setting(old: str, new: str) -> Change:
    return content("agent.yaml", CONFIG.replace(old, new).encode())


def a_password(size: int) -> Change:
    """Name a file with a password of so many bytes, and a line end."""

    def change(folder: Path) -> None:
        (folder / "password").write_bytes(b"x" * size + b"\n")
        (folder / "password").chmod(0o600)
        (folder / "agent.yaml").write_text(f"{CONFIG}endorsement_auth_file: password\n")

    return change


FATAL: dict[str, tuple[Change, str, str]] = {
    "a missing authority": (without("ca.pem"), "verifier.ca_file", "No such file"),
    "an authority that is garbage": (content("ca.pem", b"x"), "verifier.ca_file", "not certificates in PEM"),
    "a pipe for the authority": (a_pipe, "verifier.ca_file", "not a regular file"),
    "a folder for the authority": (setting("ca.pem", "state"), "verifier.ca_file", "not a regular file"),
    "an authority that every user may change": (
        lambda folder: (folder / "ca.pem").chmod(0o666),
        "verifier.ca_file",
        "every user may change it",
    ),
    "a missing boot id": (without("boot_id"), "boot_id_file", "No such file"),
    "a boot id that is none": (content("boot_id", b"1\n"), "boot_id_file", "not the id of a boot"),
    "a state that others read": (lambda folder: (folder / "state").chmod(0o755), "state_directory", "open to other"),
    "an identity that is garbage": (content("state/identity.json", b"x"), "state_directory", "identity.json"),
    "a seed that was cut": (content("state/ak-unique", b"x"), "state_directory", "1 bytes, not 64"),
    "a password that no TPM has": (a_password(65), "endorsement_auth_file", "65 bytes, and no password of a TPM"),
    "a socket in no folder": (setting("socket: s", "socket: absent/s"), "socket", "No such file"),
    "a file for a socket": (content("s", b""), "socket", "something else than a socket"),
}


def test_files_in_which_all_is_well_have_no_fault(folder: Path) -> None:
    assert faults_of(folder) == ()


def test_the_longest_password_of_a_tpm_is_no_fault(folder: Path) -> None:
    a_password(64)(folder)
    assert faults_of(folder) == ()


def test_enrol_refuses_a_password_that_no_tpm_has(folder: Path) -> None:
    a_password(65)(folder)
    result = CliRunner().invoke(main.app, ["enrol", "--config", str(folder / "agent.yaml")])
    assert isinstance(result.exception, MalformedInput)
    assert "65 bytes" in str(result.exception)


@pytest.mark.parametrize("case", FATAL)
def test_what_does_not_heal_is_named_with_its_remedy_and_ends_the_agent_with_78(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, field, said = FATAL[case]
    change(folder)
    (fault,) = faults_of(folder)
    assert (fault.field, fault.fatal) == (field, True)
    assert said in fault.what
    assert fault.remedy
    monkeypatch.setattr("nodeseal.logs.configure_logs", lambda *_, **__: None)
    monkeypatch.setattr(main, "_LOOK_AGAIN_SECONDS", 0.0)
    result = CliRunner().invoke(main.app, ["run", "--config", str(folder / "agent.yaml")])
    assert result.exit_code == 78
    assert said in result.stderr
    assert fault.remedy in result.stderr


def test_a_file_that_is_just_being_replaced_does_not_end_the_agent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (folder / "ca.pem").read_bytes()
    (folder / "ca.pem").write_bytes(b"")
    monkeypatch.setattr("nodeseal.logs.configure_logs", lambda *_, **__: None)
    monkeypatch.setattr("time.sleep", lambda _: (folder / "ca.pem").write_bytes(whole))

    async def ran(_: object) -> None:
        pass

    monkeypatch.setattr(main, "_run", ran)
    result = CliRunner().invoke(main.app, ["run", "--config", str(folder / "agent.yaml")])
    assert (result.exit_code, result.stderr) == (0, "")


WARNINGS: dict[str, tuple[Change, str, str]] = {
    "a stop action that is missing": (setting("/bin/true", "/bin/nowhere"), "on_revocation", "no such program"),
    "a TPM that is missing": (setting("swtpm:path=nothing", "device:/dev/nowhere"), "tcti", "no such device"),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_what_may_heal_is_a_warning(folder: Path, case: str) -> None:
    change, field, said = WARNINGS[case]
    change(folder)
    (fault,) = faults_of(folder)
    assert (fault.field, fault.fatal) == (field, False)
    assert said in fault.what


@pytest.mark.parametrize("later", [timedelta(days=500), timedelta(days=-1), timedelta(days=380)])
def test_an_authority_out_of_its_time_is_a_warning_because_the_clock_may_be_wrong(
    folder: Path, later: timedelta
) -> None:
    (fault,) = faults_of(folder, NOW + later)
    assert (fault.field, fault.fatal) == ("verifier.ca_file", False)


def test_settings_that_do_not_parse_end_the_agent_with_78(folder: Path) -> None:
    (folder / "agent.yaml").write_text(f"unknown: 1\n{CONFIG}")
    result = CliRunner().invoke(main.app, ["run", "--config", str(folder / "agent.yaml")])
    assert result.exit_code == 78
    assert "unknown" in result.stderr


def test_check_shows_all_faults_at_once_and_that_nobody_answers(folder: Path) -> None:
    for case in ("a missing boot id", "a seed that was cut"):
        FATAL[case][0](folder)
    result = CliRunner().invoke(main.app, ["check", "--config", str(folder / "agent.yaml"), "--json"])
    assert result.exit_code == 1
    found = {fault["field"]: fault["what"] for fault in json.loads(result.stdout)["faults"]}
    assert found.keys() == {"boot_id_file", "state_directory", "verifier.address", "verifier.enrol_address"}
    assert "does not answer: Connection refused" in found["verifier.address"]


def test_check_alone_changes_nothing(folder: Path) -> None:
    (folder / "state").rmdir()
    before = sorted(path.name for path in folder.iterdir())
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        CliRunner().invoke(main.app, ["check", "--config", str(folder / "agent.yaml")])
    assert sorted(path.name for path in folder.iterdir()) == before
