"""Updates predicted from their files alone, then really booted: the software TPM ends up with what was predicted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from nodeseal.appraisal.offline import appraise_folder
from nodeseal.errors import MalformedInput
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.predict import predict
from nodeseal.golden.predicted_events import Renaming, Replacement
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event, EventLog, encode_event_log
from nodeseal.uefi.event_log_binding import bound_data
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.image_load import decode_image_load
from nodeseal.uefi.pe import authenticode_digest, decode_pe
from support.boot_logs import claims_of
from support.pe_images import Shape, build_pe, build_uki
from support.real_machines import Observed, an_observed_machine, captured, is_whole, real_boot_logs
from support.uefi import file_name

SHA256 = HashAlg.SHA256
IMAGES = (
    EventType.EFI_BOOT_SERVICES_APPLICATION,
    EventType.EFI_BOOT_SERVICES_DRIVER,
    EventType.EFI_RUNTIME_SERVICES_DRIVER,
)
BANKS = (HashAlg.SHA256, HashAlg.SHA384)
KERNEL, NEW_KERNEL = build_pe([(".text", b"kernel 6.1")]), build_pe([(".text", b"kernel 6.12"), (".data", b"more")])
GRUB = SampleBoot(
    shim=build_pe([(".text", b"shim 15.7"), (".sbat", b"sbat,1")], Shape(certificates=b"signed" * 4)),
    boot_loader=build_pe([(".text", b"grub 2.06")]),
    kernel=KERNEL,
    initrd=b"initrd of 6.1",
    command_line="/vmlinuz-6.1 root=LABEL=root ro quiet",
    option_rom=build_pe([(".text", b"network card 1.0")]),
)
UKI = SampleBoot(unified=build_uki(KERNEL, "root=LABEL=root quiet"))
NEW_SHIM = build_pe([(".text", b"shim 15.8"), (".sbat", b"sbat,2")], Shape(certificates=b"signed again" * 2))
RESIGNED_SHIM = build_pe([(".text", b"shim 15.7"), (".sbat", b"sbat,1")], Shape(checksum=7, certificates=b"other" * 8))
NEW_GRUB = build_pe([(".text", b"grub 2.12")], Shape(trailing=b"trailing"))
NEW_UKI = build_uki(NEW_KERNEL, "root=LABEL=root quiet mitigations=auto", b"initrd of 6.12")
LARGER_UKI = build_pe(
    [
        (".text", b"stub"),
        (".sbat", b"sbat,1"),
        (".osrel", b"ID=new\n"),
        (".cmdline", b"root=LABEL=root"),
        (".ucode", b"microcode"),
        (".initrd", b"initrd of 6.12"),
        (".splash", b"BM"),
        (".dtb", b"\xd0\x0d\xfe\xed"),
        (".uname", b"6.12.0"),
        (".pcrpkey", b"PEM"),
        (".linux", NEW_KERNEL),
    ]
)
SMALLER_UKI = build_pe([(".osrel", b"ID=new\n"), (".linux", NEW_KERNEL)])
BARE_KERNEL_UKI = build_uki(b"a kernel that is no PE image", "root=LABEL=root quiet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What is booted before and after, and the files and words that are known of it beforehand."""

    before: SampleBoot
    after: SampleBoot
    files: Sequence[tuple[str, bytes]] = ()
    words: Sequence[tuple[str, str]] = ()
    moved: frozenset[int]


def unified(image: bytes, *moved: int, before: SampleBoot = UKI) -> Update:
    return Update(before=before, after=SampleBoot(unified=image), files=[("linux.efi", image)], moved=frozenset(moved))


KERNEL_WORDS = Update(
    before=GRUB,
    after=replace(GRUB, command_line="/vmlinuz-6.12 root=LABEL=root ro quiet", kernel=NEW_KERNEL, initrd=b"new"),
    files=[("vmlinuz", NEW_KERNEL), ("initrd.img", b"new")],
    words=[("6.1", "6.12")],
    moved=frozenset({4, 8, 9}),
)
STUBBED = SampleBoot(sections=((".linux", b"kernel"), (".initrd", b"initrd")), command_line="root=x quiet")
UPDATES = {
    "shim": Update(
        before=GRUB, after=replace(GRUB, shim=NEW_SHIM), files=[("shimx64.efi", NEW_SHIM)], moved=frozenset({4})
    ),
    "shim that was only signed anew": Update(
        before=GRUB, after=replace(GRUB, shim=RESIGNED_SHIM), files=[("shimx64.efi", RESIGNED_SHIM)], moved=frozenset()
    ),
    "boot loader": Update(
        before=GRUB, after=replace(GRUB, boot_loader=NEW_GRUB), files=[("GRUBX64.EFI", NEW_GRUB)], moved=frozenset({4})
    ),
    "kernel": Update(
        before=GRUB, after=replace(GRUB, kernel=NEW_KERNEL), files=[("vmlinuz", NEW_KERNEL)], moved=frozenset({4, 9})
    ),
    "initial RAM disk": Update(
        before=GRUB, after=replace(GRUB, initrd=b"new"), files=[("initrd.img", b"new")], moved=frozenset({9})
    ),
    "option ROM": Update(
        before=GRUB,
        after=replace(GRUB, option_rom=NEW_GRUB),
        files=[("option-rom.efi", NEW_GRUB)],
        moved=frozenset({2}),
    ),
    "kernel, initial RAM disk and the words that name them": KERNEL_WORDS,
    "words of GRUB's command line": Update(
        before=GRUB,
        after=replace(GRUB, command_line="/vmlinuz-6.1 root=LABEL=root ro debug"),
        words=[("quiet", "debug")],
        moved=frozenset({8}),
    ),
    "words of the stub's command line": Update(
        before=STUBBED,
        after=replace(STUBBED, command_line="root=x debug"),
        words=[("quiet", "debug")],
        moved=frozenset({9, 12}),
    ),
    "unified kernel image": unified(NEW_UKI, 4, 9, 11),
    "unified kernel image with more sections": unified(LARGER_UKI, 4, 9, 11),
    "unified kernel image with fewer sections than before": unified(
        NEW_UKI, 4, 9, 11, before=SampleBoot(unified=LARGER_UKI)
    ),
    "unified kernel image whose kernel alone is new": unified(build_uki(NEW_KERNEL, "root=LABEL=root quiet"), 4, 11),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with an_observed_machine(tmp_path_factory.mktemp("agent")) as observed:
        yield observed


def booted(machine: Observed, chain: SampleBoot) -> EvidenceFolder:
    return machine.booted(sample_boot_log(chain, BANKS), BANKS)


def predicted(golden: Golden, update: Update, *, keep: bool = False) -> Golden:
    files = [Replacement(target=target, content=content) for target, content in update.files]
    words = [Renaming(old=old, new=new) for old, new in update.words]
    return predict(golden, files, words, name="next", keep=keep).golden


def moved(before: Golden, after: Golden) -> set[int]:
    return {pcr for bank, pcr, allowed in after.rows() if before.pcrs[bank][pcr] != allowed}


@pytest.mark.parametrize("name", UPDATES)
def test_the_tpm_ends_up_with_what_was_predicted(machine: Observed, name: str) -> None:
    update = UPDATES[name]
    old = booted(machine, update.before)
    golden = captured(old, "now")
    following = predicted(golden, update)
    new = booted(machine, update.after)
    for bank, pcr, allowed in following.rows():
        assert allowed == {machine.machine.read_pcrs(bank.hashlib_name)[pcr]}, (bank.name, pcr)
    assert moved(golden, following) == update.moved
    assert appraise_folder(new, [following]).findings == ()
    assert appraise_folder(old, [following]).trusted is not bool(update.moved)


@pytest.mark.parametrize("name", UPDATES)
def test_what_is_kept_allows_the_boot_before_and_after(machine: Observed, name: str) -> None:
    update = UPDATES[name]
    old = booted(machine, update.before)
    both = predicted(captured(old, "now"), update, keep=True)
    new = booted(machine, update.after)
    assert [appraise_folder(folder, [both]).findings for folder in (old, new)] == [(), ()]


@pytest.mark.parametrize("name", UPDATES)
def test_rules_over_events_are_predicted_too(machine: Observed, name: str) -> None:
    update = UPDATES[name]
    old = booted(machine, update.before)
    golden = captured(old, "now", rules=True)
    new = booted(machine, update.after)
    assert appraise_folder(new, [predicted(golden, update)]).findings == ()
    if "sections" in name:
        with pytest.raises(MalformedInput, match="with and one without a section"):
            predicted(golden, update, keep=True)
    else:
        both = predicted(golden, update, keep=True)
        assert [appraise_folder(folder, [both]).findings for folder in (old, new)] == [(), ()]


def test_a_boot_that_is_not_the_predicted_one_is_refused_by_the_event_that_differs(machine: Observed) -> None:
    golden = captured(booted(machine, GRUB), "now")
    following = predicted(golden, UPDATES["boot loader"])
    other = booted(machine, replace(GRUB, boot_loader=NEW_SHIM))
    findings = appraise_folder(other, [following]).findings
    assert {finding.id for finding in findings} == {FindingId.PCR_MISMATCH}
    assert [finding.where.partition(" PCR")[0] for finding in findings] == ["sha256", "sha384"]
    assert all("grubx64.efi" in finding.event for finding in findings)


# Real machines: what an update does to their logs is worked out here, event by event, and booted.


@pytest.fixture(scope="module")
def real_machines(machine: Observed) -> list[tuple[EventLog, Golden]]:
    logs = [(name, raw, log) for name, raw, log in real_boot_logs() if log is not None and is_whole(log)]
    return [(log, captured(machine.booted(raw), name)) for name, raw, log in logs]


def check_boot(machine: Observed, log: EventLog, following: Golden) -> None:
    folder = machine.booted(encode_event_log(log))
    assert appraise_folder(folder, [following]).findings == (), following.name


def test_a_boot_image_of_a_real_machine_is_replaced_as_predicted(
    machine: Observed, real_machines: list[tuple[EventLog, Golden]]
) -> None:
    new_digest, replaced = authenticode_digest(decode_pe(NEW_GRUB), SHA256), 0
    for log, golden in real_machines:
        target = next((name for name in map(image_name, reversed(log.events)) if name), None)
        if target is None:
            continue
        events = tuple(
            replace(event, digests={**event.digests, SHA256: new_digest}) if image_name(event) == target else event
            for event in log.events
        )
        files = [Replacement(target=target, content=NEW_GRUB)]
        check_boot(machine, replace(log, events=events), predict(golden, files, (), name="next", keep=False).golden)
        replaced += 1
    assert replaced > 30


def image_name(event: Event) -> str:
    """Return the file name of an image that firmware loaded, or nothing."""
    try:
        image = decode_image_load(event.data) if event.claimed_type in IMAGES else None
    except MalformedInput:
        return ""
    return file_name(image) if image else ""


def test_words_of_a_real_machines_command_line_are_replaced_as_predicted(
    machine: Observed, real_machines: list[tuple[EventLog, Golden]]
) -> None:
    replaced = 0
    for log, golden in real_machines:
        words = [word for line in claims_of(log).command_lines for word in (line.text or "").split(" ")]
        for old in [word for word in words if re.fullmatch(r"[\w./=-]{8,}", word)][:2]:
            following = predict(golden, (), [Renaming(old=old, new=f"{old}-new")], name="next", keep=False).golden
            check_boot(machine, reworded(log, old, f"{old}-new"), following)
            replaced += 1
    assert replaced > 40


def reworded(log: EventLog, old: str, new: str) -> EventLog:
    """Return the log of a machine whose boot loader has other words in its commands and command lines."""
    moved: dict[bytes, bytes] = {}
    for event in log.extended():
        data = bound_data(event, SHA256) if event.pcr > 7 else None
        for encoding in ("utf-8", "utf-16-le") if data is not None else ():
            before, after = old.encode(encoding), new.encode(encoding)
            if data is not None and before in data:
                moved[SHA256.digest(data)] = SHA256.digest(data.replace(before, after))
                moved |= dict(load_options(data.decode(encoding).removesuffix("\0"), old, new))
    return replace(log, events=tuple(replace(event, digests=_moved(event, moved)) for event in log.events))


def load_options(line: str, old: str, new: str) -> Iterator[tuple[bytes, bytes]]:
    for spelling in (f"BOOT_IMAGE={line}\0", f"BOOT_IMAGE={line}", f"{line}\0"):
        before, after = spelling.encode("utf-16-le"), spelling.replace(old, new).encode("utf-16-le")
        yield SHA256.digest(before), SHA256.digest(after)


def _moved(event: Event, moved: Mapping[bytes, bytes]) -> dict[HashAlg, bytes]:
    return {bank: moved.get(digest, digest) for bank, digest in event.digests.items()}
