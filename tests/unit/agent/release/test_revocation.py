from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from nodeseal.agent.release.revocation import Revoker
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import Unavailable


class Tpm:
    """Counts the caps it is asked for; with ``fails`` it is not there."""

    def __init__(self, *, fails: bool = False) -> None:
        self.caps: list[int] = []
        self._fails = fails

    async def call(self, operation: Callable[[Any], None]) -> None:
        if self._fails:
            raise Unavailable("no TPM")
        operation(self)

    def extend_cap(self, pcr: int) -> None:
        self.caps.append(pcr)


def revoke(tpm: Tpm, *commands: tuple[str, ...], timeout: float = 5.0) -> None:
    async def scenario() -> None:
        revoker = Revoker(cast("TpmOwner", tpm), 15, commands, timeout)
        revoker.begin("test")
        await revoker.finished()

    asyncio.run(scenario())


def test_the_cap_is_extended_and_every_command_runs(tmp_path: Path) -> None:
    tpm = Tpm()
    revoke(tpm, ("touch", str(tmp_path / "a")), ("touch", str(tmp_path / "b")))
    assert tpm.caps == [15]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    revoke(Tpm(), ("touch", f"{tmp_path}/a; touch {tmp_path}/b"), ("echo", "$(touch", f"{tmp_path}/c)"))
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "c").exists()


def test_a_tpm_that_is_gone_does_not_keep_commands_from_running(tmp_path: Path) -> None:
    revoke(Tpm(fails=True), ("touch", str(tmp_path / "a")))
    assert (tmp_path / "a").exists()


def test_a_command_that_cannot_start_or_fails_does_not_keep_others_from_running(tmp_path: Path) -> None:
    tpm = Tpm()
    revoke(tpm, ("/nonexistent/program",), ("false",), ("touch", str(tmp_path / "a")))
    assert (tmp_path / "a").exists()
    assert tpm.caps == [15]


def test_a_command_that_takes_too_long_is_killed() -> None:
    revoke(Tpm(), ("sleep", "1000000"), timeout=0.1)  # which ends when the command has
