"""PCR 5, 8, 9, 11 and 12: command lines, files, sections and partition tables, known by what digests prove."""

from __future__ import annotations

import hashlib
import struct

import pytest

from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.uefi.event_log import Event, EventLog
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.tagged_event import loader_conf_event
from support.boot_logs import SHA256, appended, claims_of, good_log, measured, place_of, quote_of, replaced, without

LINE = "/vmlinuz root=LABEL=root ro quiet"
LOG = good_log()
UNIFIED = good_log(
    SampleBoot(
        command_line="root=LABEL=root",
        sections=((".linux", b"kernel"), (".cmdline", b"root=LABEL=root"), (".initrd", b"initrd")),
    )
)
IPL, TAG = EventType.IPL, EventType.EVENT_TAG


def _grub(prefix: str, text: str) -> Event:
    return measured(8, IPL, f"{prefix}{text}".encode() + b"\0", text.encode())


def _stub(text: str) -> Event:
    return measured(12, IPL, text.encode("utf-16-le") + b"\0\0")


def _options(text: str, end: bytes = b"\0\0") -> Event:
    data = struct.pack("<II", 0x8F3B22ED, 26) + b"LOADED_IMAGE::LoadOptions\0"
    return measured(9, TAG, data, text.encode("utf-16-le") + end)


def _lines(log: EventLog) -> list[tuple[str, str | None]]:
    return [(line.source, line.text) for line in claims_of(log).command_lines]


def _without_lines(log: EventLog) -> EventLog:
    for _ in range(2):
        log = without(log, place_of(log, 8, LINE.encode()))
    return log


def test_grubs_command_line_counts_once() -> None:
    assert _lines(LOG) == [("grub", LINE)]


def test_a_second_command_line_shows_up_too() -> None:
    assert _lines(appended(LOG, _grub("kernel_cmdline: ", "/evil init=/bin/sh"))) == [
        ("grub", LINE),
        ("grub", "/evil init=/bin/sh"),
    ]


@pytest.mark.parametrize("prefix", ["grub_cmd: ", "grub_cmd ", "", "set_option: "])
@pytest.mark.parametrize("text", ["/evil init=/bin/sh", "(hd0,gpt2)/evil init=/bin/sh"])
def test_a_command_line_that_is_called_something_else_is_still_one(prefix: str, text: str) -> None:
    assert ("grub", text) in _lines(appended(LOG, _grub(prefix, text)))


@pytest.mark.parametrize("command", ["linux", "linuxefi", "linux16", "chainloader"])
def test_a_linux_command_counts_without_its_command_line(command: str) -> None:
    log = appended(_without_lines(LOG), _grub("grub_cmd: ", f"{command} /evil init=/bin/sh"))
    assert _lines(log) == [("grub", "/evil init=/bin/sh")]


def test_a_linux_command_and_its_command_line_may_differ_in_quotes() -> None:
    command, line = 'linux /k dm=1 vroot x="y"', '/k "dm=1 vroot" x="\\"y\\""'
    log = appended(_without_lines(LOG), _grub("grub_cmd: ", command), _grub("kernel_cmdline: ", line))
    assert _lines(log) == [("grub", line)]


def test_a_kernel_whose_path_looks_like_a_command_line_passes_for_none() -> None:
    # linux "/k ro": GRUB starts the file "k ro" without parameters, and quotes its path because of the space
    log = appended(_without_lines(LOG), _grub("grub_cmd: ", "linux /k ro"), _grub("grub_cmd: ", '"/k ro"'))
    assert _lines(log) == [("grub", '"/k ro"')]


@pytest.mark.parametrize("prefix", ["kernel_cmdline: ", "grub_kernel_cmdline ", "kernel_cmdline "])
def test_what_is_called_a_command_line_is_one_even_without_a_path(prefix: str) -> None:
    assert ("grub", "vmlinuz evil") in _lines(appended(LOG, _grub(prefix, "vmlinuz evil")))


@pytest.mark.parametrize("text", ["set timeout=5", "[ -f /grub/grubenv ]", "menuentry a {\n  linux /k\n}", "linuxa /k"])
def test_other_commands_are_none(text: str) -> None:
    assert _lines(appended(LOG, _grub("grub_cmd: ", text))) == _lines(LOG)


def test_a_line_that_no_digest_covers_is_not_believed() -> None:
    at = place_of(LOG, 8, b"initrd")
    swapped = replaced(LOG, at, data=b"grub_cmd: swapped")
    lines = claims_of(swapped, quote_of(LOG)).command_lines
    assert [(line.source, line.text) for line in lines] == [("grub", None), ("grub", LINE)]


def test_text_that_is_no_utf_8_is_spelled_out() -> None:
    event = measured(8, IPL, b"kernel_cmdline: /k \xff\0", b"/k \xff")
    assert ("grub", "/k \\xff") in _lines(appended(LOG, event))


def test_systemd_boot_measured_into_pcr_8_before_it_measured_into_pcr_12() -> None:
    text = "/vmlinuz root=x".encode("utf-16-le") + b"\0\0"
    assert ("systemd-stub", "/vmlinuz root=x") in _lines(appended(LOG, measured(8, IPL, text)))


def test_a_stub_measures_its_command_line_into_pcr_12() -> None:
    assert _lines(UNIFIED) == [("systemd-stub", "root=LABEL=root")]
    assert _lines(appended(UNIFIED, _stub("init=/bin/sh")))[1:] == [("systemd-stub", "init=/bin/sh")]


def test_what_no_digest_covers_in_pcr_12_is_known_by_its_digest() -> None:
    log = appended(UNIFIED, measured(12, IPL, b"credentials", b"cpio"))
    assert [(each.name, each.digest) for each in claims_of(log).addons] == [("credentials", SHA256.digest(b"cpio"))]
    assert claims_of(UNIFIED).addons == ()


def test_settings_of_systemd_boot_are_no_partition_table() -> None:
    log = appended(LOG, measured(5, EventType.EVENT_TAG, loader_conf_event(), b"timeout 3"))
    assert claims_of(log).gpt == claims_of(LOG).gpt
    assert [each.digest for each in claims_of(log).loader_conf] == [SHA256.digest(b"timeout 3")]


@pytest.mark.parametrize("text", ["\u6f22\u5b57 init=/bin/sh", "\ud800 init=/bin/sh", "\x01 init=/bin/sh"], ids=ascii)
def test_text_in_pcr_12_counts_whatever_it_begins_with(text: str) -> None:
    data = text.encode("utf-16-le", "surrogatepass") + b"\0\0"
    assert ("systemd-stub", text) in _lines(appended(UNIFIED, measured(12, IPL, data)))


@pytest.mark.parametrize("data", [bytes(4), b"WBCL", b"\1\2\3", b"\1\0\2\0\0\0\3\0"], ids=repr)
def test_what_is_proved_to_be_no_text_in_pcr_12_is_no_command_line(data: bytes) -> None:
    assert _lines(appended(UNIFIED, measured(12, TAG, data))) == _lines(UNIFIED)


@pytest.mark.parametrize("start", ["", "BOOT_IMAGE="])
@pytest.mark.parametrize("end", [b"", b"\0\0"])
def test_load_options_are_known_by_a_line_that_was_measured(start: str, end: bytes) -> None:
    log = appended(LOG, _options(start + LINE, end))
    assert _lines(log) == _lines(LOG)
    assert len(claims_of(log).files) == len(claims_of(LOG).files)


def test_load_options_are_known_whatever_they_are_called() -> None:
    log = appended(LOG, _options(LINE))
    called = replaced(log, len(log.events) - 1, data=b"/a/file\0", claimed_type=IPL)
    assert claims_of(called).files == claims_of(LOG).files


def test_load_options_that_are_of_no_line_are_not_believed_and_are_a_file() -> None:
    log = appended(LOG, _options("init=/bin/sh"))
    assert _lines(log) == [("grub", LINE), ("efi-stub", None)]
    assert len(claims_of(log).files) == len(claims_of(LOG).files) + 1


def test_every_event_of_pcr_9_is_a_file() -> None:
    files = claims_of(LOG).files
    assert [(file.name, file.digest) for file in files] == [
        ("/vmlinuz", hashlib.sha256(b"nodeseal sample kernel").digest()),
        ("/initrd.img", hashlib.sha256(b"nodeseal sample initrd").digest()),
    ]


def test_sections_are_known_by_the_digests_of_their_names() -> None:
    assert [(each.name, each.digest) for each in claims_of(UNIFIED).sections] == [
        (".linux", hashlib.sha256(b"kernel").digest()),
        (".cmdline", hashlib.sha256(b"root=LABEL=root").digest()),
        (".initrd", hashlib.sha256(b"initrd").digest()),
    ]


def test_what_a_section_claims_to_be_does_not_matter() -> None:
    renamed = UNIFIED
    for index, event in enumerate(UNIFIED.events):
        if event.pcr == 11:
            renamed = replaced(renamed, index, data=b".other\0", claimed_type=EventType.EFI_ACTION)
    names = [each.name for each in claims_of(renamed, quote_of(UNIFIED)).sections]
    assert names == [".linux", ".cmdline", ".initrd"]


def test_what_follows_no_name_is_a_section_without_one() -> None:
    log = appended(UNIFIED, measured(11, IPL, b".linux\0", b"evil"), measured(11, EventType.SEPARATOR, bytes(4)))
    assert [each.name for each in claims_of(log).sections][3:] == [""]


def test_a_section_whose_content_is_a_name_hides_nothing() -> None:
    name = measured(11, IPL, b".dtb\0")
    assert [each.name for each in claims_of(appended(UNIFIED, name, name)).sections][3:] == [".dtb"]


def test_partition_tables_are_known_by_their_content() -> None:
    at = place_of(LOG, 5, b"EFI PART")
    (table,) = claims_of(LOG).gpt
    assert table.digest == LOG.events[at].digests[SHA256]
    relabelled = replaced(LOG, at, claimed_type=EventType.EFI_ACTION)
    assert [each.digest for each in claims_of(relabelled).gpt] == [table.digest]


def test_an_event_of_pcr_5_that_no_digest_covers_may_be_a_partition_table() -> None:
    hidden = measured(5, EventType.EFI_ACTION, b"Exit Boot Services Invocation", b"EFI PART evil")
    assert [each.digest for each in claims_of(appended(LOG, hidden)).gpt][1:] == [hidden.digests[SHA256]]
