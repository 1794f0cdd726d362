"""Attacks on time and resets by nodes that are judged by their logs: rows t01 to t03."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.attest import ClockInfo
from nodeseal.uefi.event_log import decode_event_log
from nodeseal.v1.attestation_pb2 import NODE_STATE_QUARANTINED, NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED
from support.attackers import seen_by
from support.machine_tpm import ClockworkTpm, MachineTpm, tpm_of
from support.machines import a_machine, judged_pcrs
from support.runtime import content, ran
from support.suspects import GOOD_LOG, Court, Trial, a_court, a_trial, ids, places, rules_golden, told, truth

LOG: Final = decode_event_log(GOOD_LOG)
AGENT, LIBC = "/usr/bin/agent", "/usr/lib/libc.so"
MINER: Final = ran("/usr/bin/miner")
HISTORY: Final = (ran(AGENT), ran(LIBC))
HOUR_MS: Final = 3_600_000
BEFORE: Final = ClockInfo(clock=10 * HOUR_MS, reset_count=7, restart_count=3, safe=True)


def logged_golden() -> Golden:
    """Return the golden that judges by logs alone: what booted, and what ran."""
    files = {path: (FileDigest(digest=content("good")),) for path in (AGENT, LIBC)}
    booted = rules_golden(LOG, "logged")
    return Golden(
        name="logged", pcrs={}, boot=booted.boot, runtime=RuntimeRules(files=files), nodes={"judged": "logged"}
    )


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    with a_court(tmp_path_factory.mktemp("t"), logged_golden()) as made:
        yield made


@dataclass(frozen=True, slots=True)
class World:
    """A machine with a real TPM, on trial."""

    machine: Machine
    trial: Trial

    def replay(self, entries: bytes) -> None:
        """Reset the TPM alone, extend it by the boot log and by these entries, and keep the boot id."""
        boot_id, leases = self.trial.node.boot_id, self.trial.node.leases
        self.trial.node.reboot_by(GOOD_LOG, ima_log=entries)
        self.trial.node.boot_id, self.trial.node.leases = boot_id, leases


@pytest.fixture
def machine(court: Court) -> Iterator[Machine]:
    with a_machine(court.verifier.vendor) as made:
        yield made


def test_t01_a_reset_with_old_extends_and_old_logs_replayed_and_no_reboot_is_found(
    court: Court, machine: Machine
) -> None:
    async def case(tpm: MachineTpm) -> None:
        async with a_trial(court, "logged", tpm=tpm, measured=HISTORY) as trial:
            world, before, log = World(machine, trial), judged_pcrs(machine), trial.node.ima_bytes
            world.replay(log)
            assert judged_pcrs(machine) == before  # and the same logs: nothing but the TPM's counters tells
            found = await trial.refused(truth)
            assert places(found) == [("clock.reset-without-reboot", "clock")]
            assert list((await asyncio.wait_for(trial.stream.revocation(), 5)).lease_ids) == [trial.lease]
            for tell in (truth, told, lambda node, challenge: told(node, challenge, boot_log=GOOD_LOG, ima_log=log)):
                assert "clock.reset-without-reboot" in ids(await trial.refused(tell))
            trial.node.reboot_by(GOOD_LOG)
            await trial.believed()

    with tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


def test_t01_a_reset_that_leaves_out_what_was_found_is_found(court: Court, machine: Machine) -> None:
    """A file that ran cannot be made not to have run: neither by the log alone, nor by a reset of the TPM."""

    async def case(tpm: MachineTpm) -> None:
        async with a_trial(court, "logged", tpm=tpm, measured=HISTORY) as trial:
            clean = trial.node.ima_bytes
            trial.node.measure(MINER)
            assert places(await trial.refused(truth)) == [("ima.unknown-file", "/usr/bin/miner")]
            found = await trial.refused(lambda node, challenge: told(node, challenge, ima_log=clean))
            assert ids(found) == {"ima.unknown-file", "ima.replay"}
            World(machine, trial).replay(clean)
            found = await trial.refused(lambda node, challenge: told(node, challenge, boot_log=GOOD_LOG, ima_log=clean))
            assert "clock.reset-without-reboot" in ids(found)
            trial.node.reboot_by(GOOD_LOG)
            await trial.believed()

    with tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


@pytest.mark.parametrize("reboot", [False, True], ids=["no reboot claimed", "a reboot claimed"])
def test_t02_a_tpm_and_a_log_put_back_to_an_earlier_state_are_quarantined(
    court: Court, machine: Machine, tmp_path: Path, *, reboot: bool
) -> None:
    """The attacker copied the TPM's state before the bad file ran, and shows the log of back then."""

    async def case(tpm: MachineTpm) -> None:
        tpm.pass_time(HOUR_MS)
        async with a_trial(court, "logged", tpm=tpm, measured=HISTORY) as trial:
            clean = trial.node.ima_bytes
            boot_id = trial.node.boot_id
            trial.node.measure(MINER)
            tpm.close()
            machine.stop()
            machine.restore(tmp_path / "copy")
            machine.start()
            tpm.connect()
            World(machine, trial).replay(clean)
            trial.node.boot_id = "3f0c7c9e-0000-4000-8000-000000000002" if reboot else boot_id
            verdict = await trial.answer(
                lambda node, challenge: told(node, challenge, boot_log=GOOD_LOG, ima_log=clean)
            )
            assert (verdict.state, verdict.trusted_for_ms) == (NODE_STATE_QUARANTINED, 0)
            assert "clock.rollback" in ids(verdict.findings)
            assert list((await seen_by(trial.admin, trial.node)).leases) == []
            assert court.verifier.actions(f"lease/{trial.lease}") == ["lease.issued", "lease.ended"]
            assert (await trial.answer(truth)).state == NODE_STATE_QUARANTINED

    machine.boot(GOOD_LOG)
    machine.stop()
    machine.snapshot(tmp_path / "copy")
    machine.start()
    with tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


def test_t02_a_log_that_goes_backwards_alone_is_refused(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "logged", measured=HISTORY) as trial:
            earlier = len(trial.node.ima_bytes)
            trial.node.measure(ran(AGENT))
            await trial.believed()
            found = await trial.refused(
                lambda node, challenge: told(node, challenge, ima_log=node.ima_bytes[earlier:], offset=earlier)
            )
            assert places(found) == [("ima.replay", "IMA log")]

    asyncio.run(case())


# t03: what a round may leave out of its logs, for every change of clock and counters

COUNTERS: Final[dict[str, dict[str, int]]] = {
    "counters stand": {},
    "a restart": {"restart_count": 4},
    "a reset": {"reset_count": 8, "restart_count": 0},
}
CLOCKS: Final[dict[str, dict[str, int]]] = {
    "runs on": {"clock": BEFORE.clock + 1000},
    "runs back": {"clock": BEFORE.clock - 1},
}


def findings_without_logs(counters: str, clock: str, *, new_boot: bool) -> tuple[int, set[str]]:
    """Return what comes of a round that leaves both logs out, as if they were known."""
    missing = {"uefi.log-missing", "ima.log-missing"} if new_boot else set()
    if clock == "runs back":
        reset = set() if new_boot or counters == "counters stand" else {"clock.reset-without-reboot"}
        return NODE_STATE_QUARANTINED, {"clock.rollback"} | reset | missing
    if new_boot:
        return NODE_STATE_UNTRUSTED, missing
    if counters == "counters stand":
        return NODE_STATE_TRUSTED, set()
    return NODE_STATE_UNTRUSTED, {"clock.reset-without-reboot"}


@pytest.mark.parametrize("new_boot", [False, True], ids=["same boot", "new boot"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("counters", COUNTERS)
def test_t03_logs_are_known_only_while_the_boot_goes_on(
    court: Court, counters: str, clock: str, *, new_boot: bool
) -> None:
    """The same PCR values, and logs that the verifier knew: of another boot it knows nothing."""

    async def case() -> None:
        tpm = ClockworkTpm(court.verifier.vendor)
        tpm.info = BEFORE
        async with a_trial(court, "logged", tpm=tpm, measured=HISTORY) as trial:
            tpm.info = BEFORE._replace(**COUNTERS[counters], **CLOCKS[clock])  # type: ignore[arg-type]  # its fields
            if new_boot:
                trial.node.boot_id = "3f0c7c9e-0000-4000-8000-000000000002"
            state, found = findings_without_logs(counters, clock, new_boot=new_boot)
            verdict = await trial.answer(told)
            assert (verdict.state, ids(verdict.findings)) == (state, found)
            goes_on = state == NODE_STATE_TRUSTED
            assert list((await seen_by(trial.admin, trial.node)).leases) == [trial.lease] * goes_on
            challenge = await trial.stream.challenge()
            for message in trial.node.answer(challenge):
                await trial.stream.send(message)
            rebooted = new_boot and clock == "runs on"
            whole = await trial.stream.verdict()
            if rebooted:
                assert (whole.state, list(whole.findings)) == (NODE_STATE_TRUSTED, [])

    asyncio.run(case())
