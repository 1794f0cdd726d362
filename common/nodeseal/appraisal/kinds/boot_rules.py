"""Hold what a boot log proves against a golden's boot rules.

Only what is proved satisfies a rule. A PCR that the log does not explain, a missing event, and an event whose data no
digest covers never do. A rule over several things, such as images, must hold for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from nodeseal.boot.claims import BootClaims
from nodeseal.boot.images import BootImage
from nodeseal.boot.loader import MeasuredFile
from nodeseal.boot.measured import Measurement, Objection
from nodeseal.boot.secure_boot import SecureBootMode
from nodeseal.findings import FindingId
from nodeseal.golden.patterns import command_line_matches
from nodeseal.golden.rules import BootRules, Image
from nodeseal.tpm.pcr_usage import COMMAND_LINE_PCRS

_SHOWN: Final = 3
_MAX_SHOWN: Final = 1024
"""Characters of a command line that a finding shows."""
_SECURE_MODES: Final = (SecureBootMode.USER, SecureBootMode.DEPLOYED)
_CHAIN_SHOWN: Final = 16
"""Images of a chain that a finding names."""


def judge_boot(claims: BootClaims, rules: BootRules) -> tuple[Objection, ...]:
    """Return every way in which ``claims`` fall short of ``rules``, each once; there may be thousands.

    Digests are compared as they are, so ``claims`` must have been proved in the bank of ``rules``.
    """
    found = (
        *_secure_boot(claims, rules),
        *_dma_protection(claims, rules),
        *_signers(claims, rules),
        *_images(claims, rules),
        *_drivers(claims, rules),
        *_dbx(claims, rules),
        *_command_lines(claims, rules),
        *_sections(claims, rules),
        *_files(claims, rules),
        *_gpt(claims, rules),
        *_loader_conf(claims, rules),
        *_addons(claims, rules),
    )
    return tuple(dict.fromkeys(found))


def _secure_boot(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if not rules.secure_boot:
        return
    state = claims.secure_boot
    faults = (
        (not state.proved, "PCR 7 is not proved, or has no separator"),
        (not state.enabled, "off" if "SecureBoot" in state.values else "not measured"),
        (state.mode not in _SECURE_MODES, f"in {state.mode.value} mode"),
        (state.validation_off, "a debugger is allowed, or shim checks nothing (MokSBState)"),
    )
    for is_fault, seen in faults:
        if is_fault:
            yield _objection(claims, FindingId.UEFI_SECURE_BOOT, (7,), "secure boot on, in user or deployed mode", seen)
    yield from state.objections


def _dma_protection(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    """Find words of PCR 7 on DMA protection, wherever they stand, and events that may hide one."""
    if not rules.dma_protection:
        return
    expected, state = "no word of the firmware that DMA protection is off", claims.secure_boot
    if not state.proved:
        yield _objection(claims, FindingId.UEFI_DMA, (7,), expected, "PCR 7 is not proved, or has no separator")
    for word in state.words:
        if word.is_about_dma:
            yield _objection(claims, FindingId.UEFI_DMA, (7,), expected, ascii(word.text), word.measurement)
    yield from state.unread


def _signers(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if rules.signers is None:
        return
    names = _alternatives(signer.name or signer.sha256.hex() for signer in rules.signers)
    if not claims.signers:
        yield _objection(claims, FindingId.UEFI_SIGNER, (7,), names, _nothing(claims, (7,), "an authority"))
    allowed = {signer.sha256 for signer in rules.signers}
    for signer in claims.signers:
        if signer.sha256 is None:
            yield signer.measurement.unread()
        elif signer.sha256 not in allowed:
            yield _objection(claims, FindingId.UEFI_SIGNER, (7,), names, signer, signer.measurement)


def _images(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if rules.images is None:
        return
    if not claims.chain.images:
        seen = _nothing(claims, (4,), "an image")
        yield _objection(claims, FindingId.UEFI_IMAGE, (4,), _names(rules.images), seen)
    unknown = tuple(_surplus_images(claims, FindingId.UEFI_IMAGE, 4, claims.chain.images, rules.images))
    yield from unknown
    if not unknown and claims.chain.images and not _is_chain(claims.chain.images, rules.images):
        seen = ", then ".join(image.path for image in claims.chain.images[:_CHAIN_SHOWN])
        due = ", then ".join(image.name for image in rules.images[:_CHAIN_SHOWN])
        yield _objection(claims, FindingId.UEFI_IMAGE, (4,), due, seen)


def _is_chain(images: Sequence[BootImage], rule: Sequence[Image]) -> bool:
    """Tell whether all allowed images ran, each once and in their order.

    The running system can extend PCR 4 by the digest of an image that it skipped, but only behind those that ran.
    """
    in_order = all(image.digest in due.digests for image, due in zip(images, rule, strict=False))
    return in_order and len(images) == len(rule)


def _drivers(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    """Find drivers that are not allowed. A machine without option ROMs runs none, but that must be proved."""
    if rules.drivers is None:
        return
    if 2 not in claims.proved:  # noqa: PLR2004 - PCR 2
        yield _objection(claims, FindingId.UEFI_DRIVER, (2,), _names(rules.drivers), "PCR 2 is not proved")
    yield from _surplus_images(claims, FindingId.UEFI_DRIVER, 2, claims.drivers, rules.drivers)


def _surplus_images(
    claims: BootClaims, finding: FindingId, pcr: int, images: Iterable[BootImage], rule: Sequence[Image]
) -> Iterator[Objection]:
    allowed, expected = _digests(rule), _names(rule)
    for image in images:
        if image.digest not in allowed:
            yield _objection(claims, finding, (pcr,), expected, image.digest.hex(), image.measurement)


def _dbx(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if not rules.dbx:
        return
    missing = rules.dbx - claims.secure_boot.forbidden_images() if claims.secure_boot.proved else rules.dbx
    if missing:
        expected = _alternatives((digest.hex() for digest in sorted(missing)), " and ")
        yield _objection(
            claims, FindingId.UEFI_DBX, (7,), expected, f"a dbx without {len(missing)} of {len(rules.dbx)}"
        )


def _command_lines(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if rules.command_lines is None:
        return
    expected = f"a match of {_alternatives(rules.command_lines)}"
    unproved = [pcr for pcr in COMMAND_LINE_PCRS if pcr not in claims.proved]
    if unproved or not claims.command_lines:
        seen = _nothing(claims, COMMAND_LINE_PCRS, "a command line")
        yield _objection(claims, FindingId.UEFI_COMMAND_LINE, COMMAND_LINE_PCRS, expected, seen)
    for line in claims.command_lines:
        if line.text is None:
            yield line.measurement.unread()
        elif not any(command_line_matches(pattern, line.text) for pattern in rules.command_lines):
            where, text = (line.measurement.event.pcr,), ascii(line.text[:_MAX_SHOWN])
            yield _objection(claims, FindingId.UEFI_COMMAND_LINE, where, expected, text, line.measurement)


def _sections(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if rules.sections is None:
        return
    expected = {name: _alternatives(digest.hex() for digest in sorted(each)) for name, each in rules.sections.items()}
    for section in claims.sections:
        if section.digest not in rules.sections.get(section.name, frozenset()):
            due = expected.get(section.name, "nothing")
            seen = f"{section.name or 'something without a name'} {section.digest.hex()}"
            yield _objection(claims, FindingId.UEFI_SECTION, (11,), due, seen, section.measurement)
    for name in sorted(rules.sections.keys() - {section.name for section in claims.sections}):
        yield _objection(claims, FindingId.UEFI_SECTION, (11,), name, _nothing(claims, (11,), "this section"))


def _files(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if rules.files is None:
        return
    expected = _names(rules.files)
    if not claims.files:
        yield _objection(claims, FindingId.UEFI_FILE, (9,), expected, _nothing(claims, (9,), "a file"))
    yield from _surplus_files(claims, FindingId.UEFI_FILE, claims.files, _digests(rules.files), expected)


def _gpt(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    if rules.gpt is None:
        return
    expected = _alternatives(digest.hex() for digest in sorted(rules.gpt))
    if not claims.gpt:
        seen = _nothing(claims, (5,), "a partition table")
        yield _objection(claims, FindingId.UEFI_PARTITIONS, (5,), expected, seen)
    yield from _surplus_files(claims, FindingId.UEFI_PARTITIONS, claims.gpt, rules.gpt, expected)


def _loader_conf(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    """Find settings of systemd-boot that are not allowed. Their name is a claim: a hidden partition table is one, too.

    Where settings are a rule, so is what may be settings under another name. Goldens of older releases list them among
    partition tables.
    """
    if rules.gpt is None and rules.loader_conf is None:
        return
    allowed = (rules.gpt or frozenset()) | (rules.loader_conf or frozenset())
    expected = _alternatives(digest.hex() for digest in sorted(rules.loader_conf or ()))
    if rules.loader_conf is not None and 5 not in claims.proved:  # noqa: PLR2004 - PCR 5
        yield _objection(claims, FindingId.UEFI_LOADER_CONF, (5,), expected, "PCR 5 is not proved")
    hidden = claims.maybe_loader_conf if rules.loader_conf is not None else ()
    yield from _surplus_files(claims, FindingId.UEFI_LOADER_CONF, (*claims.loader_conf, *hidden), allowed, expected)


def _addons(claims: BootClaims, rules: BootRules) -> Iterator[Objection]:
    """Find contents of PCR 12 that are no command lines or may be, and that are not allowed.

    A credential can make the system run what it says, so a rule on command lines is about these, too.
    """
    if rules.addons is None and rules.command_lines is None:
        return
    expected = _names(rules.addons or ())
    if rules.addons is not None and 12 not in claims.proved:  # noqa: PLR2004 - PCR 12
        yield _objection(claims, FindingId.UEFI_ADDON, (12,), expected, "PCR 12 is not proved")
    yield from _surplus_files(claims, FindingId.UEFI_ADDON, claims.addons, _digests(rules.addons or ()), expected)


def _surplus_files(
    claims: BootClaims, finding: FindingId, files: Iterable[MeasuredFile], allowed: frozenset[bytes], expected: str
) -> Iterator[Objection]:
    for file in files:
        if file.digest not in allowed:
            pcr = file.measurement.event.pcr
            yield _objection(claims, finding, (pcr,), expected, file.digest.hex(), file.measurement)


def _objection(  # noqa: PLR0913, PLR0917 - an objection's parts
    claims: BootClaims,
    finding: FindingId,
    pcrs: Sequence[int],
    expected: str,
    seen: object,
    about: Measurement | None = None,
) -> Objection:
    where = f"{claims.bank.hashlib_name} PCR {', '.join(map(str, pcrs))}"
    return Objection(id=finding, expected=expected, seen=seen, where=where, about=about)


def _nothing(claims: BootClaims, pcrs: Iterable[int], what: str) -> str:
    unproved = [str(pcr) for pcr in pcrs if pcr not in claims.proved]
    return f"PCR {', '.join(unproved)} not proved" if unproved else f"no measurement of {what}"


def _digests(images: Iterable[Image]) -> frozenset[bytes]:
    return frozenset(digest for image in images for digest in image.digests)


def _names(images: Sequence[Image]) -> str:
    return _alternatives(image.name for image in images)


def _alternatives(values: Iterable[str], word: str = " or ") -> str:
    shown = list(values)
    more = len(shown) - _SHOWN
    return word.join(shown[:_SHOWN]) + (f"{word}{more} more" if more > 0 else "") or "nothing"
