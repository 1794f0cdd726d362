"""Reference events after an update, with the digests that new files and new words give them.

These events change:

- boot images: their Authenticode digest (PCR 2 and 4);
- a unified kernel image: also its sections (PCR 11), its kernel, and what the kernel's stub measures of them (PCR 9);
- files that the boot loader reads: the hash of their content (PCR 9);
- texts such as command lines: the hash of the text with its words replaced (PCR 8 and 12), also where they are load
  options (PCR 9).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, TypeAlias

from nodeseal.errors import MalformedInput
from nodeseal.golden.rules import ReferenceEvent
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import FILE_PCR, FIRMWARE_PCRS, STUB_COMMAND_LINE_PCR, STUB_PCR
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.pe import (
    MEASURED_SECTIONS,
    PeImage,
    authenticode_digest,
    decode_pe,
    inner_kernel,
    is_pe,
    stub_measurements,
)
from nodeseal.uefi.tagged_event import LOAD_OPTIONS_NAME

_IMAGE_TYPES: Final = frozenset(
    {
        EventType.EFI_BOOT_SERVICES_APPLICATION,
        EventType.EFI_BOOT_SERVICES_DRIVER,
        EventType.EFI_RUNTIME_SERVICES_DRIVER,
    }
)
_SEPARATORS: Final = re.compile(r"[\\/]")
_NUMBER: Final = re.compile(r"[0-9]{1,5}")

Step: TypeAlias = tuple[ReferenceEvent | None, ReferenceEvent | None]
"""A reference event before and after the update; ``None`` where one side has no such event."""
Steps: TypeAlias = list[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A file that replaces another one.

    Attributes:
        target: file name of the old file as the reference events show it (without folders; upper or lower case), or
            the number of its event in the reference, from 0.
        content: the new file.
    """

    target: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """Words that change in measured texts, such as a kernel's version in the boot loader's commands."""

    old: str
    new: str


def replaced(steps: Steps, replacement: Replacement, banks: tuple[HashAlg, ...]) -> Steps:
    """Return ``steps`` with one file replaced.

    Raises:
        MalformedInput: the target is not among the events, or the file does not parse as what it replaces.
    """
    places = [i for i, (_, event) in enumerate(steps) if event is not None and _is_target(i, event, replacement.target)]
    if not places:
        raise MalformedInput(
            f"golden predict: no reference event is about {replacement.target!a}",
            remedy="name the file as `nodeseal golden show` lists it under reference, or give the event's number",
        )
    image = decode_pe(replacement.content) if is_pe(replacement.content) else None
    for place in places:
        old, event = steps[place]
        if event is None or event.pcr == 0:
            raise MalformedInput(f"golden predict: event {place} is firmware's own, which no file replaces")
        steps[place] = (old, replace(event, digests=_file_digests(event, replacement, image, banks)))
        if image is not None and image.unified_kernel and event.claimed_type in _IMAGE_TYPES:
            steps = _kernel_replaced(steps, place, image, banks)
    if image is not None and image.unified_kernel:
        steps = _sections_replaced(_handed_on(steps, image, banks), image, banks)
    return steps


def _is_target(index: int, event: ReferenceEvent, target: str) -> bool:
    if _NUMBER.fullmatch(target):
        return index == int(target)
    if event.claimed_type not in _IMAGE_TYPES and event.pcr != FILE_PCR:
        return False
    return _file_name(event.what).casefold() == target.casefold()


def _file_name(what: str) -> str:
    """Return the last component of the path that a reference event shows, or an empty text."""
    return _SEPARATORS.split(what)[-1].strip() if _SEPARATORS.search(what) else ""


def _file_digests(
    event: ReferenceEvent, replacement: Replacement, image: PeImage | None, banks: Iterable[HashAlg]
) -> Mapping[HashAlg, bytes]:
    if event.claimed_type not in _IMAGE_TYPES:
        return {bank: bank.digest(replacement.content) for bank in banks}
    if image is None:
        raise MalformedInput(
            f"golden predict: the file for {replacement.target!a} is not a PE image, but it replaces one"
        )
    return {bank: authenticode_digest(image, bank) for bank in banks}


def _kernel_replaced(steps: Steps, place: int, image: PeImage, banks: Iterable[HashAlg]) -> Steps:
    """Replace the image that follows a unified kernel image and has no path: the kernel that its stub loads."""
    kernel = inner_kernel(image)
    for i in range(place + 1, len(steps)):
        old, event = steps[i]
        if event is None or event.claimed_type not in _IMAGE_TYPES:
            continue
        if _file_name(event.what) == "" and kernel is not None:
            steps[i] = (old, replace(event, digests={bank: authenticode_digest(kernel, bank) for bank in banks}))
        break
    return steps


def _handed_on(steps: Steps, image: PeImage, banks: tuple[HashAlg, ...]) -> Steps:
    """Replace what a kernel measures of the sections that systemd-stub hands to it.

    The initial RAM disk is the section itself, if it was before. Load options are the command line in UTF-16 without
    surrounding white space, unless the boot loader gave others; those are then in PCR 12 (systemd: src/boot/stub.c).
    """
    contents = {section.name: image.content(section) for section in reversed(image.sections)}
    before = section_digests((event for _, event in steps), banks[0])
    after = {name: {bank: bank.digest(content) for bank in banks} for name, content in contents.items()}
    given = [event.digests for _, event in steps if event is not None and event.pcr == STUB_COMMAND_LINE_PCR]
    line = contents.get(".cmdline", b"").decode(errors="surrogateescape").strip(" \t\r\n\0")
    options = (line + "\0").encode("utf-16-le", errors="surrogatepass")
    new_line = ".cmdline" in after and after[".cmdline"] != before.get(".cmdline")
    replaced: Steps = []
    for old, event in steps:
        new = event
        if event is not None and event.pcr == FILE_PCR and event.digests == before.get(".initrd"):
            new = replace(event, digests=after.get(".initrd", event.digests))
        elif new_line and event is not None and LOAD_OPTIONS_NAME in event.what and event.digests not in given:
            new = replace(event, digests={bank: bank.digest(options) for bank in banks})
        replaced.append((old, new))
    return replaced


def section_digests(events: Iterable[ReferenceEvent | None], bank: HashAlg) -> Mapping[str, Mapping[HashAlg, bytes]]:
    """Return the digests of the sections' contents. Each follows the digest of the section's name."""
    names = {_name_digest(name, bank): name for name in MEASURED_SECTIONS}
    measured = [event for event in events if event is not None and event.pcr == STUB_PCR]
    named = ((names.get(name.digests[bank]), content) for name, content in pairwise(measured))
    return {name: content.digests for name, content in named if name is not None}


def _sections_replaced(steps: Steps, image: PeImage, banks: tuple[HashAlg, ...]) -> Steps:
    """Replace the events of PCR 11 from the first section's name to the last section's content."""
    places = [i for i, (_, event) in enumerate(steps) if event is not None and event.pcr == STUB_PCR]
    names = {_name_digest(name, bank) for name in MEASURED_SECTIONS for bank in banks}
    marks = [i for i in places if (event := steps[i][1]) and names & set(event.digests.values())]
    if not marks:
        return steps
    first, last = places.index(marks[0]), places.index(marks[-1]) + 1
    taken = places[first : last + 1]
    old = [steps[i] for i in taken]
    new = list(_section_events(image, banks, old[0][0]))
    pairs: Steps = []
    for i in range(max(len(old), len(new))):
        pairs.append((old[i][0] if i < len(old) else None, new[i] if i < len(new) else None))
    kept = [step for i, step in enumerate(steps) if i not in taken]
    at = taken[0]
    return kept[:at] + pairs + kept[at:]


def _section_events(
    image: PeImage, banks: tuple[HashAlg, ...], like: ReferenceEvent | None
) -> Iterator[ReferenceEvent]:
    claimed_type = like.claimed_type if like else EventType.IPL
    measured = {bank: list(stub_measurements(image, bank)) for bank in banks}
    for i, (name, _, _) in enumerate(measured[banks[0]]):
        of_name = {bank: rows[i][1] for bank, rows in measured.items()}
        of_content = {bank: rows[i][2] for bank, rows in measured.items()}
        yield ReferenceEvent(pcr=STUB_PCR, claimed_type=claimed_type, digests=of_name, what=name)
        yield ReferenceEvent(pcr=STUB_PCR, claimed_type=claimed_type, digests=of_content, what=name)


def renamed(steps: Steps, renaming: Renaming, banks: tuple[HashAlg, ...]) -> Steps:
    """Return ``steps`` with words changed.

    Raises:
        MalformedInput: no measured text has the old word, or a digest was not made of the text.
    """
    texts = {event.what for _, event in steps if event is not None and renaming.old in event.what}
    moved = {bank: dict(_moved(texts, renaming, bank)) for bank in banks}
    renamed: Steps = [(old, _with_words(event, renaming, moved) if event else None) for old, event in steps]
    if renamed == steps:
        raise MalformedInput(f"golden predict: no measured text of the reference has {renaming.old!a} in it")
    return renamed


def _moved(texts: Iterable[str], renaming: Renaming, bank: HashAlg) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over old and new digests of these texts, in all their spellings."""
    for text in texts:
        for before, after in zip(_spellings(text), _spellings(swap(text, renaming)), strict=True):
            yield bank.digest(before), bank.digest(after)


def _with_words(
    event: ReferenceEvent, renaming: Renaming, moved: Mapping[HashAlg, Mapping[bytes, bytes]]
) -> ReferenceEvent:
    what = swap(event.what, renaming)
    if all(digest in moved[bank] for bank, digest in event.digests.items()):
        return replace(event, digests={bank: moved[bank][digest] for bank, digest in event.digests.items()}, what=what)
    if renaming.old not in event.what:
        return event
    if event.claimed_type in _IMAGE_TYPES or event.pcr == FILE_PCR:  # its digest is of the file of that name
        return replace(event, what=what)
    if event.pcr in FIRMWARE_PCRS:  # what is shown only describes its data
        return event
    raise MalformedInput(f"golden predict: the digest of {event.what[:80]!a} (PCR {event.pcr}) is not of its text")


def swap(text: str, renaming: Renaming) -> str:
    """Return ``text`` with the new word for the old one."""
    return text.replace(renaming.old, renaming.new)


def _spellings(text: str) -> Iterator[bytes]:
    """Yield the byte sequences that boot loaders and kernels may hash for a text that is shown as ``text``.

    GRUB hashes what follows ``grub_cmd:`` or ``kernel_cmdline:``, with or without a final NUL
    (grub-core/commands/tpm.c); systemd-boot and -stub hash UTF-16 with its NUL (src/boot/measure.c); the kernel's EFI
    stub hashes its load options, for which GRUB puts ``BOOT_IMAGE=`` before the text.
    """
    lines = text.replace("\\n", "\n").replace("\\t", "\t")
    for part in (text, text.partition(" ")[2], lines.partition(" ")[2]):
        yield part.encode(errors="surrogateescape")
        yield part.encode(errors="surrogateescape") + b"\0"
        for options in (part, f"BOOT_IMAGE={part}"):
            yield options.encode("utf-16-le", errors="surrogatepass")
            yield options.encode("utf-16-le", errors="surrogatepass") + b"\0\0"


def _name_digest(section: str, bank: HashAlg) -> bytes:
    return bank.digest(section.encode() + b"\0")
