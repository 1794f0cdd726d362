"""Time and reset: does this round continue the one before, follow a reboot, or say what no honest machine says?

The TPM signs its clock (ms), resetCount, restartCount and safe into every quote (TPMS_CLOCK_INFO, TPM Library
Part 2; Part 1, "Timing Components"); the agent claims the kernel's boot id. What an honest TPM can show:

- resetCount grows by each TPM Reset and restartCount by each TPM Restart or Resume; a TPM Reset zeroes restartCount.
- Clock never runs backwards while the counters stand, and never across an orderly shutdown, which saves it.
- Clock is saved at least once per 2**22 ms (TPMS_CLOCK_INFO; TPM_PT_CLOCK_UPDATE). After a power loss without
  TPM2_Shutdown the TPM starts with the saved value, which is up to that much earlier. It clears safe, and sets it again
  when the clock is next saved. Such a power loss is always a TPM Reset, so safe never falls without one.
- TPM2_Clear zeroes Clock and both counters. It also destroys the owner's keys; no fleet does it to a node in service.

Counters are only compared for equality: for some keys the TPM adds a secret constant to them, so their order means
nothing. A round with an attack finding (:data:`Continuity.BROKEN`) never becomes the baseline.
Otherwise the round after a TPM reset under a running machine would continue it and be trusted. ADR 7 gives the reasons
and the limits.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from nodeseal.appraisal.model import Baseline, Continuity
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.attest import ClockInfo

UPDATE_INTERVAL_MS = 1 << 22
"""The longest that a TPM may run before it saves its clock (TPMS_CLOCK_INFO)."""


class Counters(StrEnum):
    """What changed in the TPM's counters."""

    STAND = "stand"
    RESTARTED = "restarted"
    RESET = "reset"


class Boot(StrEnum):
    """What changed in the claimed boot id."""

    SAME = "same"
    NEW = "new"


class ClockMotion(StrEnum):
    """Where the clock went."""

    FORWARD = "forward"
    POWER_LOSS = "power loss"
    """Back by no more than a power loss explains, or safe has fallen."""
    BACKWARDS = "backwards"


class Timing(NamedTuple):
    """The outcome for one round.

    Attributes:
        continuity: how the round follows the one before.
        findings: what is wrong with that; warnings too.
    """

    continuity: Continuity
    findings: tuple[Finding, ...]


_Outcome = Continuity | tuple[FindingId, ...]
_RESET = (FindingId.CLOCK_RESET,)
_ROLLBACK = (FindingId.CLOCK_ROLLBACK,)

DECISIONS: dict[tuple[Counters, Boot, ClockMotion], _Outcome] = {
    (Counters.STAND, Boot.SAME, ClockMotion.FORWARD): Continuity.CONTINUES,
    (Counters.STAND, Boot.SAME, ClockMotion.POWER_LOSS): _ROLLBACK,
    (Counters.STAND, Boot.SAME, ClockMotion.BACKWARDS): _ROLLBACK,
    # kexec: the TPM runs on, but what holds keys in memory was replaced
    (Counters.STAND, Boot.NEW, ClockMotion.FORWARD): Continuity.REBOOTED,
    (Counters.STAND, Boot.NEW, ClockMotion.POWER_LOSS): _ROLLBACK,
    (Counters.STAND, Boot.NEW, ClockMotion.BACKWARDS): _ROLLBACK,
    # a TPM restart needs an orderly shutdown, which saves the clock and keeps safe
    (Counters.RESTARTED, Boot.SAME, ClockMotion.FORWARD): _RESET,
    (Counters.RESTARTED, Boot.SAME, ClockMotion.POWER_LOSS): _RESET + _ROLLBACK,
    (Counters.RESTARTED, Boot.SAME, ClockMotion.BACKWARDS): _RESET + _ROLLBACK,
    (Counters.RESTARTED, Boot.NEW, ClockMotion.FORWARD): Continuity.REBOOTED,
    (Counters.RESTARTED, Boot.NEW, ClockMotion.POWER_LOSS): _ROLLBACK,
    (Counters.RESTARTED, Boot.NEW, ClockMotion.BACKWARDS): _ROLLBACK,
    (Counters.RESET, Boot.SAME, ClockMotion.FORWARD): _RESET,
    (Counters.RESET, Boot.SAME, ClockMotion.POWER_LOSS): _RESET,
    (Counters.RESET, Boot.SAME, ClockMotion.BACKWARDS): _RESET + _ROLLBACK,
    (Counters.RESET, Boot.NEW, ClockMotion.FORWARD): Continuity.REBOOTED,
    (Counters.RESET, Boot.NEW, ClockMotion.POWER_LOSS): Continuity.REBOOTED,
    (Counters.RESET, Boot.NEW, ClockMotion.BACKWARDS): _ROLLBACK,
}
"""For every combination of changes: how the round follows the one before, or the attacks that it shows."""


def prove(baseline: Baseline | None, seen: ClockInfo, boot_id: str) -> Timing:
    """Prove how one authentic round follows the last believable one.

    Args:
        baseline: what the last believable round proved; None: this is the first round.
        seen: the quote's clock and counters.
        boot_id: the boot id in the claims that the quote covers.
    """
    warnings = () if seen.safe else (_UNSAFE,)
    if baseline is None:
        return Timing(Continuity.FIRST, warnings)
    before = baseline.clock_info
    boot = Boot.SAME if boot_id == baseline.boot_id else Boot.NEW
    outcome = DECISIONS[_counters(before, seen), boot, _clock(before, seen)]
    if isinstance(outcome, Continuity):
        return Timing(outcome, warnings)
    return Timing(Continuity.BROKEN, tuple(_attack(id_, baseline, seen, boot_id) for id_ in outcome) + warnings)


def _counters(before: ClockInfo, seen: ClockInfo) -> Counters:
    if seen.reset_count != before.reset_count:
        return Counters.RESET
    return Counters.STAND if seen.restart_count == before.restart_count else Counters.RESTARTED


def _clock(before: ClockInfo, seen: ClockInfo) -> ClockMotion:
    back_ms = before.clock - seen.clock
    if back_ms > (0 if seen.safe else UPDATE_INTERVAL_MS):
        return ClockMotion.BACKWARDS
    if back_ms > 0 or (before.safe and not seen.safe):
        return ClockMotion.POWER_LOSS
    return ClockMotion.FORWARD


_UNSAFE = Finding(id=FindingId.CLOCK_UNSAFE, expected="safe = YES", seen="safe = NO", where="clock")


def _attack(finding_id: FindingId, baseline: Baseline, seen: ClockInfo, boot_id: str) -> Finding:
    expected = "unchanged counters or a new boot" if finding_id is FindingId.CLOCK_RESET else "a clock that runs on"
    return Finding(
        id=finding_id,
        expected=f"{expected} after {_text(baseline.clock_info)}, boot {baseline.boot_id}",
        seen=f"{_text(seen)}, boot {boot_id}",
        where="clock",
    )


def _text(info: ClockInfo) -> str:
    safe = "YES" if info.safe else "NO"
    return f"reset {info.reset_count}, restart {info.restart_count}, clock {info.clock} ms, safe {safe}"
