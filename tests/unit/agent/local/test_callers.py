from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.agent.local import callers
from nodeseal.agent.local.callers import CallerRule, LocalCaller, check_caller, identify
from nodeseal.errors import PolicyRefused
from nodeseal.findings import FindingId

EXE = hashlib.sha256(b"vllm").digest()
CALLER = LocalCaller(pid=7, uid=1000, gid=100, executable_sha256=EXE, units=("system.slice", "vllm.service"))
FULL = CallerRule(uid=1000, gid=100, executable_sha256=EXE, unit="vllm.service")


def test_a_caller_that_a_whole_rule_describes_passes() -> None:
    check_caller(CALLER, (CallerRule(uid=1), FULL))


def test_a_rule_of_a_user_alone_lets_its_processes_pass() -> None:
    check_caller(CALLER, (CallerRule(uid=1000),))


@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(replace(CALLER, uid=1001), id="another user"),
        pytest.param(replace(CALLER, gid=101), id="another group"),
        pytest.param(replace(CALLER, executable_sha256=hashlib.sha256(b"x").digest()), id="another executable"),
        pytest.param(replace(CALLER, executable_sha256=None), id="an executable that cannot be read"),
        pytest.param(replace(CALLER, units=("system.slice", "cron.service")), id="another unit"),
        pytest.param(replace(CALLER, units=("user-vllm.service",)), id="a unit whose name only ends alike"),
        pytest.param(replace(CALLER, units=()), id="no unit"),
    ],
)
def test_k07_one_wrong_fact_is_refused_with_a_finding(caller: LocalCaller) -> None:
    with pytest.raises(PolicyRefused) as caught:
        check_caller(caller, (FULL,))
    assert [finding.id for finding in caught.value.findings] == [FindingId.CALLER_REFUSED]
    assert f"uid {caller.uid}" in caught.value.findings[0].seen


def test_no_rules_let_nobody_pass() -> None:
    with pytest.raises(PolicyRefused):
        check_caller(CALLER, ())


def test_facts_of_two_rules_do_not_add_up() -> None:
    rules = (replace(FULL, uid=1), CallerRule(uid=1000, unit="other.service"))
    with pytest.raises(PolicyRefused):
        check_caller(CALLER, rules)


def test_the_kernel_says_who_connected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        caller = identify(ours)
    assert (caller.pid, caller.uid, caller.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert caller.executable_sha256 == hashlib.sha256(Path("/proc/self/exe").read_bytes()).digest()
    groups = Path("/proc/self/cgroup").read_text()
    assert all(f"/{unit}" in groups for unit in caller.units)


def test_a_process_that_is_gone_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r})"
        subprocess.run([sys.executable, "-c", code], check=True)
        connection, _ = server.accept()
        with connection, pytest.raises(PolicyRefused, match=r"caller\.refused"):
            identify(connection)


def test_a_process_that_ends_while_it_is_looked_at_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
            connection, _ = server.accept()

            def units(_pid: int) -> tuple[str, ...]:
                process.kill()
                process.wait()
                return ()

            monkeypatch.setattr(callers, "_units", units)
            with connection, pytest.raises(PolicyRefused, match="ended"):
                identify(connection)


def test_k07_the_executable_of_a_stranger_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_executable", lambda _: pytest.fail("was hashed"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        caller = identify(ours, stranger=True)
    assert (caller.pid, caller.executable_sha256) == (os.getpid(), None)


def test_an_executable_too_large_to_hash_counts_as_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_MAX_EXECUTABLE", 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert identify(ours).executable_sha256 is None
