"""What to say of a PCR that differs from a golden's: the first event that does."""

from __future__ import annotations

import hashlib

import pytest

from nodeseal.boot import difference
from nodeseal.boot.difference import EventDifference, Shown, event_differences, first_difference, reference_events
from nodeseal.boot.proved import ProvedLog
from nodeseal.golden.rules import MAX_WHAT, ReferenceEvent
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import NO_PCR, EventLog
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import (
    SHA256,
    appended,
    good_log,
    inserted,
    measured,
    place_of,
    proved,
    replaced,
    values_of,
    without,
)
from support.quotes import quoted_pcrs

LOG = good_log()
LAST = len(LOG.events) + 1
REFERENCE = reference_events(LOG, (SHA256,))
SHIM = place_of(LOG, 4, claimed_type=EventType.EFI_BOOT_SERVICES_APPLICATION)


def _short(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:16]}…"


def _said(log: EventLog, pcr: int) -> str:
    return first_difference(proved(log), REFERENCE, pcr)


def test_another_image_is_named_with_the_one_that_was_due() -> None:
    other = good_log(SampleBoot(boot_loader=b"another loader"))
    number = place_of(other, 4, "grubx64".encode("utf-16-le")) + 1
    assert _said(other, 4) == (
        f"event {number} (EV_EFI_BOOT_SERVICES_APPLICATION \\EFI\\sample\\grubx64.efi): digest "
        f"{_short(b'another loader')}, golden has EV_EFI_BOOT_SERVICES_APPLICATION \\EFI\\sample\\grubx64.efi "
        f"{_short(b'nodeseal sample boot loader')}"
    )


@pytest.mark.parametrize(
    ("sentence", "log", "pcr", "said"),
    [
        ("nothing differs", LOG, 4, ""),
        ("another PCR differs", good_log(SampleBoot(shim=b"other")), 0, ""),
        (
            "a surplus event in the middle",
            inserted(LOG, SHIM, measured(4, EventType.EFI_ACTION, b"surplus")),
            4,
            f"event {SHIM + 1} (EV_EFI_ACTION surplus): digest {_short(b'surplus')}, which the golden has not",
        ),
        (
            "a surplus event at the end",
            appended(LOG, measured(4, EventType.EFI_ACTION, b"surplus")),
            4,
            f"event {LAST} (EV_EFI_ACTION surplus): digest {_short(b'surplus')}, which the golden has not",
        ),
        (
            "several surplus events at the end",
            appended(LOG, *[measured(4, EventType.EFI_ACTION, each) for each in (b"one", b"two", b"three")]),
            4,
            (f"event {LAST} (EV_EFI_ACTION one): digest {_short(b'one')}, and 2 more, which the golden has not"),
        ),
        (
            "an event is missing in the middle",
            without(LOG, SHIM),
            4,
            (
                f"before event {place_of(LOG, 4, 'grubx64'.encode('utf-16-le'))} (EV_EFI_BOOT_SERVICES_APPLICATION "
                "\\EFI\\sample\\grubx64.efi): golden has EV_EFI_BOOT_SERVICES_APPLICATION \\EFI\\sample\\shimx64.efi "
                f"{_short(b'nodeseal sample shim')}, which was not measured"
            ),
        ),
        (
            "the last event is missing",
            without(LOG, place_of(LOG, 9, b"initrd")),
            9,
            (
                f"after the last event: golden has EV_IPL /initrd.img {_short(b'nodeseal sample initrd')}, "
                "which was not measured"
            ),
        ),
        (
            "all events are missing",
            without(without(LOG, place_of(LOG, 9)), place_of(without(LOG, place_of(LOG, 9)), 9)),
            9,
            (
                f"after the last event: golden has EV_IPL /vmlinuz {_short(b'nodeseal sample kernel')}, and 1 more, "
                "not measured"
            ),
        ),
    ],
)
def test_what_is_said_names_the_first_difference(sentence: str, log: EventLog, pcr: int, said: str) -> None:
    assert _said(log, pcr) == said, sentence


def test_nothing_is_said_of_a_pcr_that_the_log_does_not_explain() -> None:
    other = good_log(SampleBoot(shim=b"other"))
    unproved = proved(other, quoted_pcrs({SHA256: values_of(other) | {4: b"\1" * 32}}))
    assert first_difference(unproved, REFERENCE, 4) == ""


def test_nothing_is_said_without_a_reference() -> None:
    assert first_difference(proved(good_log(SampleBoot(shim=b"other"))), (), 4) == ""


def test_a_reference_in_another_bank_explains_nothing_wrongly() -> None:
    said = first_difference(proved(LOG), reference_events(good_log(banks=(HashAlg.SHA384,)), (HashAlg.SHA384,)), 4)
    assert "which the golden has not" in said


def test_systemds_phases_are_named_where_the_log_is_the_same() -> None:
    log = good_log(SampleBoot(sections=((".linux", b"kernel"),)))
    values = values_of(log)
    moved = SHA256.digest(values[11] + SHA256.digest(b"sysinit"))
    moved_on = proved(log, quoted_pcrs({SHA256: values | {11: moved}}))
    said = first_difference(moved_on, reference_events(log, (SHA256,)), 11)
    assert said == f"after the log: systemd's sysinit: digest {_short(b'sysinit')}, which the golden has not"


def test_systemds_separator_is_named_where_a_golden_does_not_have_it() -> None:
    values = values_of(LOG)
    moved = SHA256.digest(values[7] + SHA256.digest(b"os-separator"))
    separated = proved(LOG, quoted_pcrs({SHA256: values | {7: moved}}))
    said = first_difference(separated, reference_events(LOG, (SHA256,)), 7)
    assert said == f"after the log: systemd's os-separator: digest {_short(b'os-separator')}, which the golden has not"


def _phased(*words: str) -> ProvedLog:
    """Prove the log of a unified kernel image after systemd measured ``words``."""
    log = good_log(SampleBoot(sections=((".linux", b"kernel"),)))
    values = values_of(log)
    value = values[11]
    for word in words:
        value = SHA256.digest(value + SHA256.digest(word.encode()))
    return proved(log, quoted_pcrs({SHA256: values | {11: value}}))


def test_a_phase_that_was_not_reached_is_named_and_those_that_were_are_not() -> None:
    ready = _phased("sysinit", "ready")
    reference = (
        *reference_events(ready.log, (SHA256,)),
        *(
            ReferenceEvent(pcr=11, claimed_type=EventType.EVENT_TAG, digests={SHA256: SHA256.digest(word)}, what="word")
            for word in (b"sysinit", b"ready")
        ),
    )
    assert first_difference(ready, reference, 11) == ""
    assert event_differences(ready, reference, 11) == ()
    said = first_difference(_phased("sysinit"), reference, 11)
    assert said == f"after the last event: golden has EV_EVENT_TAG word {_short(b'ready')}, which was not measured"


def _steps(log: EventLog, pcr: int) -> list[tuple[str | None, str | None]]:
    """Return the differences by what was extended."""
    return [(_hex(each.golden), _hex(each.seen)) for each in event_differences(proved(log), REFERENCE, pcr)]


def _hex(event: Shown | None) -> str | None:
    return None if event is None else event.digest.hex()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


SHIM_DIGEST, LOADER_DIGEST = _sha256(b"nodeseal sample shim"), _sha256(b"nodeseal sample boot loader")


@pytest.mark.parametrize(
    ("sentence", "log", "steps"),
    [
        ("nothing differs", LOG, []),
        (
            "the last image is replaced",
            good_log(SampleBoot(kernel=b"other")),
            [(_sha256(b"nodeseal sample kernel"), _sha256(b"other"))],
        ),
        (
            "two images are replaced",
            good_log(SampleBoot(shim=b"one", boot_loader=b"two")),
            [(SHIM_DIGEST, _sha256(b"one")), (LOADER_DIGEST, _sha256(b"two"))],
        ),
        (
            "one event is new and another is gone",
            without(inserted(LOG, SHIM, measured(4, EventType.EFI_ACTION, b"new")), SHIM + 1),
            [(SHIM_DIGEST, _sha256(b"new"))],
        ),
        ("an event is new", inserted(LOG, SHIM, measured(4, EventType.EFI_ACTION, b"new")), [(None, _sha256(b"new"))]),
        ("an event is gone", without(LOG, SHIM), [(SHIM_DIGEST, None)]),
    ],
)
def test_all_differences_of_a_pcr_are_told(
    sentence: str, log: EventLog, steps: list[tuple[str | None, str | None]]
) -> None:
    assert _steps(log, 4) == steps, sentence


def test_a_difference_names_both_events() -> None:
    other = good_log(SampleBoot(boot_loader=b"another loader"))
    (found,) = event_differences(proved(other), REFERENCE, 4)
    number = place_of(other, 4, "grubx64".encode("utf-16-le")) + 1
    loader = "EV_EFI_BOOT_SERVICES_APPLICATION \\EFI\\sample\\grubx64.efi"
    assert found == EventDifference(
        golden=Shown(loader, bytes.fromhex(LOADER_DIGEST)),
        seen=Shown(f"event {number} ({loader})", SHA256.digest(b"another loader")),
    )


def test_differences_need_a_log_that_explains_the_pcr_and_a_reference() -> None:
    other = good_log(SampleBoot(shim=b"other"))
    unproved = proved(other, quoted_pcrs({SHA256: values_of(other) | {4: b"\1" * 32}}))
    assert event_differences(unproved, REFERENCE, 4) == ()
    assert event_differences(proved(other), (), 4) == ()


def test_very_much_that_differs_is_paired_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "_MAX_ALIGNED", 3)
    surplus = [measured(4, EventType.EFI_ACTION, bytes([65 + at])) for at in range(4)]
    steps = _steps(inserted(LOG, SHIM, *surplus), 4)
    assert steps[0] == (SHIM_DIGEST, _sha256(b"A"))
    assert steps[-1] == (None, _sha256(b"nodeseal sample kernel"))


def test_a_reference_has_the_extended_events_with_the_banks_asked_for() -> None:
    log = good_log(banks=(SHA256, HashAlg.SHA384))
    silent = inserted(log, 0, measured(0, EventType.NO_ACTION, b"SP800-155 Event"))
    reference = reference_events(silent, (SHA256,))
    assert [(each.pcr, each.claimed_type, each.digests) for each in reference] == [
        (event.pcr, event.claimed_type, {SHA256: event.digests[SHA256]}) for event in log.events
    ]
    assert reference[SHIM].what == "\\EFI\\sample\\shimx64.efi"


def test_a_reference_leaves_out_what_extended_nothing() -> None:
    log = good_log(banks=(SHA256, HashAlg.SHA384))
    one_bank = replaced(log, 0, digests={HashAlg.SHA384: log.events[0].digests[HashAlg.SHA384]})
    of_windows = appended(one_bank, measured(NO_PCR, EventType.EVENT_TAG, b"of no PCR"))
    reference = reference_events(of_windows, (SHA256,))
    assert len(reference) == len(log.events) - 1
    assert all(each.digests.keys() == {SHA256} for each in reference)


def test_words_of_a_reference_cannot_drive_a_terminal() -> None:
    changed = good_log(SampleBoot(command_line="/vmlinuz \x1b[2J"))
    said = first_difference(proved(LOG), reference_events(changed, (SHA256,)), 8)
    assert said
    assert said.isprintable()


@pytest.mark.parametrize(("length", "kept"), [(2_000, 2_000), (MAX_WHAT + 1, MAX_WHAT)])
def test_a_reference_keeps_whole_texts_and_a_finding_shows_their_beginning(length: int, kept: int) -> None:
    menu = b"grub_cmd: menuentry ".ljust(length, b"x")
    reference = reference_events(appended(LOG, measured(8, EventType.IPL, menu)), (SHA256,))
    assert len(reference[-1].what) == kept
    assert len(first_difference(proved(LOG), reference, 8)) < 700
