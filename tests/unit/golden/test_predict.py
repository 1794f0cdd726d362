"""Predictions: what a golden allows after files were replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.golden.model import Golden
from nodeseal.golden.predict import Prediction, predict
from nodeseal.golden.predicted_events import Renaming, Replacement
from nodeseal.golden.rules import BootRules, Image, ReferenceEvent
from nodeseal.inert import inert
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.pe import authenticode_digest, decode_pe, stub_measurements
from support.pe_images import build_pe, build_uki

SHA256 = HashAlg.SHA256
SHIM, GRUB = build_pe([(".text", b"shim")]), build_pe([(".text", b"grub")])
NEW_GRUB = build_pe([(".text", b"grub 2")])
KERNEL, NEW_KERNEL = build_pe([(".text", b"kernel")]), build_pe([(".text", b"kernel 2")])
UKI, NEW_UKI = build_uki(KERNEL, "quiet"), build_uki(NEW_KERNEL, "quiet splash")


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _authenticode(raw: bytes) -> bytes:
    return authenticode_digest(decode_pe(raw), SHA256)


def _event(pcr: int, kind: EventType, digest: bytes, what: str) -> ReferenceEvent:
    return ReferenceEvent(pcr=pcr, claimed_type=kind, digests={SHA256: digest}, what=what)


def _image(raw: bytes, what: str) -> ReferenceEvent:
    return _event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, _authenticode(raw), what)


def _text(pcr: int, shown: str, measured: bytes) -> ReferenceEvent:
    return _event(pcr, EventType.IPL, _sha256(measured), shown)


def _extended(digests: Sequence[bytes]) -> bytes:
    value = bytes(32)
    for digest in digests:
        value = _sha256(value + digest)
    return value


def _golden(events: Sequence[ReferenceEvent], boot: BootRules | None = None) -> Golden:
    pcrs = sorted({event.pcr for event in events})
    values = {pcr: _extended([e.digests[SHA256] for e in events if e.pcr == pcr]) for pcr in pcrs}
    pinned = {SHA256: {pcr: frozenset({value}) for pcr, value in values.items()}}
    return Golden(name="now", pcrs=pinned, boot=boot, reference=tuple(events))


GRUB_BOOT = (
    _event(4, EventType.EFI_ACTION, _sha256(b"Calling EFI Application from Boot Option"), "Calling EFI Application"),
    _image(SHIM, r"\EFI\debian\shimx64.efi"),
    _image(GRUB, r"\EFI\debian\grubx64.efi"),
    _text(8, "grub_cmd: linux /vmlinuz-6.1.0-30 ro", b"linux /vmlinuz-6.1.0-30 ro\0"),
    _event(9, EventType.IPL, _sha256(KERNEL), "(hd0,gpt1)/vmlinuz-6.1.0-30"),
)


def _sections(raw: bytes) -> list[ReferenceEvent]:
    measured = stub_measurements(decode_pe(raw), SHA256)
    return [_event(11, EventType.IPL, digest, name) for name, *digests in measured for digest in digests]


UKI_BOOT = (
    _image(UKI, r"\EFI\Linux\linux.efi"),
    _image(KERNEL, "no path"),
    *_sections(UKI),
    _event(11, EventType.IPL, _sha256(b"enter-initrd"), "systemd: enter-initrd"),
)


def _predict(golden: Golden, *files: tuple[str, bytes], rename: Sequence[Renaming] = (), keep: bool = False) -> Golden:
    replacements = [Replacement(target=target, content=content) for target, content in files]
    return predict(golden, replacements, rename, name="next", keep=keep).golden


def _value(golden: Golden, pcr: int) -> bytes:
    (value,) = golden.pcrs[SHA256][pcr]
    return value


def test_a_replaced_image_has_its_digest_in_its_place_and_moves_its_pcr_alone() -> None:
    before = _golden(GRUB_BOOT)
    after = _predict(before, ("GRUBX64.EFI", NEW_GRUB))
    assert _value(after, 4) == _extended(
        [GRUB_BOOT[0].digests[SHA256], _authenticode(SHIM), _authenticode(NEW_GRUB)],
    )
    assert {pcr for pcr in (4, 8, 9) if after.pcrs[SHA256][pcr] != before.pcrs[SHA256][pcr]} == {4}
    assert (after.name, after.reference[2].digests) == ("next", {SHA256: _authenticode(NEW_GRUB)})


def test_a_file_that_the_boot_loader_reads_counts_with_its_whole_content() -> None:
    after = _predict(_golden(GRUB_BOOT), ("vmlinuz-6.1.0-30", NEW_KERNEL))
    assert _value(after, 9) == _extended([_sha256(NEW_KERNEL)])


def test_words_of_measured_texts_are_replaced_as_the_boot_loader_hashes_them() -> None:
    rename = [Renaming(old="6.1.0-30", new="6.1.0-31")]
    after = _predict(_golden(GRUB_BOOT), ("vmlinuz-6.1.0-30", NEW_KERNEL), rename=rename)
    assert _value(after, 8) == _extended([_sha256(b"linux /vmlinuz-6.1.0-31 ro\0")])
    assert after.reference[4].what == "(hd0,gpt1)/vmlinuz-6.1.0-31"
    assert _value(after, 9) == _extended([_sha256(NEW_KERNEL)])


def test_words_are_replaced_in_menus_of_several_lines_and_not_in_what_firmware_is_said_to_have_measured() -> None:
    menu = "menuentry 'Linux 6.1.0-30' {\n\tlinux /vmlinuz-6.1.0-30 ro\n}"
    shown = _text(8, inert(f"grub_cmd: {menu}"), menu.encode())
    firmware = _event(0, EventType.S_CRTM_VERSION, _sha256(b"version"), "version 6.1.0-30")
    before = _golden((firmware, *GRUB_BOOT[:3], shown))
    after = _predict(before, rename=[Renaming(old="6.1.0-30", new="6.1.0-31")])
    assert _value(after, 8) == _extended([_sha256(menu.replace("-30", "-31").encode())])
    assert _value(after, 0) == _value(before, 0)


def test_load_options_that_are_a_renamed_command_line_follow_it() -> None:
    line, after = "/vmlinuz-6.1.0-30 ro", "/vmlinuz-6.1.0-31 ro"
    options = _event(9, EventType.EVENT_TAG, _wide(f"BOOT_IMAGE={line}\0"), "load options: LOADED_IMAGE::LoadOptions")
    shown = _text(8, f"kernel_cmdline: {line}", line.encode())
    rules = BootRules(images=(Image(name="any", digests=frozenset({bytes(32)})),), command_lines=(line, "rescue"))
    rename = [Renaming(old="6.1.0-30", new="6.1.0-31")]
    moved = _predict(_golden((*GRUB_BOOT, shown, options), rules), rename=rename)
    assert _value(moved, 9) == _extended([_sha256(KERNEL), _wide(f"BOOT_IMAGE={after}\0")])
    assert moved.boot is not None
    assert moved.boot.command_lines == (after, "rescue")


def _wide(text: str) -> bytes:
    return _sha256(text.encode("utf-16-le"))


def test_a_unified_kernel_image_moves_its_own_digest_its_kernel_and_its_sections() -> None:
    after = _predict(_golden(UKI_BOOT), ("linux.efi", NEW_UKI))
    assert _value(after, 4) == _extended([_authenticode(NEW_UKI), _authenticode(NEW_KERNEL)])
    sections = [event.digests[SHA256] for event in _sections(NEW_UKI)]
    assert _value(after, 11) == _extended([*sections, _sha256(b"enter-initrd")])


def test_a_unified_kernel_image_may_have_more_sections_than_before() -> None:
    more = build_pe(
        [
            (".osrel", b"ID=x"),
            (".linux", NEW_KERNEL),
            (".cmdline", b""),
            (".initrd", b"i"),
            (".dtb", b"d"),
            (".uname", b"7"),
            (".sbat", b"s"),
            (".splash", b"p"),
        ]
    )
    prediction: Prediction = predict(
        _golden(UKI_BOOT), [Replacement(target="linux.efi", content=more)], (), name="next", keep=False
    )
    sections = [event.digests[SHA256] for event in _sections(more)]
    assert _value(prediction.golden, 11) == _extended([*sections, _sha256(b"enter-initrd")])
    assert [old for old, _ in prediction.changed].count(None) == 6


def test_rules_by_digest_follow_and_keep_what_was_allowed_only_when_asked() -> None:
    rules = BootRules(
        images=(Image(name="grubx64.efi", digests=frozenset({_authenticode(GRUB)})),),
        files=(Image(name="vmlinuz", digests=frozenset({_sha256(KERNEL)})),),
    )
    before = _golden(GRUB_BOOT, rules)
    files = ("grubx64.efi", NEW_GRUB), ("vmlinuz-6.1.0-30", NEW_KERNEL)
    after, both = _predict(before, *files).boot, _predict(before, *files, keep=True)
    assert after is not None
    assert both.boot is not None
    assert [image.digests for image in after.images or ()] == [{_authenticode(NEW_GRUB)}]
    assert [image.digests for image in after.files or ()] == [{_sha256(NEW_KERNEL)}]
    assert [image.digests for image in both.boot.images or ()] == [{_authenticode(GRUB), _authenticode(NEW_GRUB)}]
    assert before.pcrs[SHA256][4] < both.pcrs[SHA256][4]


def test_section_rules_follow() -> None:
    rules = BootRules(
        images=(Image(name="linux.efi", digests=frozenset({_authenticode(UKI)})),),
        sections={".cmdline": frozenset({_sha256(b"quiet")})},
    )
    after = _predict(_golden(UKI_BOOT, rules), ("linux.efi", NEW_UKI)).boot
    assert after is not None
    assert after.sections is not None
    assert after.sections[".cmdline"] == {_sha256(b"quiet splash")}


@pytest.mark.parametrize(
    ("files", "rename", "complaint"),
    [
        pytest.param([("grub.efi", NEW_GRUB)], [], "no reference event is about 'grub.efi'", id="unknown file"),
        pytest.param([("99", NEW_GRUB)], [], "no reference event is about '99'", id="number beyond the reference"),
        pytest.param([("grubx64.efi", b"\x7fELF")], [], "not a PE image", id="no image for an image"),
        pytest.param([], [Renaming(old="6.2", new="6.3")], "no measured text", id="words that are nowhere"),
    ],
)
def test_what_cannot_be_predicted_is_refused(
    files: list[tuple[str, bytes]], rename: list[Renaming], complaint: str
) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        _predict(_golden(GRUB_BOOT), *files, rename=rename)


def test_a_text_whose_digest_is_of_something_else_is_not_guessed() -> None:
    odd = _text(8, "grub_cmd: linux /vmlinuz-6.1.0-30", b"something else")
    with pytest.raises(MalformedInput, match="is not of its text"):
        _predict(_golden((*GRUB_BOOT[:3], odd)), rename=[Renaming(old="6.1.0-30", new="6.1.0-31")])


def test_firmware_itself_is_not_predicted_and_a_golden_without_reference_neither() -> None:
    firmware = _event(0, EventType.EFI_PLATFORM_FIRMWARE_BLOB, _sha256(b"blob"), "blob")
    with pytest.raises(MalformedInput, match="firmware's own"):
        _predict(_golden((firmware, *GRUB_BOOT)), ("0", b"x"))
    with pytest.raises(MalformedInput, match="holds no reference events"):
        _predict(replace(_golden(GRUB_BOOT), reference=()), ("grubx64.efi", NEW_GRUB))
