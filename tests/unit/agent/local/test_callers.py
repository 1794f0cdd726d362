from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.agent.local.callers import CallerRule, LocalCaller, asks_executable, check_caller, pinned_peer
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
    with ours, theirs, pinned_peer(ours) as caller:
        assert (caller.pid, caller.uid, caller.gid) == (os.getpid(), os.geteuid(), os.getegid())
        assert caller.executable_sha256 is None
    groups = Path("/proc/self/cgroup").read_text()
    assert all(f"/{unit}" in groups for unit in caller.units)


@pytest.mark.parametrize(
    ("rules", "asks"),
    [
        pytest.param((), False, id="there is none"),
        pytest.param((FULL,), True, id="it fits in all else"),
        pytest.param((replace(FULL, unit="cron.service"),), False, id="it names another unit"),
        pytest.param((replace(FULL, uid=1),), False, id="it names another user"),
        pytest.param((replace(FULL, gid=1),), False, id="it names another group"),
        pytest.param((FULL, CallerRule(uid=1000)), False, id="another one fits already"),
    ],
)
def test_k11_a_rule_asks_for_the_executable_only_when(rules: tuple[CallerRule, ...], asks: bool) -> None:  # noqa: FBT001 - a case
    assert asks_executable(replace(CALLER, executable_sha256=None), rules) is asks


def test_a_process_that_is_gone_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r})"
        subprocess.run([sys.executable, "-c", code], check=True)
        connection, _ = server.accept()
        with connection, pytest.raises(PolicyRefused, match=r"caller\.refused"), pinned_peer(connection):
            pytest.fail("nothing can be said of it")


def test_a_process_that_ends_while_it_is_looked_at_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
            connection, _ = server.accept()
            with connection, pytest.raises(PolicyRefused, match="ended"), pinned_peer(connection):
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
