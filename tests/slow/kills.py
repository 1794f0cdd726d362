"""Kills between the steps of acts by the hundred, and a store that is locked for a minute."""

from __future__ import annotations

from typing import Final

from slow.run import faults_of, pytest, say, tests

_KILLS: Final = 300
_LOCKED_SECONDS: Final = 60
_TESTS: Final = ("test_crash_*.py", "test_t05_overwritten.py")


def check() -> list[str]:
    """Return what is lost."""
    say(f"kills: {_KILLS} of a verifier and of an agent, eight times as many of a ledger; a store locked for a minute")
    settings = (f"NODESEAL_CRASH_KILLS={_KILLS}", f"NODESEAL_LOCKED_SECONDS={_LOCKED_SECONDS}")
    return faults_of("env", *settings, *pytest(*tests(*_TESTS)))
