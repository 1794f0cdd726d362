"""What a golden covers and what it leaves open, in words, for the person who approves it.

Nothing here is an error: a golden may leave something open on purpose. Errors are refused when a golden is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodeseal.egress.document import EgressDocument, Level
from nodeseal.golden.model import NOT_PINNABLE, Golden
from nodeseal.golden.rules import ALWAYS, BootRules, RuntimeRules
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import PCR_CONTENTS

_IMAGES, _SECURE_BOOT, _FILES, _MACHINE_OWNER = 4, 7, 9, 14
_USUAL_BANK = HashAlg.SHA256
"""The bank that verifiers ask all nodes for, unless their settings name another."""
_OF_LOADERS = frozenset({8, 9, 11, 12})
"""PCRs that firmware leaves at zero; boot loaders and stubs extend them, or the running system does."""
_PROGRAMS = ("/bin/", "/boot/", "/etc/", "/lib/", "/lib64/", "/sbin/", "/usr/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lint:
    """Facts about a golden that an approver should know.

    Attributes:
        covered: what the golden looks at, a line each.
        open: what the golden does not look at, or lets vary, a line each.
    """

    covered: tuple[str, ...]
    open: tuple[str, ...]


def lint_golden(golden: Golden, given_up: Iterable[tuple[str, int]] = ()) -> Lint:
    """Return what ``golden`` covers and what it leaves open.

    Args:
        golden: the golden.
        given_up: what quirks give up, in words, each with its PCR.
    """
    by_quirks = (_by_quirk(golden, words, pcr) for words, pcr in given_up)
    return Lint(covered=tuple(_covered(golden)), open=(*_open(golden), *by_quirks))


def _by_quirk(golden: Golden, words: str, pcr: int) -> str:
    pinned = any(pcr == each for _, each, _ in golden.rows())
    return words if pinned else f"no value for PCR {pcr}, so nodes of a quirk do not match: {words}"


def _covered(golden: Golden) -> Iterator[str]:
    for bank, pcr, allowed in golden.rows():
        values = "one value" if len(allowed) == 1 else f"{len(allowed)} values"
        yield f"{bank.hashlib_name} PCR {pcr} ({PCR_CONTENTS.get(pcr, 'other')}): {values}"
    if golden.boot is not None:
        yield from _boot_rules(golden.boot)
    if golden.runtime is not None:
        runtime = golden.runtime
        yield f"every file that IMA measures: {len(runtime.files)} paths, {len(runtime.keys)} signing keys"
    if golden.platform is not None:
        yield "the TPM: maker, firmware or endorsement key"
    if golden.egress is not None:
        yield from _egress_rules(golden.egress)
    if golden.valid != ALWAYS:
        yield "the time: it counts in a window only"
    if golden.nodes:
        yield "the node: " + ", ".join(f"{label}={value}" for label, value in sorted(golden.nodes.items()))


def _boot_rules(rules: BootRules) -> Iterator[str]:
    said = {
        "secure boot is on": rules.secure_boot,
        "firmware says nothing against DMA protection": rules.dma_protection,
        "who signed what runs": rules.signers,
        "images from PCR 4": rules.images,
        "drivers from PCR 2": rules.drivers,
        "forbidden images (dbx)": rules.dbx,
        "kernel command line": rules.command_lines,
        "sections of the unified kernel image": rules.sections,
        "files that the boot loader reads": rules.files,
        "partition table": rules.gpt,
        "settings of systemd-boot": rules.loader_conf,
        "add-ons and credentials (systemd-stub)": rules.addons,
        f"words of the system in PCR 11 ({', '.join(rules.phases)})": rules.phases,
    }
    yield from (f"boot log, {rules.bank.hashlib_name}: {what}" for what, rule in said.items() if rule)


def _egress_rules(document: EgressDocument) -> Iterator[str]:
    inside = ", ".join(map(str, document.enclave))
    yield f"egress: bytes to {inside} are free; others leave by {', '.join(map(str, document.uplinks))} only"
    for level in Level:
        limits = document.limits(level)
        numbers = f"{limits.rate} bytes a second, {limits.burst} at once, {limits.volume} in all until a reboot"
        yield f"egress, {level}: {numbers}"


def _open(golden: Golden) -> Iterator[str]:
    looked_at = frozenset[int]().union(*golden.static_pcrs().values())
    yield from _open_banks(golden)
    for pcr, meaning in PCR_CONTENTS.items():
        if pcr not in looked_at and pcr not in NOT_PINNABLE:
            yield f"PCR {pcr} ({meaning}): nothing looks at it"
    pinned = {pcr for _, pcr, _ in golden.rows()}
    if _IMAGES not in pinned and (forgeable := sorted(looked_at & _OF_LOADERS)):
        yield (
            f"PCR {', '.join(map(str, forgeable))}: an allowed image that is booted without the loader before it leaves"
            " them to the running system, which can extend them as expected; only exact values of PCR 4 rule that out"
        )
    if golden.boot is not None:
        yield from _open_boot(golden.boot, pinned)
    yield from (f"egress {name}: it sends without a limit, and is only counted" for name in _counted(golden))
    if golden.runtime is None:
        yield "what runs after boot: there is no runtime section"
        yield "kexec: another kernel may run without another boot; only runtime rules can tell"
    else:
        yield from _open_runtime(golden.runtime)


def _counted(golden: Golden) -> tuple[str, ...]:
    return golden.egress.counted if golden.egress is not None else ()


def _open_banks(golden: Golden) -> Iterator[str]:
    """Yield the banks beside the usual one by which a golden without labels judges: it reaches nodes of other kinds."""
    for bank in sorted(golden.static_pcrs().keys() - {_USUAL_BANK} if not golden.nodes else ()):
        name = bank.hashlib_name
        yield (
            f"bank {name}: no labels (nodes), so every node that has this bank is asked for it and loses trust if its"
            " firmware does not extend it; and root there can fill the bank so that it matches"
        )


def _open_boot(rules: BootRules, pinned: set[int]) -> Iterator[str]:
    if rules.secure_boot and not rules.dbx and _SECURE_BOOT not in pinned:
        yield "dbx: images that were revoked may still run"
    if rules.secure_boot and rules.images is None and pinned.isdisjoint((_IMAGES, _MACHINE_OWNER)):
        yield (
            "secure boot: the event by which shim says that it checks no signatures (MokSBState) can be hidden; only"
            " a list of images, or exact values of PCR 14, rule that out"
        )
    if rules.signers is not None and not rules.secure_boot:
        yield "signers: without secure_boot firmware need not have checked a signature"
    if rules.command_lines is not None and rules.files is None and _FILES not in pinned:
        yield (
            "command lines: a kernel that firmware itself starts measures its own as a digest in PCR 9 that the log may"
            " call a file; only a list of files, or exact values of PCR 9, rule that out"
        )
    yield from (f"command line: {line} lets values vary" for line in rules.command_lines or () if "*" in line)


def _open_runtime(rules: RuntimeRules) -> Iterator[str]:
    for path in rules.excludes:
        programs = " (programs or settings lie there)" if path.startswith(_PROGRAMS) else ""
        yield f"exclude {path}: anything may run from it{programs}"
    yield from (f"violations {path}: what was measured may not be what was used" for path in sorted(rules.violations))
    if rules.buffers is None:
        yield "measured buffers (keys, kexec command lines): there is no list, so any may be measured"
