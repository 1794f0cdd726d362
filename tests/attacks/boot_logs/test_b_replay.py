"""Attacks by boot logs that do not belong to the quoted PCRs: rows b01, b07 and b09."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.uefi.event_log import Event, EventLog, decode_event_log
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import inserted, measured, place_of, replaced, values_of, without
from support.machine_tpm import MachineTpm, tpm_of
from support.machines import a_machine
from support.suspects import GOOD, GOOD_LOG, LOG, SHA256, Court, a_trial, ids, places, telling, told

FIRMWARE: Final = range(8)


# b01: one event of the log is not what was extended


def swapped(log: EventLog, one: int, other: int) -> EventLog:
    return replaced(replaced(log, one, **_fields(log.events[other])), other, **_fields(log.events[one]))


def _fields(event: Event) -> dict[str, object]:
    return {"pcr": event.pcr, "claimed_type": event.claimed_type, "digests": event.digests, "data": event.data}


def flipped(log: EventLog, index: int) -> EventLog:
    digest = log.events[index].digests[SHA256]
    return replaced(log, index, digests={SHA256: bytes([digest[0] ^ 1]) + digest[1:]})


def forged(pcr: int) -> Event:
    return measured(pcr, EventType.EFI_ACTION, b"forged")


def firsts(change: Callable[[int], EventLog], what: str) -> dict[str, tuple[EventLog, list[int]]]:
    """Make the same change to the first event of every PCR that firmware extends."""
    return {f"the first event of PCR {pcr} is {what}": (change(place_of(LOG, pcr)), [pcr]) for pcr in FIRMWARE}


UNLIKE: Final[dict[str, tuple[EventLog, list[int]]]] = {
    **firsts(lambda at: without(LOG, at), "dropped"),
    **firsts(lambda at: inserted(LOG, at, LOG.events[at]), "duplicated"),
    **firsts(lambda at: flipped(LOG, at), "altered by one bit"),
    **firsts(lambda at: inserted(LOG, at, forged(LOG.events[at].pcr)), "preceded by another"),
    **firsts(lambda at: replaced(LOG, at, claimed_type=EventType.NO_ACTION), "relabelled as one that extends nothing"),
    "two boot images are swapped": (
        swapped(LOG, place_of(LOG, 4, b"s\0h\0i\0m\0"), place_of(LOG, 4, b"g\0r\0u\0b\0")),
        [4],
    ),
    "SecureBoot comes after PK": (swapped(LOG, place_of(LOG, 7, b"S\0e\0c\0"), place_of(LOG, 7, b"P\0K\0")), [7]),
    "a boot image is said to be a driver": (replaced(LOG, place_of(LOG, 4, b"s\0h\0i\0m\0"), pcr=2), [2, 4]),
    "all events of PCR 4 are gone": (
        replace(LOG, events=tuple(event for event in LOG.events if event.pcr != 4)),
        [4],
    ),
    "there are no events at all": (replace(LOG, events=()), list(FIRMWARE)),
}


@pytest.mark.parametrize("how", UNLIKE)
def test_b01_a_log_that_is_not_what_was_extended_is_refused_for_that_pcr(court: Court, how: str) -> None:
    """The quoted values stay good all the while, and a golden of values alone is active: the lie itself is refused."""
    log, pcrs = UNLIKE[how]

    async def case() -> None:
        async with a_trial(court, "exact") as trial:
            found = await trial.refused(telling(log))
            assert places(found) == [("uefi.replay", f"sha256 PCR {pcr}") for pcr in pcrs]
            trial.node.leases = ()
            await trial.believed()  # the true log, of the same boot

    asyncio.run(case())


GRUB_PCRS: Final = {8: "uefi.command-line", 9: "uefi.file"}


@pytest.mark.parametrize("pcr", GRUB_PCRS)
def test_b01_what_the_log_says_of_an_operating_systems_pcr_satisfies_no_rule_unless_it_replays(
    court: Court, pcr: int
) -> None:
    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            found = await trial.refused(telling(without(LOG, place_of(LOG, pcr))))
            assert GRUB_PCRS[pcr] in ids(found)
            assert all(f"PCR {pcr} not proved" in finding.seen for finding in found), found

    asyncio.run(case())


def test_b01_a_pcr_that_does_not_replay_satisfies_no_rule(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            found = await trial.refused(telling(without(LOG, place_of(LOG, 7, b"S\0b\0a\0t\0"))))
            assert ids(found) == {"uefi.replay", "uefi.secure-boot-off", "uefi.signer", "uefi.dbx"}

    asyncio.run(case())


def test_b01_a_machine_with_a_real_tpm_is_refused_for_an_event_that_it_leaves_out(court: Court) -> None:
    async def case(tpm: MachineTpm) -> None:
        async with a_trial(court, "rules", tpm=tpm) as trial:
            found = await trial.refused(telling(without(LOG, place_of(LOG, 4, b"g\0r\0u\0b\0"))))
            assert ("uefi.replay", "sha256 PCR 4") in places(found)

    with a_machine(court.verifier.vendor) as machine, tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


# b07: the log of another machine


OTHERS: Final = {
    "another boot loader": SampleBoot(option_rom=GOOD.option_rom, boot_loader=b"another"),
    "no secure boot": SampleBoot(option_rom=GOOD.option_rom, secure_boot=False),
    "another firmware": SampleBoot(option_rom=GOOD.option_rom, firmware=b"another"),
    "no option ROM, and another shim": SampleBoot(shim=b"another"),
}


@pytest.mark.parametrize("golden", ["exact", "rules"])
@pytest.mark.parametrize("other", OTHERS)
def test_b07_the_log_of_another_machine_is_refused_for_the_pcrs_that_differ(
    court: Court, other: str, golden: str
) -> None:
    """Both ways: a bad machine shows the log of a good one, and a good one that of a bad one."""
    log = decode_event_log(sample_boot_log(OTHERS[other]))
    ours, theirs = values_of(LOG), values_of(log)
    differing = [("uefi.replay", f"sha256 PCR {pcr}") for pcr in FIRMWARE if ours[pcr] != theirs[pcr]]

    async def case() -> None:
        async with a_trial(court, golden) as trial:
            found = await trial.refused(telling(log))
            assert [each for each in places(found) if each[0] == "uefi.replay"] == differing
            trial.node.reboot_by(log)
            found = await trial.refused(telling(GOOD_LOG))
            assert [each for each in places(found) if each[0] == "uefi.replay"] == differing
            trial.node.reboot_by(GOOD_LOG)
            await trial.believed()

    assert 0 < len(differing) < len(FIRMWARE)
    asyncio.run(case())


# b09: logs of another boot, or none


def test_b09_the_log_of_an_earlier_boot_proves_nothing_of_this_one(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            evil = sample_boot_log(SampleBoot(option_rom=GOOD.option_rom, boot_loader=b"evil"))
            trial.node.reboot_by(evil)
            found = await trial.refused(telling(GOOD_LOG))
            assert ("uefi.replay", "sha256 PCR 4") in places(found)
            assert "uefi.image" in ids(found)

    asyncio.run(case())


def test_b09_a_log_is_not_believed_any_longer_when_a_pcr_has_moved_that_it_explained(court: Court) -> None:
    """What a log proved holds for the values it was held against; whatever is extended later is in no good log."""

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.tpm.extend(4, {SHA256: SHA256.digest(b"something ran")})
            verdict = await trial.answer(lambda node, challenge: [node.evidence(challenge)])
            assert [finding.id for finding in verdict.findings] == []  # the log is asked for again, at once
            found = await trial.refused(lambda node, challenge: [node.evidence(challenge)])
            assert ids(found) == {"uefi.log-missing"}
            found = await trial.refused(telling(GOOD_LOG))
            assert ("uefi.replay", "sha256 PCR 4") in places(found)

    asyncio.run(case())


def test_b09_after_a_reboot_no_conclusion_from_the_last_boots_log_is_left(court: Court) -> None:
    """The same values again, another boot id, and no log: that it is known does not count."""

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(GOOD_LOG)
            found = await trial.refused(told)
            assert ids(found) == {"uefi.log-missing"}

    asyncio.run(case())
