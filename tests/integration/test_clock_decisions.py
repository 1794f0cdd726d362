"""The decision table over time and reset, against what a software TPM really reports (t01, t02)."""

from __future__ import annotations

import re
from pathlib import Path

from nodeseal.appraisal.kinds import clock
from nodeseal.appraisal.model import Baseline, Continuity
from nodeseal.findings import FindingId
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.attest import ClockInfo
from support.machines import tool

Decision = tuple[Continuity, set[FindingId]]


def read_clock(machine: Machine, cwd: Path) -> ClockInfo:
    facts = dict(re.findall(r"(\w+): (\w+)", tool(machine, "tpm2_readclock", cwd=cwd)))
    return ClockInfo(
        clock=int(facts["clock"]),
        reset_count=int(facts["reset_count"]),
        restart_count=int(facts["restart_count"]),
        safe=facts["safe"] == "yes",
    )


def run_for_an_hour(machine: Machine, cwd: Path) -> ClockInfo:
    """Let an hour pass by TPM2_ClockSet, which only ever moves the clock forward; return the time then."""
    tool(machine, "tpm2_setclock", str(read_clock(machine, cwd).clock + 3_600_000), cwd=cwd)
    return read_clock(machine, cwd)


def decide(before: ClockInfo, seen: ClockInfo, *, new_boot: bool) -> Decision:
    timing = clock.prove(Baseline(clock_info=before, boot_id="boot-1"), seen, "boot-2" if new_boot else "boot-1")
    return timing.continuity, {finding.id for finding in timing.findings}


def test_a_machine_that_runs_on_continues(machine: Machine, tmp_path: Path) -> None:
    before = read_clock(machine, tmp_path)
    assert decide(before, read_clock(machine, tmp_path), new_boot=False) == (Continuity.CONTINUES, set())


def test_an_orderly_reset_is_a_reboot_and_t01_found_if_the_boot_id_stays(machine: Machine, tmp_path: Path) -> None:
    before = read_clock(machine, tmp_path)
    machine.reset()
    seen = read_clock(machine, tmp_path)
    assert decide(before, seen, new_boot=True) == (Continuity.REBOOTED, set())
    assert decide(before, seen, new_boot=False) == (Continuity.BROKEN, {FindingId.CLOCK_RESET})


def test_a_power_loss_is_a_reboot_with_an_unsafe_clock(machine: Machine, tmp_path: Path) -> None:
    before = read_clock(machine, tmp_path)
    machine.power_cut()
    machine.start()
    seen = read_clock(machine, tmp_path)
    assert decide(before, seen, new_boot=True) == (Continuity.REBOOTED, {FindingId.CLOCK_UNSAFE})
    assert decide(before, seen, new_boot=False) == (
        Continuity.BROKEN,
        {FindingId.CLOCK_RESET, FindingId.CLOCK_UNSAFE},
    )


def test_t02_state_restored_from_a_copy_is_a_rollback(machine: Machine, tmp_path: Path) -> None:
    machine.stop()
    machine.snapshot(tmp_path / "copy")
    machine.start()
    before = run_for_an_hour(machine, tmp_path)
    machine.stop()
    machine.restore(tmp_path / "copy")
    machine.start()
    seen = read_clock(machine, tmp_path)
    assert decide(before, seen, new_boot=False)[1] == {FindingId.CLOCK_ROLLBACK}
    assert decide(before, seen, new_boot=True)[1] == {FindingId.CLOCK_ROLLBACK}


def test_t02_a_cleared_tpm_is_a_rollback(machine: Machine, tmp_path: Path) -> None:
    before = run_for_an_hour(machine, tmp_path)
    tool(machine, "tpm2_clear", cwd=tmp_path)
    continuity, found = decide(before, read_clock(machine, tmp_path), new_boot=True)
    assert continuity is Continuity.BROKEN
    assert FindingId.CLOCK_ROLLBACK in found
