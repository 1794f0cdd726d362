from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.agent import main
from nodeseal.agent.config import load_config
from nodeseal.agent.service import Agent
from nodeseal.errors import Unavailable
from nodeseal.wire.varlink import Reply, encode_reply

CONFIG = """\
verifier: {address: "localhost:1", enrol_address: "localhost:2", ca_file: ca.pem}
tcti: "device:/nonexistent"
state_directory: state
socket: s
callers: []
"""


@contextmanager
def answering(reply: Reply) -> Iterator[Path]:
    """An agent that gives one answer; its configuration file."""
    with tempfile.TemporaryDirectory(prefix="cli") as folder, socket.socket(socket.AF_UNIX) as server:
        Path(folder, "agent.yaml").write_text(CONFIG)
        server.bind(f"{folder}/s")
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(encode_reply(reply))

        thread = threading.Thread(target=serve)
        thread.start()
        yield Path(folder, "agent.yaml")
        thread.join()


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        pytest.param({"state": "trusted", "trusted_until": "2030-01-01T00:00:00Z"}, 0, id="trusted"),
        pytest.param({"state": "untrusted"}, 1, id="untrusted"),
        pytest.param({"state": "retired", "trusted_until": "2030-01-01T00:00:00Z"}, 1, id="retired before its time"),
        pytest.param({"state": "disconnected", "trusted_until": "2030-01-01T00:00:00Z"}, 1, id="disconnected"),
    ],
)
def test_status_prints_the_answer_and_its_exit_status_says_whether_it_is_trusted(
    parameters: dict[str, object], code: int
) -> None:
    with answering(Reply(parameters=parameters)) as config:
        result = CliRunner().invoke(main.app, ["status", "--config", str(config), "--json"])
    assert (json.loads(result.stdout), result.exit_code) == (parameters, code)


def test_status_for_people_names_the_state_and_every_finding() -> None:
    finding = {"id": "pcr.mismatch", "where": "sha256 PCR 4", "expected": "aa", "seen": "bb", "remedy": "go"}
    explained = {**finding, "event": "event 7: EV_EFI_BOOT_SERVICES_APPLICATION"}
    parameters = {"state": "pending", "leases": [], "findings": [{**finding, "event": ""}, explained]}
    with answering(Reply(parameters=parameters)) as config:
        result = CliRunner().invoke(main.app, ["status", "--config", str(config)])
    assert "state          pending" in result.stdout
    line = "finding        pcr.mismatch (sha256 PCR 4): expected aa, seen bb"
    do = "do             go"
    assert f"{line}\n{do}\n{line}; event 7: EV_EFI_BOOT_SERVICES_APPLICATION\n{do}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        pytest.param(["status", "--config", "/nonexistent.yaml"], "/nonexistent.yaml", 1, id="no configuration"),
        pytest.param(["run", "--config", "/nonexistent.yaml"], "/nonexistent.yaml", 78, id="none to run by"),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_the_exit_status(
    arguments: list[str],
    message: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["nodeseal-agent", *arguments])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == code
    shown = capsys.readouterr().err
    assert shown.startswith("nodeseal-agent: ")
    assert message in shown


def test_status_for_people_says_since_when_what_the_verifier_said_and_what_to_do() -> None:
    parameters = {"state": "retired", "since": "2026-01-01", "heard": "2026-01-02", "problem": "node.retired"}
    with answering(Reply(parameters={**parameters, "findings": [], "leases": []})) as config:
        result = CliRunner().invoke(main.app, ["status", "--config", str(config)])
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert {name: lines[name] for name in parameters} == parameters
    assert "stop the agent" in lines["do"]


def test_status_without_an_agent_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.yaml").write_text(CONFIG)
    monkeypatch.setattr("sys.argv", ["nodeseal-agent", "status", "--config", str(tmp_path / "agent.yaml")])
    with pytest.raises(SystemExit):
        main.main()
    assert "is nodeseal-agent running?" in capsys.readouterr().err


def test_every_command_has_an_example() -> None:
    for command in ("enrol", "run", "status"):
        assert "Example: nodeseal-agent" in CliRunner().invoke(main.app, [command, "--help"]).stdout


def test_an_agent_that_cannot_make_its_socket_ends_with_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(CONFIG.replace("socket: s", "socket: absent/s"))
    with pytest.raises(Unavailable, match="absent/s: No such file or directory") as caught:
        asyncio.run(Agent(load_config(config)).run(asyncio.Event()))
    assert "agent.yaml" in caught.value.remedy


GRPC_ERROR = """
import asyncio
{first}
from grpc import aio

async def fail():
    try:
        aio.server().add_insecure_port("no port")
    except RuntimeError:
        pass

asyncio.run(fail())
"""


@pytest.mark.parametrize(
    ("first", "said"), [("", True), ("import nodeseal.agent.service", False)], ids=["without the agent", "in the agent"]
)
def test_grpc_writes_no_lines_of_its_own(first: str, *, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    program = [sys.executable, "-c", GRPC_ERROR.format(first=first)]
    done = subprocess.run(program, check=True, capture_output=True, timeout=60)
    assert (b"Failed to add port" in done.stderr) is said
