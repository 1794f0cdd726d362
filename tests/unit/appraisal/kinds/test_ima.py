"""Machines whose systemd measures its separator: the boot log ends before it, and IMA began before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.appraisal.model import Policy
from nodeseal.appraisal.offline import observe
from support.evidence_folders import folder_of
from support.rounds import IMA_PCR, Round, boot_aggregate, exact_golden, measured, ran, runtime_rules

PCRS = (*range(8), 9, 12, 13, 14)


def separated(machine: Round, word: bytes = b"os-separator") -> Round:
    """Return the machine after its initial RAM disk, judged by its own values and by what it runs."""
    for pcr in PCRS:
        machine = machine.extended(pcr, word)
    golden = replace(exact_golden(machine), runtime=runtime_rules())
    return replace(machine, policy=Policy(goldens=(golden,), trust_seconds=60))


def codes(machine: Round) -> set[str]:
    return {finding.id.code for finding in machine.appraise().findings}


def test_such_a_machine_is_trusted_round_by_round() -> None:
    machine = separated(measured())
    appraisal = machine.appraise()
    assert appraisal.trusted, appraisal.findings
    again = machine.then(appraisal).appraise()
    assert again.trusted, again.findings


def test_what_runs_later_on_such_a_machine_is_judged() -> None:
    machine = separated(measured())
    appraisal = machine.appraise()
    more = machine.running(ran("/usr/bin/agent", b"agent 1"))
    assert more.then(appraisal).appraise().trusted
    stranger = machine.running(ran("/opt/miner", b"x"))
    assert not stranger.then(appraisal).appraise().trusted


def test_kept_evidence_of_such_a_machine_says_nothing_against_it() -> None:
    assert observe(folder_of(separated(measured()))).findings == ()


def test_another_word_is_nothing_that_firmware_or_systemd_measures() -> None:
    assert "uefi.replay" in codes(separated(measured(), b"os-separation"))


def test_without_the_boot_log_nobody_knows_what_ima_began_with() -> None:
    assert codes(replace(separated(measured()), boot_log=None)) == {"ima.boot-aggregate"}


@pytest.mark.parametrize("pcr", [0, 7, 9])
def test_the_log_must_begin_with_the_values_before_the_separator(pcr: int) -> None:
    machine = measured()
    booted = replace(machine, pcrs={**machine.pcrs, IMA_PCR: bytes(32)}, ima_log=None)
    strange = booted.running(boot_aggregate({**booted.pcrs, pcr: b"x" * 32}))
    assert codes(separated(strange)) == {"ima.boot-aggregate"}
