"""Which PCR holds what, and what it starts with.

PCR 0 to 7: TCG PC Client Platform Firmware Profile 1.06, "PCR Usage". PCR 8 to 15: UAPI Group, "Linux TPM PCR
Registry". Start values: TCG PC Client Platform TPM Profile, "PCR Attributes" and "PCR Initial and Reset Values".
"""

from __future__ import annotations

from typing import Final

from nodeseal.tpm.pcr import LAST_PCR

FIRMWARE_PCRS: Final = range(8)
"""PCRs that firmware alone extends before ExitBootServices."""
STATIC_PCRS: Final = range(16)
"""PCRs that start with zeros and that only a reset of the platform clears."""
DYNAMIC_PCRS: Final = range(17, 23)
"""PCRs that start with ones; a dynamic launch sets them to zeros."""
DEBUG_PCR: Final = 16
EPOCH_PCR: Final = LAST_PCR
"""The lease epoch: the agent gives it a random value, and release keys are bound to that. Software may reset it at
locality 0 (PC Client PTP, "PCR Attributes"), and firmware and operating systems leave it alone."""

SECURE_BOOT_PCR: Final = 7
FILE_PCR: Final = 9
"""Files that GRUB reads; initial RAM disk and load options that Linux' EFI stub measures."""
IMA_PCR: Final = 10
"""Where IMA measures by default (CONFIG_IMA_MEASURE_PCR_IDX); a rule of its policy may name another PCR."""
STUB_PCR: Final = 11
"""Sections of a unified kernel image (systemd-stub), then the phases of the boot (systemd-pcrphase)."""
STUB_COMMAND_LINE_PCR: Final = 12
"""Command line and credentials that systemd-stub passes on."""
IDENTITY_PCR: Final = 15
"""Machine id, file systems and volume keys (systemd-pcrmachine, systemd-pcrfs): another value on every machine."""
COMMAND_LINE_PCRS: Final = (8, FILE_PCR, STUB_COMMAND_LINE_PCR)
"""Where GRUB, Linux' EFI stub and systemd-stub measure a kernel's command line."""

STARTUP_LOCALITIES: Final = (0, 3, 4)
"""Localities that may start a TPM. PCR 0 starts with this number (Firmware Profile, "Startup Locality Event")."""

PCR_CONTENTS: Final = {
    0: "firmware code",
    1: "firmware settings",
    2: "option ROMs and drivers",
    3: "settings of option ROMs",
    4: "boot loaders and kernels that firmware runs",
    5: "partition table and boot manager settings",
    6: "the maker's own events",
    SECURE_BOOT_PCR: "secure boot state and keys",
    8: "commands and kernel command line (GRUB)",
    FILE_PCR: "files that GRUB reads; initrd (Linux)",
    IMA_PCR: "files that the running system uses (IMA)",
    STUB_PCR: "unified kernel image, boot phases (systemd)",
    STUB_COMMAND_LINE_PCR: "kernel command line, credentials (systemd)",
    13: "system extensions (systemd)",
    14: "keys of machine owners (shim)",
    IDENTITY_PCR: "system identity (systemd)",
    EPOCH_PCR: "lease epoch (nodeseal-agent)",
}
"""What is measured where, in words for people."""
