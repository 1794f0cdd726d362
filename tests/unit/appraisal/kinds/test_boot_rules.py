"""Boot rules: what is proved satisfies them, and nothing that is absent, unproved or surplus does."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.appraisal.kinds import boot_rules
from nodeseal.appraisal.kinds.boot_rules import judge_boot
from nodeseal.boot.claims import BootClaims
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import BootRules, Image, Signer
from nodeseal.swtpm.sample_log import DB_CERTIFICATE, REVOKED_IMAGE, VENDOR_CERTIFICATE, SampleBoot
from nodeseal.uefi.event_log import EventLog
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import (
    SECURITY,
    SHA256,
    appended,
    claims_of,
    good_log,
    inserted,
    measured,
    place_of,
    quote_of,
    replaced,
    rules_from,
    values_of,
    variable,
    without,
)
from support.quotes import quoted_pcrs

CHAIN = SampleBoot(option_rom=b"option ROM")
LOG = good_log(CHAIN)
RULES = rules_from(claims_of(LOG))
UNIFIED = good_log(SampleBoot(command_line="root=x", sections=((".linux", b"kernel"), (".initrd", b"initrd"))))
UNIFIED_RULES = rules_from(claims_of(UNIFIED))
LINE = "/vmlinuz root=LABEL=root ro quiet"
AUTHORITY, CONFIG = EventType.EFI_VARIABLE_AUTHORITY, EventType.EFI_VARIABLE_DRIVER_CONFIG


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _unproved(log: EventLog, *pcrs: int) -> BootClaims:
    return claims_of(log, quoted_pcrs({SHA256: values_of(log) | dict.fromkeys(pcrs, b"\1" * 32)}))


def _only(**rules: object) -> BootRules:
    return replace(BootRules(), **rules)  # type: ignore[arg-type] # one of its fields


def _found(log: EventLog | BootClaims, rules: BootRules) -> list[FindingId]:
    claims = claims_of(log) if isinstance(log, EventLog) else log
    return [objection.id for objection in judge_boot(claims, rules)]


def _one(claims: BootClaims, rules: BootRules) -> Finding:
    (objection,) = judge_boot(claims, rules)
    return objection.finding()


@pytest.mark.parametrize(("log", "rules"), [(LOG, RULES), (UNIFIED, UNIFIED_RULES)])
def test_what_was_captured_satisfies_its_own_rules(log: EventLog, rules: BootRules) -> None:
    assert rules.secure_boot
    assert rules.signers
    assert rules.images
    assert rules.gpt
    assert _found(log, rules) == []


def test_no_rules_find_nothing() -> None:
    assert _found(_unproved(LOG, *range(16)), BootRules()) == []


def test_of_a_log_that_proves_nothing_every_rule_is_broken() -> None:
    assert set(_found(_unproved(LOG, *range(16)), RULES)) == {
        FindingId.UEFI_SECURE_BOOT,
        FindingId.UEFI_SIGNER,
        FindingId.UEFI_IMAGE,
        FindingId.UEFI_DRIVER,
        FindingId.UEFI_DBX,
        FindingId.UEFI_COMMAND_LINE,
        FindingId.UEFI_FILE,
        FindingId.UEFI_PARTITIONS,
    }
    assert _found(_unproved(UNIFIED, *range(16)), UNIFIED_RULES).count(FindingId.UEFI_SECTION) == 2


SEPARATOR = place_of(LOG, 7, claimed_type=EventType.SEPARATOR)


@pytest.mark.parametrize(
    ("sentence", "log", "seen"),
    [
        ("off", good_log(SampleBoot(secure_boot=False)), "off"),
        ("not measured", without(LOG, place_of(LOG, 7, "SecureBoot".encode("utf-16-le"))), "not measured"),
        ("without a separator", without(LOG, SEPARATOR), "no separator"),
        ("audit mode", inserted(LOG, SEPARATOR, measured(7, CONFIG, variable("AuditMode", b"\1"))), "audit mode"),
        ("setup mode", inserted(LOG, SEPARATOR, measured(7, CONFIG, variable("SetupMode", b"\1"))), "setup mode"),
        ("no platform key", without(LOG, place_of(LOG, 7, "PK".encode("utf-16-le"))), "unknown mode"),
        ("a debugger", inserted(LOG, SEPARATOR, measured(7, EventType.EFI_ACTION, b"UEFI Debug Mode")), "debugger"),
        ("shim checks nothing", appended(LOG, measured(14, EventType.IPL, b"MokSBState\0", b"\1")), "MokSBState"),
    ],
)
def test_secure_boot_must_be_proved_on_and_in_force(sentence: str, log: EventLog, seen: str) -> None:
    finding = _one(claims_of(log), _only(secure_boot=True))
    assert finding.id is FindingId.UEFI_SECURE_BOOT, sentence
    assert seen in finding.seen
    assert finding.where == "sha256 PCR 7"


def test_deployed_mode_is_as_good_as_user_mode() -> None:
    deployed = inserted(LOG, SEPARATOR, measured(7, CONFIG, variable("DeployedMode", b"\1")))
    assert _found(deployed, _only(secure_boot=True)) == []


def test_state_measured_after_the_separator_is_found_by_whoever_asks_for_secure_boot() -> None:
    late = appended(LOG, measured(7, EventType.IPL, variable("SecureBoot", b"\1")))
    assert _found(late, _only(secure_boot=True)) == [FindingId.UEFI_AFTER_SEPARATOR]
    assert _found(late, _only(gpt=RULES.gpt)) == []


def test_an_event_of_pcr_7_that_is_not_proved_may_be_a_debugger() -> None:
    debugger = inserted(LOG, SEPARATOR, measured(7, EventType.EFI_ACTION, b"UEFI Debug Mode"))
    hidden = claims_of(replaced(debugger, SEPARATOR, data=b"nothing"), quote_of(debugger))
    assert _found(hidden, _only(secure_boot=True)) == [FindingId.UEFI_EVENT]


def test_what_breaks_two_rules_is_found_once() -> None:
    hidden = claims_of(replaced(LOG, place_of(LOG, 7, claimed_type=AUTHORITY), data=b"nothing"), quote_of(LOG))
    both = _found(hidden, _only(secure_boot=True, signers=(DB, VENDOR)))
    assert both == [FindingId.UEFI_EVENT]


DB, VENDOR = Signer(sha256=_digest(DB_CERTIFICATE), name="db CA"), Signer(sha256=_digest(VENDOR_CERTIFICATE))


def test_an_authority_that_is_not_allowed_is_named_with_its_event() -> None:
    finding = _one(claims_of(LOG), _only(signers=(DB,)))
    assert finding.id is FindingId.UEFI_SIGNER
    assert finding.expected == "db CA"
    assert finding.seen == f"Shim {VENDOR.sha256.hex()} nodeseal sample vendor"
    assert "EV_EFI_VARIABLE_AUTHORITY" in finding.event


def test_every_authority_must_be_allowed() -> None:
    assert _found(LOG, _only(signers=(DB, VENDOR))) == []
    evil = variable("db", SECURITY.bytes_le + _digest(b"evil"), SECURITY)
    assert _found(appended(LOG, measured(7, AUTHORITY, evil)), _only(signers=(DB, VENDOR))) == [FindingId.UEFI_SIGNER]


def test_no_authority_at_all_is_not_enough() -> None:
    off = good_log(SampleBoot(secure_boot=False))
    finding = _one(claims_of(off), _only(signers=(DB, VENDOR)))
    assert finding.id is FindingId.UEFI_SIGNER
    assert finding.seen == "no measurement of an authority"


def test_an_authority_whose_data_is_not_proved_is_found() -> None:
    at = place_of(LOG, 7, "Shim".encode("utf-16-le"))
    swapped = claims_of(
        replaced(LOG, at, data=LOG.events[place_of(LOG, 7, claimed_type=AUTHORITY)].data), quote_of(LOG)
    )
    assert _found(swapped, _only(signers=(DB, VENDOR))) == [FindingId.UEFI_EVENT]


def test_an_image_that_is_not_allowed_is_named_with_its_event() -> None:
    other = good_log(replace(CHAIN, boot_loader=b"evil"))
    images = tuple(replace(image, name=f"image {n}") for n, image in enumerate(RULES.images or ()))
    finding = _one(claims_of(other), _only(images=images))
    assert finding.id is FindingId.UEFI_IMAGE
    assert finding.expected == "image 0 or image 1 or image 2"
    assert finding.where == "sha256 PCR 4"
    assert finding.seen == _digest(b"evil").hex()
    assert "grubx64.efi" in finding.event


def test_a_later_image_shows_up_too() -> None:
    more = appended(LOG, measured(4, EventType.EFI_BOOT_SERVICES_APPLICATION, bytes(32), b"evil"))
    assert _found(more, _only(images=RULES.images)) == [FindingId.UEFI_IMAGE]


GRUB = place_of(LOG, 4, "grubx64".encode("utf-16-le"))


@pytest.mark.parametrize(
    "log",
    [
        pytest.param(without(LOG, GRUB), id="an image was skipped"),
        pytest.param(appended(without(LOG, GRUB), LOG.events[GRUB]), id="skipped, and extended afterwards"),
        pytest.param(appended(LOG, LOG.events[GRUB]), id="an image ran twice"),
        pytest.param(without(LOG, place_of(LOG, 4, "vmlinuz".encode("utf-16-le"))), id="the last one is missing"),
    ],
)
def test_images_that_are_all_allowed_must_have_run_each_once_and_in_order(log: EventLog) -> None:
    names = ("shim", "grub", "kernel")
    images = tuple(replace(image, name=name) for image, name in zip(RULES.images or (), names, strict=True))
    finding = _one(claims_of(log), _only(images=images))
    assert finding.id is FindingId.UEFI_IMAGE
    assert finding.expected == "shim, then grub, then kernel"
    assert "shimx64.efi" in finding.seen


def test_no_image_at_all_is_not_enough() -> None:
    nothing = replace(LOG, events=tuple(event for event in LOG.events if event.pcr != 4))
    assert _one(claims_of(nothing), _only(images=RULES.images)).seen == "no measurement of an image"
    assert _one(_unproved(LOG, 4), _only(images=RULES.images)).seen == "PCR 4 not proved"


def test_a_driver_that_is_not_allowed_is_found() -> None:
    other = good_log(replace(CHAIN, option_rom=b"evil"))
    assert _found(other, _only(drivers=RULES.drivers)) == [FindingId.UEFI_DRIVER]
    assert _found(LOG, _only(drivers=(Image(name="none", digests=frozenset([bytes(32)])),))) == [FindingId.UEFI_DRIVER]


def test_no_driver_is_fine_if_that_is_proved() -> None:
    assert _found(good_log(), _only(drivers=RULES.drivers)) == []
    assert _found(_unproved(good_log(), 2), _only(drivers=RULES.drivers)) == [FindingId.UEFI_DRIVER]


def test_dbx_must_hold_the_floor() -> None:
    assert _found(LOG, _only(dbx=frozenset([REVOKED_IMAGE]))) == []
    finding = _one(claims_of(LOG), _only(dbx=frozenset([REVOKED_IMAGE, b"\1" * 32])))
    assert finding.id is FindingId.UEFI_DBX
    assert finding.expected == (b"\1" * 32).hex()
    assert finding.seen == "a dbx without 1 of 2"


@pytest.mark.parametrize(
    ("sentence", "claims"),
    [
        ("PCR 7 is not proved", _unproved(LOG, 7)),
        ("PCR 7 has no separator", claims_of(without(LOG, SEPARATOR))),
        ("dbx was not measured", claims_of(without(LOG, place_of(LOG, 7, "dbx".encode("utf-16-le"))))),
    ],
)
def test_a_dbx_that_is_not_proved_holds_nothing(sentence: str, claims: BootClaims) -> None:
    assert _found(claims, _only(dbx=frozenset([REVOKED_IMAGE]))) == [FindingId.UEFI_DBX], sentence


def _kernel(text: str) -> EventLog:
    return appended(LOG, measured(8, EventType.IPL, f"kernel_cmdline: {text}\0".encode(), text.encode()))


@pytest.mark.parametrize(
    ("pattern", "satisfied"),
    [
        ("/vmlinuz root=LABEL=root ro quiet", True),
        ("/vmlinuz* root=LABEL=* ro quiet", True),
        ("/vmlinuz root=LABEL=root ro", False),
        ("/vmlinuz", False),
        ("root=LABEL=root ro quiet", False),
        (".*", False),
        ("", False),
    ],
)
def test_a_pattern_must_match_the_whole_command_line(pattern: str, satisfied: bool) -> None:  # noqa: FBT001 - a table
    assert _found(LOG, _only(command_lines=(pattern,))) == ([] if satisfied else [FindingId.UEFI_COMMAND_LINE])


def test_one_of_several_patterns_is_enough() -> None:
    assert _found(LOG, _only(command_lines=("other", LINE))) == []


def test_every_command_line_must_match() -> None:
    log = _kernel("/vmlinuz init=/bin/sh\n")
    finding = _one(claims_of(log), _only(command_lines=(LINE,)))
    assert finding.id is FindingId.UEFI_COMMAND_LINE
    assert finding.seen == r"'/vmlinuz init=/bin/sh\n'"
    assert finding.where == "sha256 PCR 8"
    assert finding.event


def test_a_finding_shows_the_beginning_of_a_long_command_line() -> None:
    finding = _one(claims_of(_kernel("/" + "x" * 5000)), _only(command_lines=(LINE,)))
    assert finding.seen == f"'/{'x' * 1023}'"


def test_no_command_line_is_not_enough() -> None:
    none = replace(LOG, events=tuple(event for event in LOG.events if event.pcr != 8))
    assert _one(claims_of(none), _only(command_lines=(LINE,))).seen == "no measurement of a command line"


@pytest.mark.parametrize("pcr", [8, 9, 12])
def test_every_pcr_that_may_hold_a_command_line_must_be_proved(pcr: int) -> None:
    finding = judge_boot(_unproved(LOG, pcr), _only(command_lines=(LINE,)))[0]
    assert finding.id is FindingId.UEFI_COMMAND_LINE
    assert finding.seen == f"PCR {pcr} not proved"


def test_a_command_line_that_is_not_proved_is_found() -> None:
    hidden = replaced(LOG, place_of(LOG, 8, b"initrd"), data=b"grub_cmd: harmless")
    assert _found(claims_of(hidden, quote_of(LOG)), _only(command_lines=(LINE,))) == [FindingId.UEFI_EVENT]


def test_a_section_must_be_one_that_is_allowed() -> None:
    changed = good_log(SampleBoot(command_line="root=x", sections=((".linux", b"evil"), (".initrd", b"initrd"))))
    finding = _one(claims_of(changed), _only(sections=UNIFIED_RULES.sections))
    assert finding.id is FindingId.UEFI_SECTION
    assert finding.expected == _digest(b"kernel").hex()
    assert finding.seen == f".linux {_digest(b'evil').hex()}"


@pytest.mark.parametrize(
    ("sentence", "sections"),
    [
        ("one is missing", ((".linux", b"kernel"),)),
        ("one more than allowed", ((".linux", b"kernel"), (".initrd", b"initrd"), (".cmdline", b"evil"))),
        ("one twice with another content", ((".linux", b"kernel"), (".initrd", b"initrd"), (".initrd", b"evil"))),
    ],
)
def test_sections_must_be_those_that_are_named(sentence: str, sections: tuple[tuple[str, bytes], ...]) -> None:
    log = good_log(SampleBoot(sections=sections))
    assert _found(log, _only(sections=UNIFIED_RULES.sections)) == [FindingId.UEFI_SECTION], sentence


def test_what_pcr_11_holds_beside_sections_is_found() -> None:
    more = appended(UNIFIED, measured(11, EventType.IPL, b"something"))
    finding = _one(claims_of(more), _only(sections=UNIFIED_RULES.sections))
    assert finding.seen.startswith("something without a name")


def test_a_file_that_is_not_allowed_is_found() -> None:
    changed = good_log(replace(CHAIN, initrd=b"evil"))
    finding = _one(claims_of(changed), _only(files=RULES.files))
    assert finding.id is FindingId.UEFI_FILE
    assert "/initrd.img" in finding.event


def test_no_file_at_all_is_not_enough() -> None:
    none = replace(LOG, events=tuple(event for event in LOG.events if event.pcr != 9))
    assert _one(claims_of(none), _only(files=RULES.files)).seen == "no measurement of a file"
    assert _one(_unproved(LOG, 9), _only(files=RULES.files)).seen == "PCR 9 not proved"


def test_every_partition_table_must_be_allowed() -> None:
    second = appended(LOG, measured(5, EventType.EFI_GPT_EVENT, b"EFI PART of another disk"))
    assert _found(second, _only(gpt=RULES.gpt)) == [FindingId.UEFI_PARTITIONS]


def test_no_partition_table_is_not_enough() -> None:
    none = without(LOG, place_of(LOG, 5, b"EFI PART"))
    assert _one(claims_of(none), _only(gpt=RULES.gpt)).seen == "no measurement of a partition table"
    assert _one(_unproved(LOG, 5), _only(gpt=RULES.gpt)).seen == "PCR 5 not proved"


def test_rules_in_another_bank_are_not_satisfied() -> None:
    other = rules_from(claims_of(good_log(CHAIN, (SHA256,))))
    assert _found(_unproved(LOG), other) == []
    images = tuple(Image(name=image.name, digests=frozenset([b"\1" * 48])) for image in RULES.images or ())
    assert set(_found(LOG, _only(images=images))) == {FindingId.UEFI_IMAGE}


def test_many_alternatives_are_cut_short() -> None:
    signers = tuple(Signer(sha256=bytes([n]) * 32, name=f"CA {n}") for n in range(5))
    assert judge_boot(claims_of(LOG), _only(signers=signers))[0].expected == "CA 0 or CA 1 or CA 2 or 2 more"


def test_a_dbx_may_hold_more_than_the_floor() -> None:
    found: Any = SimpleNamespace(proved=True, forbidden_images=lambda: frozenset([REVOKED_IMAGE, b"\1" * 32]))
    claims = replace(claims_of(LOG), secure_boot=found)
    assert _found(claims, _only(dbx=frozenset([REVOKED_IMAGE]))) == []


# Findings name the PCR that must be looked at, and what is not proved meets no rule


@pytest.mark.parametrize(
    ("rules", "pcr", "finding"),
    [
        (_only(dma_protection=True), 7, FindingId.UEFI_DMA),
        (_only(signers=RULES.signers), 7, FindingId.UEFI_SIGNER),
        (_only(dbx=frozenset([REVOKED_IMAGE])), 7, FindingId.UEFI_DBX),
        (_only(images=RULES.images), 4, FindingId.UEFI_IMAGE),
        (_only(drivers=RULES.drivers), 2, FindingId.UEFI_DRIVER),
        (_only(gpt=RULES.gpt), 5, FindingId.UEFI_PARTITIONS),
        (_only(loader_conf=frozenset([b"\1" * 32])), 5, FindingId.UEFI_LOADER_CONF),
        (_only(addons=RULES.images), 12, FindingId.UEFI_ADDON),
        (_only(files=RULES.images), 9, FindingId.UEFI_FILE),
    ],
)
def test_a_rule_on_a_pcr_that_is_not_proved_is_not_met(rules: BootRules, pcr: int, finding: FindingId) -> None:
    found = _one(_unproved(LOG, pcr), rules)
    assert (found.id, found.where) == (finding, f"sha256 PCR {pcr}")


def _file(digest: bytes, pcr: int) -> Any:
    event: Any = SimpleNamespace(pcr=pcr, number=1)
    return SimpleNamespace(digest=digest, measurement=SimpleNamespace(event=event, index=1))


@pytest.mark.parametrize(
    ("rules", "measured", "met"),
    [
        (_only(loader_conf=frozenset([b"a" * 32])), {"loader_conf": b"a" * 32}, True),
        (_only(gpt=frozenset([b"a" * 32])), {"loader_conf": b"a" * 32, "gpt": b"a" * 32}, True),
        (
            _only(loader_conf=frozenset([b"a" * 32]), gpt=frozenset([b"a" * 32])),
            {"loader_conf": b"a" * 32, "gpt": b"a" * 32},
            True,
        ),
        (_only(gpt=frozenset([b"a" * 32])), {"loader_conf": b"b" * 32, "gpt": b"a" * 32}, False),
        (_only(loader_conf=frozenset([b"a" * 32])), {"loader_conf": b"b" * 32}, False),
        (_only(command_lines=("x",)), {"addons": b"b" * 32, "command_lines": b""}, False),
        (_only(addons=()), {"addons": b"b" * 32}, False),
    ],
)
def test_settings_and_addons_that_no_rule_lists_are_found(
    monkeypatch: pytest.MonkeyPatch, rules: BootRules, measured: dict[str, bytes], *, met: bool
) -> None:
    """Rules on partition tables look at settings, and rules on command lines at add-ons: names in a log are claims."""
    monkeypatch.setattr(boot_rules, "_objection", lambda _claims, finding, *_: finding)
    files = {name: (_file(digest, 5),) for name, digest in measured.items() if digest}
    claims: Any = SimpleNamespace(
        proved=frozenset(range(16)), **({"loader_conf": (), "addons": (), "gpt": (), "maybe_loader_conf": ()} | files)
    )
    found = [
        *boot_rules._gpt(claims, rules),
        *boot_rules._loader_conf(claims, rules),
        *boot_rules._addons(claims, rules),
    ]
    assert (found == []) is met


@pytest.mark.parametrize(("about_dma", "met"), [(True, False), (False, True)])
def test_a_word_on_dma_protection_is_found_where_it_stands(*, about_dma: bool, met: bool) -> None:
    word: Any = SimpleNamespace(is_about_dma=about_dma, text="DMA Protection Disabled", measurement=None)
    state: Any = SimpleNamespace(proved=True, words=(word,), unread=(), objections=())
    found = list(judge_boot(replace(claims_of(LOG), secure_boot=state), _only(dma_protection=True)))
    assert (found == []) is met
    assert [(each.id, each.where) for each in found] == ([] if met else [(FindingId.UEFI_DMA, "sha256 PCR 7")])
