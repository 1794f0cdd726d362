from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.release.leases import ForcedEnd
from nodeseal.agent.release.revocation import Revoker
from nodeseal.causes import EndCause
from support.leases import ONE

END = ForcedEnd(cause=EndCause.DISTRUST, reason="the verdict is untrusted", lease_ids=(ONE,), ends_epoch=True)


class Epoch:
    """Counts the epochs that it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def begin(self) -> None:
        self.asked += 1


def revoke(*commands: tuple[str, ...], end: ForcedEnd = END, timeout: float = 5.0) -> int:
    """Let leases end; return how many epochs began."""
    epoch = Epoch()

    async def scenario() -> None:
        revoker = Revoker(cast("LeaseEpoch", epoch), commands, timeout)
        revoker.begin(end)
        await revoker.finished()

    asyncio.run(scenario())
    return epoch.asked


@contextmanager
def broken_output() -> Iterator[None]:
    """Let standard output and error be pipes whose reader has gone."""
    kept = [os.dup(number) for number in (1, 2)]
    reader, writer = os.pipe()
    os.close(reader)
    for number in (1, 2):
        os.dup2(writer, number)
    os.close(writer)
    try:
        yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def test_a_new_epoch_begins_and_every_command_runs(tmp_path: Path) -> None:
    assert revoke(("touch", str(tmp_path / "a")), ("touch", str(tmp_path / "b"))) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_while_a_lease_is_left_commands_run_in_the_same_epoch(tmp_path: Path) -> None:
    assert revoke(("touch", str(tmp_path / "a")), end=replace(END, ends_epoch=False)) == 0
    assert (tmp_path / "a").exists()


def test_without_a_lease_that_ended_no_command_runs(tmp_path: Path) -> None:
    assert revoke(("touch", str(tmp_path / "a")), end=replace(END, lease_ids=())) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("cause", EndCause)
def test_a_command_hears_cause_and_reason(tmp_path: Path, cause: EndCause) -> None:
    said = tmp_path / "said"
    script = f'printf "%s: %s" "$NODESEAL_CAUSE" "$NODESEAL_REASON" > {said}'
    revoke(("/bin/sh", "-c", script), end=replace(END, cause=cause))
    assert said.read_text() == f"{cause.value}: the verdict is untrusted"


def test_a_reason_of_others_is_inert_and_cut(tmp_path: Path) -> None:
    said = tmp_path / "said"
    reason = "stolen\0\n\x1b[2J" + "x" * 5000
    revoke(("/bin/sh", "-c", f'printf "%s" "$NODESEAL_REASON" > {said}'), end=replace(END, reason=reason))
    assert said.read_text() == r"stolen\x00\n\x1b[2J".ljust(1000, "x")


def test_a_command_may_write_although_nobody_reads_what_the_agent_writes(tmp_path: Path) -> None:
    script = f"echo noise; echo noise >&2; touch {tmp_path / 'a'}"
    with broken_output():
        revoke(("/bin/sh", "-c", script))
    assert (tmp_path / "a").exists()


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    revoke(("touch", f"{tmp_path}/a; touch {tmp_path}/b"), ("echo", "$(touch", f"{tmp_path}/c)"))
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "c").exists()


def test_a_command_that_cannot_start_or_fails_does_not_keep_others_from_running(tmp_path: Path) -> None:
    assert revoke(("/nonexistent/program",), ("false",), ("touch", str(tmp_path / "a"))) == 1
    assert (tmp_path / "a").exists()


def test_a_command_that_takes_too_long_is_killed() -> None:
    revoke(("sleep", "1000000"), timeout=0.1)  # which ends when the command has


def test_the_log_says_which_program_did_not_start_failed_or_was_killed() -> None:
    with capture_logs() as lines:
        revoke(("/nonexistent/program", "a"), ("false", "b"), ("sleep", "1000000"), timeout=0.5)
    said = {line["event"]: line["program"] for line in lines}
    assert said == {
        "stop action not started": "/nonexistent/program",
        "stop action ended": "false",
        "stop action killed": "sleep",
    }
