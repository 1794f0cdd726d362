"""Typed claims: all that a proved boot log says. A PCR that is not proved adds no claim.

Claims keep the log's events. Words for people are made from them on demand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nodeseal.boot.images import BootChain, BootImage, read_images
from nodeseal.boot.loader import (
    KernelCommandLine,
    MeasuredFile,
    MeasuredSection,
    read_loader,
    read_partitions,
    read_sections,
)
from nodeseal.boot.measured import ERROR_SEPARATOR, Measurement, digests_of, measurements
from nodeseal.boot.proved import ProvedLog
from nodeseal.boot.secure_boot import Authority, SecureBoot, read_policy
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS
from nodeseal.uefi.event_log_text import describe_event
from nodeseal.uefi.event_log_types import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class BootClaims:
    """The claims of a proved boot log.

    Attributes:
        bank: the replayed bank; all digests below are of it.
        proved: PCRs whose quoted values the log explains.
        secure_boot: the state of secure boot (PCR 7).
        chain: images that ran from PCR 4.
        drivers: images that ran from PCR 2.
        signers: authorities of PCR 7, in order.
        command_lines: kernel command lines of PCR 8, 9 and 12.
        sections: sections of unified kernel images (PCR 11).
        files: files that the boot loader read (PCR 9).
        gpt: partition tables (PCR 5).
        loader_conf: what calls itself systemd-boot's settings (PCR 5).
        maybe_loader_conf: what may be such settings under another name.
        addons: add-ons, credentials and extensions that systemd-stub passed on (PCR 12), and what may be such a thing.
        sbat_level: shim's SbatLevel, or an empty string.
        firmware_version: the S-CRTM version, or an empty string; its event's type is not proved.
        findings: findings that do not depend on rules: ``uefi.replay``, ``uefi.firmware-error``, and used quirks.
    """

    bank: HashAlg
    proved: frozenset[int]
    secure_boot: SecureBoot
    chain: BootChain
    drivers: tuple[BootImage, ...]
    signers: tuple[Authority, ...]
    command_lines: tuple[KernelCommandLine, ...]
    sections: tuple[MeasuredSection, ...]
    files: tuple[MeasuredFile, ...]
    gpt: tuple[MeasuredFile, ...]
    loader_conf: tuple[MeasuredFile, ...]
    maybe_loader_conf: tuple[MeasuredFile, ...]
    addons: tuple[MeasuredFile, ...]
    sbat_level: str
    firmware_version: str
    findings: tuple[Finding, ...]


def boot_claims(proved: ProvedLog) -> BootClaims:
    """Return the claims of a proved log."""
    measured = measurements(proved)
    crtm, drivers, images, partitions, policy, grub, files, unified, stub, shim = (
        measured.get(pcr, ()) for pcr in (0, 2, 4, 5, 7, 8, 9, 11, 12, 14)
    )
    said = read_policy(policy, shim)
    loader, tables = read_loader(grub, files, stub), read_partitions(partitions)
    return BootClaims(
        bank=proved.bank,
        proved=proved.proved,
        secure_boot=said.secure_boot,
        chain=BootChain(images=read_images(images)),
        drivers=read_images(drivers),
        signers=said.signers,
        command_lines=loader.command_lines,
        sections=read_sections(unified),
        files=loader.files,
        gpt=tables.gpt,
        loader_conf=tables.loader_conf,
        maybe_loader_conf=tables.maybe_loader_conf,
        addons=loader.addons,
        sbat_level=said.sbat_level,
        firmware_version=_firmware_version(crtm),
        findings=(*proved.findings, *_firmware_errors(measured)),
    )


def _firmware_version(measured: tuple[Measurement, ...]) -> str:
    for each in measured:
        if each.event.claimed_type == EventType.S_CRTM_VERSION and any(each.proved_data() or b""):
            return describe_event(each.event).removeprefix("version ")
    return ""


def _firmware_errors(measured: Mapping[int, tuple[Measurement, ...]]) -> Iterator[Finding]:
    """Find the first separator of each PCR that reports an error.

    The event's type is compared too, because boot variables may have the same content.
    """
    for pcr in FIRMWARE_PCRS:
        for each in measured.get(pcr, ()):
            is_error = each.digest in digests_of((ERROR_SEPARATOR,), each.bank)
            if is_error and each.event.claimed_type == EventType.SEPARATOR:
                yield Finding(
                    id=FindingId.UEFI_FIRMWARE_ERROR,
                    expected="a separator without an error",
                    seen="a separator with an error",
                    where=f"{each.bank.hashlib_name} PCR {pcr}",
                    event=str(each),
                )
                break
