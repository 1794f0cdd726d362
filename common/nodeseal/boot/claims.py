"""Typed claims that a proved boot log makes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from nodeseal.boot.proved import ProvedLog
from nodeseal.findings import Finding
from nodeseal.tcg.algorithms import HashAlg

if TYPE_CHECKING:
    from nodeseal.tcg.signature_database import SignatureEntry


class SecureBootMode(Enum):
    """The mode that the measured variables stand for (UEFI, "Secure Boot Modes")."""

    USER = "user"
    SETUP = "setup"
    AUDIT = "audit"
    DEPLOYED = "deployed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBoot:
    """The state of secure boot before the separator of PCR 7, first values only.

    Attributes:
        enabled: whether the first SecureBoot variable was 1.
        mode: what the variables stand for.
        pk: platform key entries. Likewise ``kek``, ``db``, ``dbx``.
        proved: whether PCR 7 was proved and its separator is there.
        validation_off: whether shim was told to check no signatures (MokSBState), or a firmware debugger was on.
        late: what was measured as firmware state where it cannot be: after the separator, or a second time.
    """

    enabled: bool
    mode: SecureBootMode
    pk: tuple[SignatureEntry, ...]
    kek: tuple[SignatureEntry, ...]
    db: tuple[SignatureEntry, ...]
    dbx: tuple[SignatureEntry, ...]
    proved: bool
    validation_off: bool
    late: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """An image that ran.

    Attributes:
        number: the event's place in the log.
        digest: its Authenticode digest in the judged bank: proved.
        path: its device path: claimed.
    """

    number: int
    digest: bytes
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootChain:
    """The images that ran from PCR 4, in order.

    Attributes:
        images: the images.
        proved: whether PCR 4 was proved.
    """

    images: tuple[BootImage, ...]
    proved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What vouched for an image (EV_EFI_VARIABLE_AUTHORITY).

    Attributes:
        number: the event's place in the log.
        variable: the list that held it: db, MokList, Shim, ….
        sha256: SHA-256 of the certificate, or of the signature data; None: the event's data is not proved.
        subject: the certificate's subject for people, or an empty string.
    """

    number: int
    variable: str
    sha256: bytes | None
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCommandLine:
    """A command line that a boot loader or kernel measured.

    Attributes:
        number: the event's place in the log.
        source: ``grub``, ``systemd-stub`` or ``efi-stub``.
        text: the command line; None: the event's data is not proved.
    """

    number: int
    source: str
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """A file, a section or a table that was measured.

    Attributes:
        number: the event's place in the log.
        name: path or section name: claimed, unless it was found by its digest.
        digest: in the judged bank: proved.
    """

    number: int
    name: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BootClaims:
    """What a proved log says; of a PCR that is not proved nothing is here.

    Attributes:
        bank: the judged bank, of all digests below.
        proved: PCRs that the log explains.
        secure_boot: the state of secure boot.
        chain: images of PCR 4.
        drivers: images of PCR 2.
        signers: authorities of PCR 7, in order.
        command_lines: kernel command lines of PCR 8, 9 and 12, in order.
        sections: sections of unified kernel images (PCR 11).
        files: files that the boot loader read (PCR 9).
        gpt: partition tables (PCR 5).
        sbat_level: shim's SbatLevel, or an empty string.
        firmware_version: the S-CRTM version, as measured, or an empty string.
        findings: what is wrong whatever rules say: ``uefi.replay``, ``uefi.firmware-error``, …, and quirks used.
    """

    bank: HashAlg
    proved: frozenset[int]
    secure_boot: SecureBoot
    chain: BootChain
    drivers: tuple[BootImage, ...]
    signers: tuple[Authority, ...]
    command_lines: tuple[KernelCommandLine, ...]
    sections: tuple[MeasuredFile, ...]
    files: tuple[MeasuredFile, ...]
    gpt: tuple[MeasuredFile, ...]
    sbat_level: str
    firmware_version: str
    findings: tuple[Finding, ...]


def boot_claims(proved: ProvedLog) -> BootClaims:
    """Return what ``proved`` claims."""
    raise NotImplementedError
