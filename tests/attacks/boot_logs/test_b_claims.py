"""Attacks by boot logs that replay and still lie: rows b02 to b04.

The digests of these logs are those that the TPM extended, so PCRs prove them; types, data and order are the attacker's.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, replace
from typing import Final

import pytest

from nodeseal.swtpm.sample_log import sample_boot_log
from nodeseal.uefi.event_log import Event, EventLog, decode_event_log, replay
from nodeseal.uefi.event_log_types import EventType
from nodeseal.v1.attestation_pb2 import Finding
from support.boot_logs import SECURITY, appended, inserted, measured, place_of, replaced, variable, without
from support.damage import flipped
from support.suspects import GOOD, GOOD_LOG, LOG, SHA256, UNIFIED, UNIFIED_LOG, Court, a_trial, ids, places, telling

CALLING: Final = b"Calling EFI Application from Boot Option"
LOADER, SECURE_BOOT, DBX = (name.encode("utf-16-le") for name in ("grubx64.efi", "SecureBoot", "dbx"))


def log_of(**changes: object) -> EventLog:
    """Return the log of a machine that boots something else than the good one."""
    return decode_event_log(sample_boot_log(replace(GOOD, **changes)))  # type: ignore[arg-type]  # its fields


# b02: what a log calls an event, and what it says about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """What a bad machine booted, and how its log makes light of it.

    Attributes:
        log: the truth, in which a golden of rules finds ``found``.
        at: the event that gives it away.
        found: what the golden objects to whatever the event is called.
        instead: data that would please the golden.
    """

    log: EventLog
    at: int
    found: str
    instead: bytes

    @classmethod
    def about(cls, log: EventLog, pcr: int, part: bytes, found: str) -> Lie:
        """Find the event in a bad log, and its counterpart in the good one."""
        at = place_of(log, pcr, part)
        return cls(log=log, at=at, found=found, instead=LOG.events[place_of(LOG, pcr, part)].data)


EVIL_LINE: Final = "/vmlinuz root=LABEL=root ro quiet init=/bin/sh"
LIES: Final = {
    "a boot loader that nobody knows": Lie.about(log_of(boot_loader=b"evil"), 4, LOADER, "uefi.image"),
    "a kernel that nobody knows": Lie.about(log_of(kernel=b"evil"), 4, "vmlinuz".encode("utf-16-le"), "uefi.image"),
    "an option ROM that nobody knows": Lie.about(log_of(option_rom=b"evil"), 2, b"", "uefi.driver"),
    "an initial RAM disk that nobody knows": Lie.about(log_of(initrd=b"evil"), 9, b"initrd", "uefi.file"),
    "another command line": Lie.about(log_of(command_line=EVIL_LINE), 8, b"kernel_cmdline", "uefi.command-line"),
    "secure boot is off": Lie.about(log_of(secure_boot=False), 7, SECURE_BOOT, "uefi.secure-boot-off"),
}
NAMES: Final = {
    "an action": EventType.EFI_ACTION,
    "a separator": EventType.SEPARATOR,
    "a boot loader's word": EventType.IPL,
    "a tagged event": EventType.EVENT_TAG,
    "a variable": EventType.EFI_VARIABLE_BOOT,
    "a type that nobody knows": 0x7FFFFFFF,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", LIES)
def test_b02_another_name_for_an_event_hides_nothing(court: Court, what: str, name: str) -> None:
    lie = LIES[what]

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(lie.log)
            honest = await trial.refused(telling(lie.log))
            assert lie.found in ids(honest)
            relabelled = replaced(lie.log, lie.at, claimed_type=NAMES[name])
            assert {(each.id, each.seen) for each in honest} <= {
                (each.id, each.seen) for each in await trial.refused(telling(relabelled))
            }
            trial.node.reboot_by(GOOD_LOG)
            await trial.believed()

    asyncio.run(case())


def findings_by_rules(court: Court, booted: EventLog, shown: EventLog) -> list[Finding]:
    """Let a node boot by one log and show another; return the findings of the golden of rules."""

    async def case() -> list[Finding]:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(booted)
            return await trial.refused(telling(shown))

    return asyncio.run(case())


@pytest.mark.parametrize("what", LIES)
def test_b02_an_event_that_is_said_to_extend_nothing_is_missing(court: Court, what: str) -> None:
    lie = LIES[what]
    silent = replaced(lie.log, lie.at, claimed_type=EventType.NO_ACTION)
    found = findings_by_rules(court, lie.log, silent)
    pcr = lie.log.events[lie.at].pcr
    assert any(f"PCR {pcr}" in f"{each.where} {each.seen}" for each in found)
    assert ids(found) & {"uefi.replay", lie.found}


@pytest.mark.parametrize("what", LIES)
def test_b02_pleasing_data_under_a_bad_events_digest_is_not_believed(court: Court, what: str) -> None:
    lie = LIES[what]
    found = findings_by_rules(court, lie.log, replaced(lie.log, lie.at, data=lie.instead))
    assert ids(found) & {lie.found, "uefi.event-data"}
    assert any(each.event.startswith(f"event {lie.at + 1} (") for each in found), found


def test_b02_an_image_hides_behind_no_action_text(court: Court) -> None:
    """An image's digest is of the image: text in its data does not make the event an action."""
    lie = LIES["a boot loader that nobody knows"]

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(lie.log)
            hidden = replaced(lie.log, lie.at, claimed_type=EventType.EFI_ACTION, data=CALLING)
            (found,) = await trial.refused(telling(hidden))
            assert (found.id, found.seen) == ("uefi.image", SHA256.digest(b"evil").hex())
            assert found.event.startswith(f"event {lie.at + 1} (EV_EFI_ACTION Calling EFI Application")

    asyncio.run(case())


SPOILT: Final = {
    "SecureBoot says something else": (7, SECURE_BOOT, {"uefi.secure-boot-off", "uefi.event-data"}),
    "the list of forbidden images is another": (7, DBX, {"uefi.dbx", "uefi.event-data"}),
    "the signer is another": (7, b"", {"uefi.event-data"}),
    "the command line is another": (8, b"kernel_cmdline", {"uefi.event-data"}),
}


@pytest.mark.parametrize("what", SPOILT)
def test_b02_data_that_its_digest_does_not_cover_satisfies_no_rule(court: Court, what: str) -> None:
    """The machine is a good one, and only what the log says of one event is not what was measured."""
    pcr, part, objections = SPOILT[what]
    kind = EventType.EFI_VARIABLE_AUTHORITY if not part else None
    at = place_of(LOG, pcr, part, kind)
    data = LOG.events[at].data
    lying = replaced(LOG, at, data=flipped(data))

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            found = await trial.refused(telling(lying))
            assert objections & ids(found), found
            assert ids(found) <= objections | {"uefi.event-data", "uefi.signer"}
            assert any(each.event.startswith(f"event {at + 1} (") for each in found)
            trial.node.leases = ()
            await trial.believed()

    asyncio.run(case())


DESCRIBED: Final = {
    "an image": place_of(LOG, 4, LOADER),
    "a driver": place_of(LOG, 2),
    "a file": place_of(LOG, 9, b"initrd"),
    "a partition table": place_of(LOG, 5, b"EFI PART"),
}


@pytest.mark.parametrize("what", DESCRIBED)
def test_b02_what_is_judged_by_digest_neither_gains_nor_loses_by_its_description(court: Court, what: str) -> None:
    described = replaced(LOG, DESCRIBED[what], data=b"something else", claimed_type=EventType.IPL)

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            await trial.believed(telling(described))

    asyncio.run(case())


UNIFIED_LIES: Final = {
    ".linux": replace(UNIFIED, sections=((".linux", b"evil"), *UNIFIED.sections[1:])),
    ".initrd": replace(UNIFIED, sections=(UNIFIED.sections[0], (".initrd", b"evil"), UNIFIED.sections[2])),
    ".cmdline": replace(UNIFIED, sections=(*UNIFIED.sections, (".cmdline", b"init=/bin/sh"))),
}


@pytest.mark.parametrize("section", UNIFIED_LIES)
def test_b02_a_section_of_a_unified_kernel_is_what_its_digest_says_and_not_its_event(
    court: Court, section: str
) -> None:
    log = decode_event_log(sample_boot_log(UNIFIED_LIES[section]))
    evil = next(
        at
        for at, event in enumerate(log.events)
        if event.pcr == 11 and event.digests[SHA256] in map(SHA256.digest, (b"evil", b"init=/bin/sh"))
    )
    lies = (
        log,
        replaced(log, evil, data=".uname".encode("utf-16-le")),
        replaced(log, evil, claimed_type=EventType.SEPARATOR),
    )

    async def case() -> None:
        async with a_trial(court, "unified", UNIFIED_LOG) as trial:
            trial.node.reboot_by(log)
            for lie in lies:
                found = await trial.refused(telling(lie))
                assert ("uefi.section", "sha256 PCR 11") in places(found)
                assert any(each.seen.startswith(section) for each in found if each.id == "uefi.section")

    asyncio.run(case())


# b03: what the running system extends and logs is not what firmware measured


@pytest.mark.parametrize("pcr", range(8))
def test_b03_an_event_after_the_separator_is_named_as_what_differs(court: Court, pcr: int) -> None:
    log = appended(LOG, measured(pcr, EventType.EFI_ACTION, b"something later"))

    async def case() -> None:
        async with a_trial(court, "exact") as trial:
            trial.node.extend_logged(log)
            (found,) = await trial.refused(telling(log))
            assert places([found]) == [("pcr.mismatch", f"sha256 PCR {pcr}")]
            assert found.event.startswith(f"event {len(log.events)} (EV_EFI_ACTION")
            assert "something later" in found.event
            assert "which the golden has not" in found.event

    asyncio.run(case())


def without_digests(log: EventLog, at: int, content: bytes) -> EventLog:
    """Return the log of a machine whose variable at ``at`` had another content."""
    event = log.events[at]
    name_size = struct.unpack_from("<Q", event.data, 16)[0] * 2
    data = (
        event.data[:16] + struct.pack("<QQ", name_size // 2, len(content)) + event.data[32 : 32 + name_size] + content
    )
    return replaced(log, at, data=data, digests={SHA256: SHA256.digest(data)})


AT_DBX: Final = place_of(LOG, 7, DBX)
AT_STATE: Final = place_of(LOG, 7, SECURE_BOOT)
NO_DBX: Final = without_digests(LOG, AT_DBX, b"")
INSECURE: Final = without_digests(LOG, AT_STATE, b"\0")
ON: Final = measured(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"))
OFF: Final = measured(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\0"))
GOOD_DBX: Final = LOG.events[AT_DBX]
SEPARATOR: Final = Event(
    pcr=7, claimed_type=EventType.SEPARATOR, digests={SHA256: SHA256.digest(bytes(4))}, data=bytes(4)
)

LATE: Final[dict[str, tuple[EventLog, Event, set[str]]]] = {
    "secure boot that was off": (INSECURE, ON, {"uefi.secure-boot-off", "uefi.after-separator"}),
    "a list of forbidden images that was empty": (NO_DBX, GOOD_DBX, {"uefi.dbx", "uefi.after-separator"}),
    "secure boot that was never measured": (
        replace(LOG, events=tuple(event for at, event in enumerate(LOG.events) if at != AT_STATE)),
        ON,
        {"uefi.secure-boot-off", "uefi.after-separator"},
    ),
}


@pytest.mark.parametrize("what", LATE)
def test_b03_firmware_state_that_the_running_system_measures_later_is_not_taken_for_firmwares(
    court: Court, what: str
) -> None:
    booted, later, findings = LATE[what]

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(booted)
            await trial.refused(telling(booted))
            log = appended(booted, later)
            trial.node.extend_logged(log)
            found = await trial.refused(telling(log))
            assert ids(found) == findings
            (late,) = [each for each in found if each.id == "uefi.after-separator"]
            assert late.event.startswith(f"event {len(log.events)} (")

    asyncio.run(case())


def test_b03_a_second_separator_opens_nothing_again(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(INSECURE)
            await trial.refused(telling(INSECURE))
            log = appended(INSECURE, SEPARATOR, ON, SEPARATOR)
            trial.node.extend_logged(log)
            assert ids(await trial.refused(telling(log))) == {"uefi.secure-boot-off", "uefi.after-separator"}

    asyncio.run(case())


LATE_THINGS: Final = {
    "a driver": (measured(2, EventType.EFI_BOOT_SERVICES_DRIVER, b"", b"evil driver"), "uefi.driver"),
    "an image": (measured(4, EventType.EFI_BOOT_SERVICES_APPLICATION, b"", b"evil image"), "uefi.image"),
    "a partition table": (measured(5, EventType.EFI_GPT_EVENT, b"EFI PART evil"), "uefi.partitions"),
    "a signer": (
        measured(7, EventType.EFI_VARIABLE_AUTHORITY, variable("db", SECURITY.bytes_le + b"evil", SECURITY)),
        "uefi.signer",
    ),
}


@pytest.mark.parametrize("what", LATE_THINGS)
def test_b03_what_comes_after_the_separator_still_counts_against_the_node(court: Court, what: str) -> None:
    event, finding = LATE_THINGS[what]
    log = appended(LOG, event)

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.extend_logged(log)
            (found,) = await trial.refused(telling(log))
            assert places([found]) == [(finding, f"sha256 PCR {event.pcr}")]
            assert found.event.startswith(f"event {len(log.events)} (")

    asyncio.run(case())


# b04: forged before the separator, after the real one

AFTER_STATE: Final = AT_STATE + 1
TWICE: Final[dict[str, tuple[EventLog, set[str]]]] = {
    "off, then on": (inserted(INSECURE, AFTER_STATE, ON), {"uefi.secure-boot-off", "uefi.after-separator"}),
    "on, then off": (inserted(LOG, AFTER_STATE, OFF), {"uefi.after-separator"}),
    "on twice": (inserted(LOG, AFTER_STATE, ON), {"uefi.after-separator"}),
    "an empty list of forbidden images, then a good one": (
        inserted(NO_DBX, AT_DBX + 1, GOOD_DBX),
        {"uefi.dbx", "uefi.after-separator"},
    ),
    "a good list of forbidden images, then an empty one": (
        inserted(LOG, AT_DBX + 1, NO_DBX.events[AT_DBX]),
        {"uefi.after-separator"},
    ),
    "off, then on, called an authority": (
        inserted(INSECURE, AFTER_STATE, replace(ON, claimed_type=EventType.EFI_VARIABLE_AUTHORITY)),
        {"uefi.secure-boot-off", "uefi.after-separator"},
    ),
}


@pytest.mark.parametrize("what", TWICE)
def test_b04_the_first_measured_value_counts_and_a_second_one_is_found(court: Court, what: str) -> None:
    """The log replays: something measured twice, as a driver can that runs before the separator."""
    log, findings = TWICE[what]

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(log)
            assert trial.node.boot_pcrs()[7] == replay(log, SHA256)[7]
            found = await trial.refused(telling(log))
            assert ids(found) == findings

    asyncio.run(case())


def test_b04_a_variable_of_the_same_name_by_another_vendor_is_not_the_state(court: Court) -> None:
    fake = measured(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1", SECURITY))
    log = inserted(INSECURE, AT_STATE, fake)

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(log)
            assert ids(await trial.refused(telling(log))) == {"uefi.secure-boot-off"}

    asyncio.run(case())


def test_b04_the_first_value_is_believed_only_from_the_event_that_its_digest_covers(court: Court) -> None:
    """The log puts the data ON into the real event, and lets the forged one carry the truth."""
    log = inserted(INSECURE, AFTER_STATE, ON)
    lying = replaced(replaced(log, AT_STATE, data=ON.data), AFTER_STATE, data=OFF.data)

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(log)
            found = await trial.refused(telling(lying))
            assert {"uefi.secure-boot-off", "uefi.event-data"} <= ids(found)

    asyncio.run(case())


# b10: a boot loader that measures is left out, and made up for afterwards


def test_b10_a_kernel_that_started_without_its_boot_loader_is_refused(court: Court) -> None:
    """Every image is an allowed one, and what the boot loader would have measured is extended by the system itself."""
    grub = place_of(LOG, 4, LOADER)
    skipped = without(LOG, grub)
    made_up = appended(skipped, LOG.events[grub])

    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(skipped)
            assert places(await trial.refused(telling(skipped))) == [("uefi.image", "sha256 PCR 4")]
            trial.node.extend_logged(made_up)
            found = await trial.refused(telling(made_up))
            assert places(found) == [("uefi.image", "sha256 PCR 4")]
            assert ", then " in found[0].expected

    asyncio.run(case())
