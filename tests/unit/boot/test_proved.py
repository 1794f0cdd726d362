"""A boot log is believed about the PCRs that it replays to, in one bank, and about no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.boot.proved import prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.findings import FindingId
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event, EventLog, EventLogFormat
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import appended, good_log, inserted, measured, proved, quote_of, replaced, values_of, without
from support.quotes import quoted_pcrs

SHA256, SHA384 = HashAlg.SHA256, HashAlg.SHA384
NOBODY = FirmwareFacts()
HP = FirmwareFacts(vendor="HP", version="R73 Ver. 01.20.00")
EXIT = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
LOG = good_log()


def _without_exit(log: EventLog) -> EventLog:
    return without(without(log, len(log.events) - 1), len(log.events) - 2)


def _extended(value: bytes, *contents: bytes) -> bytes:
    for content in contents:
        value = SHA256.digest(value + SHA256.digest(content))
    return value


def _locality(number: int) -> Event:
    return Event(
        pcr=0,
        claimed_type=EventType.NO_ACTION,
        digests={SHA256: bytes(32)},
        data=b"StartupLocality\0" + bytes([number]),
    )


def test_a_log_that_replays_proves_every_quoted_pcr_even_those_that_nothing_extended() -> None:
    result = proved(LOG)
    assert result.proved == frozenset(range(16))
    assert result.unexplained == ()
    assert result.findings == ()
    assert result.bank is SHA256


@pytest.mark.parametrize("pcr", range(8))
def test_a_firmware_pcr_that_does_not_replay_is_found_with_both_values(pcr: int) -> None:
    values = values_of(LOG)
    quoted = values | {pcr: bytes(31) + b"\1"}
    result = proved(LOG, quoted_pcrs({SHA256: quoted}))
    assert result.unexplained == (pcr,)
    assert pcr not in result.proved
    (finding,) = result.findings
    assert finding.id is FindingId.UEFI_REPLAY
    assert finding.where == f"sha256 PCR {pcr}"
    assert quoted[pcr].hex() in finding.expected
    assert values[pcr].hex() in finding.seen


@pytest.mark.parametrize("pcr", range(8, 16))
def test_a_later_pcr_that_does_not_replay_is_merely_not_believed(pcr: int) -> None:
    result = proved(LOG, quoted_pcrs({SHA256: values_of(LOG) | {pcr: b"\7" * 32}}))
    assert result.proved == frozenset(range(16)) - {pcr}
    assert result.findings == ()
    assert result.unexplained == ()


def test_a_pcr_that_was_not_quoted_is_not_proved() -> None:
    values = values_of(LOG)
    del values[7]
    result = proved(LOG, quoted_pcrs({SHA256: values}))
    assert 7 not in result.proved
    assert result.findings == ()


def test_a_pcr_above_15_is_never_proved() -> None:
    result = proved(LOG, quoted_pcrs({SHA256: values_of(LOG) | {16: bytes(32)}}))
    assert 16 not in result.proved


@pytest.mark.parametrize(
    ("sentence", "change"),
    [
        ("an event dropped", lambda log: without(log, 0)),
        ("an event added", lambda log: appended(log, measured(0, EventType.EFI_ACTION, b"more"))),
        ("an event twice", lambda log: inserted(log, 0, log.events[0])),
        ("a digest altered", lambda log: replaced(log, 0, digests={SHA256: b"\1" * 32})),
        ("an event called EV_NO_ACTION", lambda log: replaced(log, 0, claimed_type=EventType.NO_ACTION)),
        ("two events swapped", lambda log: replace(log, events=(log.events[1], log.events[0], *log.events[2:]))),
    ],
)
def test_a_changed_log_does_not_replay(sentence: str, change: object) -> None:
    assert callable(change)
    assert proved(change(LOG), quote_of(LOG)).unexplained == (0,), sentence


def test_the_strongest_bank_that_is_quoted_and_logged_is_judged() -> None:
    log = good_log(banks=(SHA256, SHA384))
    both = quoted_pcrs({SHA256: values_of(log), SHA384: values_of(log, SHA384)})
    assert proved(log, both).bank is SHA384
    assert proved(log).bank is SHA256
    assert proved(LOG, both).bank is SHA256


def test_another_bank_may_be_asked_for() -> None:
    log = good_log(banks=(SHA256, SHA384))
    both = quoted_pcrs({SHA256: values_of(log), SHA384: values_of(log, SHA384)})
    assert prove_boot_log(log, both, NOBODY, SHA256).bank is SHA256
    assert prove_boot_log(log, both, NOBODY, HashAlg.SHA512).proved == frozenset()


def test_an_event_without_a_digest_in_the_judged_bank_was_not_extended_there() -> None:
    log = good_log(banks=(SHA256, SHA384))
    one_bank_only = replaced(log, 0, digests={SHA384: log.events[0].digests[SHA384]})
    result = prove_boot_log(one_bank_only, quote_of(log), NOBODY)
    assert result.unexplained == (0,)
    assert prove_boot_log(one_bank_only, quote_of(one_bank_only), NOBODY).unexplained == ()


@pytest.mark.parametrize(
    ("sentence", "log", "seen"),
    [
        (
            "a SHA-1 log",
            EventLog((HashAlg.SHA1,), (), EventLogFormat.SHA1),
            "(sha1) was quoted; if firmware measures into no other, enable its SHA-256 bank",
        ),
        (
            "a log of SHA-1 digests only",
            good_log(banks=(HashAlg.SHA1,)),
            "(sha1) was quoted; if firmware measures into no other, enable its SHA-256 bank",
        ),
        ("a CCEL", replace(LOG, form=EventLogFormat.CCEL), "ccel log"),
        ("two startup localities", inserted(LOG, 0, _locality(3), _locality(0)), "startup locality"),
        ("a startup locality that cannot be", inserted(LOG, 0, _locality(2)), "startup locality"),
    ],
)
def test_what_is_no_log_of_these_pcrs_explains_nothing(sentence: str, log: EventLog, seen: str) -> None:
    result = proved(log, quote_of(LOG))
    assert result.proved == frozenset(), sentence
    (finding,) = result.findings
    assert finding.id is FindingId.UEFI_LOG_MALFORMED
    assert seen in finding.seen


def test_a_quote_of_sha1_alone_proves_nothing() -> None:
    log = good_log(banks=(HashAlg.SHA1, SHA256))
    sha1 = quoted_pcrs({HashAlg.SHA1: values_of(log, HashAlg.SHA1)})
    assert prove_boot_log(log, sha1, NOBODY).proved == frozenset()
    assert prove_boot_log(log, sha1, NOBODY, HashAlg.SHA1).proved == frozenset()


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_pcr_0_starts_at_the_startup_locality(locality: int) -> None:
    log = inserted(LOG, 0, _locality(locality))
    start = locality.to_bytes(32, "big")
    expected = start
    for event in LOG.events:
        if event.pcr == 0:
            expected = SHA256.digest(expected + event.digests[SHA256])
    quoted = quoted_pcrs({SHA256: values_of(LOG) | {0: expected}})
    assert proved(log, quoted).findings == ()


@pytest.mark.parametrize(
    "words",
    [
        ("enter-initrd",),
        ("enter-initrd", "leave-initrd", "sysinit", "ready"),
        ("sysinit", "ready"),
        ("sysinit", "ready", "shutdown", "final"),
        ("sysinit", "ready", "shutdown", "final", "sysinit", "ready"),
        ("enter-initrd", "leave-initrd", *("sysinit", "ready", "shutdown", "final") * 31, "sysinit", "ready"),
    ],
)
def test_systemd_phases_may_follow_the_log_in_pcr_11(words: tuple[str, ...]) -> None:
    log = good_log(SampleBoot(sections=((".linux", b"kernel"),)))
    values = values_of(log)
    moved = _extended(values[11], *(word.encode() for word in words))
    result = proved(log, quoted_pcrs({SHA256: values | {11: moved}}))
    assert result.phases == words
    assert 11 in result.proved


@pytest.mark.parametrize(
    "words",
    [
        ("ready",),
        ("leave-initrd",),
        ("sysinit", "enter-initrd"),
        ("sysinit", "evil"),
        ("sysinit", "ready", "shutdown", "final", "enter-initrd"),
        ("sysinit", "ready", "shutdown", "final") * 32 + ("sysinit",),
    ],
)
def test_other_words_do_not_explain_pcr_11(words: tuple[str, ...]) -> None:
    values = values_of(LOG)
    moved = _extended(values[11], *(word.encode() for word in words))
    result = proved(LOG, quoted_pcrs({SHA256: values | {11: moved}}))
    assert result.phases == ()
    assert 11 not in result.proved


TALOS = ("enter-initrd", "leave-initrd", "enter-machined", "start-the-world")


@pytest.mark.parametrize("words", [TALOS[:1], TALOS[:3], TALOS, TALOS + TALOS[:2], ("sysinit", "ready")])
def test_words_of_another_system_explain_pcr_11_where_a_golden_expects_them(words: tuple[str, ...]) -> None:
    values = values_of(LOG)
    quoted = quoted_pcrs({SHA256: values | {11: _extended(values[11], *(word.encode() for word in words))}})
    assert prove_boot_log(LOG, quoted, FirmwareFacts(), SHA256, TALOS).phases == words


@pytest.mark.parametrize("words", [TALOS, ("start-the-world",), TALOS[1:]])
def test_words_that_no_golden_expects_do_not(words: tuple[str, ...]) -> None:
    values = values_of(LOG)
    quoted = quoted_pcrs({SHA256: values | {11: _extended(values[11], *(word.encode() for word in words))}})
    assert 11 not in prove_boot_log(LOG, quoted, FirmwareFacts(), SHA256).proved
    assert words == TALOS or 11 not in prove_boot_log(LOG, quoted, FirmwareFacts(), SHA256, TALOS).proved


@pytest.mark.parametrize("pcr", [*range(8), 9, 12, 13, 14])
def test_systemds_separator_may_follow_the_log(pcr: int) -> None:
    values = values_of(LOG)
    moved = _extended(values[pcr], b"os-separator")
    result = proved(LOG, quoted_pcrs({SHA256: values | {pcr: moved}}))
    assert result.findings == ()
    assert result.separated == {pcr: values[pcr]}
    assert result.words(pcr) == ("os-separator",)
    assert pcr in result.proved


@pytest.mark.parametrize("words", [("os-separator", "os-separator"), ("os-separator", "x"), ("ready",), ("",)])
def test_nothing_else_may_follow_what_firmware_measured(words: tuple[str, ...]) -> None:
    values = values_of(LOG)
    moved = _extended(values[7], *(word.encode() for word in words))
    result = proved(LOG, quoted_pcrs({SHA256: values | {7: moved}}))
    assert (result.unexplained, result.separated) == ((7,), {})


@pytest.mark.parametrize("pcr", [8, 11])
def test_systemds_separator_explains_no_pcr_that_it_leaves_alone(pcr: int) -> None:
    values = values_of(LOG)
    moved = _extended(values[pcr], b"os-separator")
    assert pcr not in proved(LOG, quoted_pcrs({SHA256: values | {pcr: moved}})).proved


def test_phases_explain_no_other_pcr() -> None:
    values = values_of(LOG)
    moved = _extended(values[12], b"sysinit")
    assert 12 not in proved(LOG, quoted_pcrs({SHA256: values | {12: moved}})).proved


@pytest.mark.parametrize(
    "unlogged",
    [EXIT, (EXIT[0], b"Exit Boot Services Returned with Failure")],
)
def test_exit_boot_services_that_hp_does_not_log_is_allowed_for_and_reported(unlogged: tuple[bytes, ...]) -> None:
    log = _without_exit(LOG)
    values = values_of(log)
    quoted = quoted_pcrs({SHA256: values | {5: _extended(values[5], *unlogged)}})
    result = prove_boot_log(log, quoted, HP)
    assert 5 in result.proved
    assert [quirk.id for quirk in result.quirks] == ["hp-exit-boot-services"]
    (finding,) = result.findings
    assert finding.id is FindingId.UEFI_QUIRK
    assert finding.where == "sha256 PCR 5"
    assert "hp-exit-boot-services" in finding.seen


def test_a_quirk_of_another_maker_is_not_applied() -> None:
    log = _without_exit(LOG)
    assert prove_boot_log(log, quote_of(LOG), NOBODY).unexplained == (5,)
    assert prove_boot_log(log, quote_of(LOG), FirmwareFacts(vendor="LENOVO", version="1")).unexplained == (5,)


def test_a_quirk_is_not_used_where_the_log_replays() -> None:
    result = prove_boot_log(LOG, quote_of(LOG), HP)
    assert result.quirks == ()
    assert result.findings == ()


def test_a_quirk_explains_nothing_else_of_its_pcr() -> None:
    log = _without_exit(LOG)
    values = values_of(log)
    quoted = quoted_pcrs({SHA256: values | {5: _extended(values[5], *EXIT, b"evil")}})
    assert prove_boot_log(log, quoted, HP).unexplained == (5,)
