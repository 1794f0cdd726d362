"""A small but realistic boot log: Secure Boot variables, shim, boot loader, kernel and initial RAM disk.

Modelled on what OVMF, shim and GRUB write (TCG PC Client Platform Firmware Profile v1.06, "PCR Usage", "Event Logging";
shim and GRUB measure into 4, 7, 8, 9 and 14), or, for a chain with ``sections``, on a unified kernel image that the
firmware starts (systemd-stub(7), PCR 4, 9, 11 and 12). With Secure Boot on, db holds :data:`DB_CERTIFICATE`, by which
the first image is accepted; shim accepts GRUB and kernel by :data:`VENDOR_CERTIFICATE`. What differs between two
machines is a :class:`SampleBoot`. The log has everything that a golden's boot rules can name: signers, images, drivers,
command lines, sections, files, the partition table and dbx.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import uuid
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS
from nodeseal.uefi.event_log import Event, EventLog, encode_event_log
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, SHA256_SIGNATURE, SHIM_LOCK, X509_SIGNATURE
from nodeseal.uefi.pe import MEASURED_SECTIONS, PeImage, authenticode_digest, decode_pe, is_pe
from nodeseal.uefi.tagged_event import INITRD, LOAD_OPTIONS, LOAD_OPTIONS_NAME

_GLOBAL: Final = uuid.UUID(GLOBAL_VARIABLE)
_SECURITY: Final = uuid.UUID(IMAGE_SECURITY_DATABASE)
_SHIM: Final = uuid.UUID(SHIM_LOCK)
_VARIABLE: Final = struct.Struct("<16sQQ")
_IMAGE_LOAD: Final = struct.Struct("<QQQQ")
_FIRMWARE_BLOB: Final = struct.Struct("<QQ")
_GPT: Final = struct.Struct("<8sIIIIQQQQ16sQIIIQ")
_X509: Final = uuid.UUID(X509_SIGNATURE)
_SHA256: Final = uuid.UUID(SHA256_SIGNATURE)
_APPLICATION: Final = EventType.EFI_BOOT_SERVICES_APPLICATION
_SEPARATOR: Final = bytes(4)
DB_CERTIFICATE: Final = base64.b64decode(
    "MIIBmjCCAT+gAwIBAgIUUYVbTaOVgEOq7EB98JofwbmakREwCgYIKoZIzj0EAwIwITEfMB0GA1UEAwwWbm9kZXNlYWwgc2FtcGxl"
    "IHNpZ25lcjAgFw0yNjExMjIwMDAwMDBaGA8yMTI2MTAyOTAwMDAwMFowITEfMB0GA1UEAwwWbm9kZXNlYWwgc2FtcGxlIHNpZ25l"
    "cjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJVPc0ppgwex9T1e2yBbx96ElTA1VIfMtZdwIsJmASg0L3Xa+/F0J1OHaHmRvzii"
    "BEgx7Q5dmw6TDXTB1CujP3CjUzBRMB0GA1UdDgQWBBQLjT0TnCH2e6ZBpc/Oc4wA8G/y0jAfBgNVHSMEGDAWgBQLjT0TnCH2e6ZB"
    "pc/Oc4wA8G/y0jAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCeueZu5m+QVShBkrd1OmC4raB/MRVZrwSe5Kxu"
    "HvXWmAIhAN2Vnk9+aYiXJAHjkDmN6dsXS+8Apphms2uyRnfG4zUI"
)
"""A certificate in DER, whose key nobody has: the signer that db allows."""
VENDOR_CERTIFICATE: Final = base64.b64decode(
    "MIIBmTCCAT+gAwIBAgIUI0M7AYpn/aMivVW1+H4D9QgbmcswCgYIKoZIzj0EAwIwITEfMB0GA1UEAwwWbm9kZXNlYWwgc2FtcGxl"
    "IHZlbmRvcjAgFw0yNjExMjIwMDAwMDBaGA8yMTI2MTAyOTAwMDAwMFowITEfMB0GA1UEAwwWbm9kZXNlYWwgc2FtcGxlIHZlbmRv"
    "cjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABF7FeSB8sSH1mPPzh0CqQCfOrI2g3FsIcGhqodu4wojdnmbvGEeoAsTt5ljR/G5y"
    "f2epMaV28qH6tUNMLU5fH/SjUzBRMB0GA1UdDgQWBBSA1vdQF85LKIedqJAfrLHvZUiszTAfBgNVHSMEGDAWgBSA1vdQF85LKIed"
    "qJAfrLHvZUiszTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIFVJjd2+s3iJwbxcRNVH6hxi+paG7s6siTM8i7Ue"
    "+bgeAiEAldZSRQDd6IJ2c62RpVF44krHJOCL38OowjI64Uk1RNo="
)
"""A certificate in DER, whose key nobody has: the distributor's, which shim contains."""
REVOKED_IMAGE: Final = hashlib.sha256(b"revoked image").digest()
"""The image that dbx forbids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBoot:
    """The boot of a machine. PE/COFF images are measured by their Authenticode digest, other bytes by their hash.

    Attributes:
        firmware: the platform's firmware.
        firmware_version: the firmware's S-CRTM version.
        secure_boot: whether the firmware checks signatures.
        shim: the first boot loader, loaded by the firmware.
        boot_loader: the second, loaded by shim.
        kernel: the kernel image.
        initrd: the initial RAM disk.
        command_line: the kernel's command line in GRUB's form.
        option_rom: a driver from an option ROM; empty: none.
        sections: names and contents of a unified kernel image's sections, such as ``.linux``. The firmware starts it;
            shim, boot loader, kernel and initrd are not used. Empty: boot by shim and GRUB.
        unified: a whole unified kernel image (PE/COFF) that the firmware starts; its sections replace all other facts.
    """

    firmware: bytes = b"nodeseal sample firmware"
    firmware_version: str = "nodeseal sample 1.0"
    secure_boot: bool = True
    shim: bytes = b"nodeseal sample shim"
    boot_loader: bytes = b"nodeseal sample boot loader"
    kernel: bytes = b"nodeseal sample kernel"
    initrd: bytes = b"nodeseal sample initrd"
    command_line: str = "/vmlinuz root=LABEL=root ro quiet"
    option_rom: bytes = b""
    sections: tuple[tuple[str, bytes], ...] = ()
    unified: bytes = b""


def sample_boot_log(chain: SampleBoot, banks: tuple[HashAlg, ...] = (HashAlg.SHA256,)) -> bytes:
    """Return the crypto-agile event log of a machine that boots ``chain``. The same chain gives the same log."""
    writer = _Writer(banks)
    _firmware(writer, chain)
    if chain.unified:
        _unified_image(writer, decode_pe(chain.unified))
    elif chain.sections:
        _unified(writer, chain)
    else:
        _loaders(writer, chain)
        _grub(writer, chain)
    writer.add(5, EventType.EFI_ACTION, b"Exit Boot Services Invocation")
    writer.add(5, EventType.EFI_ACTION, b"Exit Boot Services Returned with Success")
    return encode_event_log(EventLog(banks, tuple(writer.events)))


class _Writer:
    def __init__(self, banks: tuple[HashAlg, ...]) -> None:
        self._banks = banks
        self.events: list[Event] = []

    def add(self, pcr: int, claimed_type: EventType, data: bytes, measured: bytes | None = None) -> None:
        """Add an event with the digests of ``measured``, or of its data if ``measured`` is None."""
        digests = {bank: bank.digest(data if measured is None else measured) for bank in self._banks}
        self.events.append(Event(pcr=pcr, claimed_type=claimed_type, digests=digests, data=data))

    def image(self, pcr: int, claimed_type: EventType, file: str, content: bytes) -> None:
        """Add a UEFI_IMAGE_LOAD_EVENT (PFP)."""
        path = _path(file) if file else b""
        data = _IMAGE_LOAD.pack(0x7E000000, len(content), 0, len(path)) + path
        image = decode_pe(content) if is_pe(content) else None
        digests = {bank: authenticode_digest(image, bank) if image else bank.digest(content) for bank in self._banks}
        self.events.append(Event(pcr=pcr, claimed_type=claimed_type, digests=digests, data=data))

    def variable(self, pcr: int, claimed_type: EventType, vendor: uuid.UUID, name: str, content: bytes) -> None:
        """Add a UEFI_VARIABLE_DATA (PFP); GUIDs and text are little-endian."""
        head = _VARIABLE.pack(vendor.bytes_le, len(name), len(content))
        self.add(pcr, claimed_type, head + name.encode("utf-16-le") + content)


def _firmware(writer: _Writer, chain: SampleBoot) -> None:
    writer.add(0, EventType.S_CRTM_VERSION, chain.firmware_version.encode("utf-16-le") + b"\0\0")
    blob = _FIRMWARE_BLOB.pack(0x820000, len(chain.firmware))
    writer.add(0, EventType.EFI_PLATFORM_FIRMWARE_BLOB, blob, chain.firmware)
    state = bytes([chain.secure_boot])
    for vendor, name, content in (
        (_GLOBAL, "SecureBoot", state),
        (_GLOBAL, "PK", _signature_list(_X509, DB_CERTIFICATE)),
        (_GLOBAL, "KEK", _signature_list(_X509, DB_CERTIFICATE)),
        (_SECURITY, "db", _signature_list(_X509, DB_CERTIFICATE)),
        (_SECURITY, "dbx", _signature_list(_SHA256, REVOKED_IMAGE)),
    ):
        writer.variable(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, vendor, name, content)
    writer.variable(1, EventType.EFI_VARIABLE_BOOT, _GLOBAL, "BootOrder", struct.pack("<H", 1))
    writer.variable(1, EventType.EFI_VARIABLE_BOOT, _GLOBAL, "Boot0001", _load_option("sample", _path("shimx64.efi")))
    if chain.option_rom:
        writer.image(2, EventType.EFI_BOOT_SERVICES_DRIVER, "option-rom.efi", chain.option_rom)
    writer.add(4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option")
    for pcr in FIRMWARE_PCRS:
        writer.add(pcr, EventType.SEPARATOR, _SEPARATOR)
    writer.add(5, EventType.EFI_GPT_EVENT, _partition_table())
    if chain.secure_boot:
        signer = _SECURITY.bytes_le + DB_CERTIFICATE
        writer.variable(7, EventType.EFI_VARIABLE_AUTHORITY, _SECURITY, "db", signer)


def _loaders(writer: _Writer, chain: SampleBoot) -> None:
    writer.image(4, _APPLICATION, "shimx64.efi", chain.shim)
    for name in (b"MokList\0", b"MokListX\0"):
        writer.add(14, EventType.IPL, name, _signature_list(_SHA256, hashlib.sha256(name).digest()))
    writer.variable(7, EventType.EFI_VARIABLE_AUTHORITY, _SHIM, "SbatLevel", b"sbat,1,2023012900\nshim,2\ngrub,3\n")
    if chain.secure_boot:
        writer.variable(7, EventType.EFI_VARIABLE_AUTHORITY, _SHIM, "Shim", VENDOR_CERTIFICATE)
    writer.image(4, _APPLICATION, "grubx64.efi", chain.boot_loader)


def _unified(writer: _Writer, chain: SampleBoot) -> None:
    """Start a unified kernel image. Its stub measures each section's name and then its content."""
    writer.image(4, _APPLICATION, "linux.efi", b"".join(content for _, content in chain.sections))
    for name, content in chain.sections:
        shown = _utf16(name)
        writer.add(11, EventType.IPL, shown, name.encode() + b"\0")
        writer.add(11, EventType.IPL, shown, content)
    writer.add(12, EventType.IPL, _utf16(chain.command_line))
    _kernel_stub(writer, chain.command_line, chain.initrd)


def _unified_image(writer: _Writer, image: PeImage) -> None:
    """Start a unified kernel image from a file. Its stub hands kernel, command line and initrd on unchanged."""
    contents = {section.name: image.content(section) for section in image.sections}
    writer.image(4, _APPLICATION, "linux.efi", image.raw)
    for name in (name for name in MEASURED_SECTIONS if name in contents):
        writer.add(11, EventType.IPL, _utf16(name), name.encode() + b"\0")
        writer.add(11, EventType.IPL, _utf16(name), contents[name])
    writer.image(4, _APPLICATION, "", contents[".linux"])
    _kernel_stub(writer, contents.get(".cmdline", b"").decode(), contents.get(".initrd", b""))


def _kernel_stub(writer: _Writer, command_line: str, initrd: bytes) -> None:
    """Measure load options and initial RAM disk, like the kernel's own EFI stub."""
    options = _tagged(LOAD_OPTIONS, LOAD_OPTIONS_NAME.encode() + b"\0")
    writer.add(9, EventType.EVENT_TAG, options, _utf16(command_line))
    writer.add(9, EventType.EVENT_TAG, _tagged(INITRD, b"Linux initrd\0"), initrd)


def _grub(writer: _Writer, chain: SampleBoot) -> None:
    commands = (f"linux {chain.command_line}", "initrd /initrd.img", "boot")
    for line in commands:
        writer.add(8, EventType.IPL, f"grub_cmd: {line}".encode() + b"\0", line.encode())
    command_line = chain.command_line.encode()
    writer.add(8, EventType.IPL, b"kernel_cmdline: " + command_line + b"\0", command_line)
    writer.add(9, EventType.IPL, b"/vmlinuz\0", chain.kernel)
    writer.image(4, _APPLICATION, "vmlinuz", chain.kernel)
    writer.add(9, EventType.IPL, b"/initrd.img\0", chain.initrd)


def _signature_list(kind: uuid.UUID, content: bytes) -> bytes:
    """Return an EFI_SIGNATURE_LIST (UEFI) of one signature."""
    signature = _SECURITY.bytes_le + content
    return kind.bytes_le + struct.pack("<III", 28 + len(signature), 0, len(signature)) + signature


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


def _tagged(tag: int, content: bytes) -> bytes:
    """Return a TCG_PCClientTaggedEvent (PFP)."""
    return struct.pack("<II", tag, len(content)) + content


def _path(file: str) -> bytes:
    """Return a device path (UEFI, "Device Path Protocol") of one file node and its end."""
    name = _utf16(f"\\EFI\\sample\\{file}")
    return struct.pack("<BBH", 4, 4, 4 + len(name)) + name + struct.pack("<BBH", 0x7F, 0xFF, 4)


def _load_option(description: str, path: bytes) -> bytes:
    """Return an EFI_LOAD_OPTION (UEFI), active."""
    return struct.pack("<IH", 1, len(path)) + _utf16(description) + path


def _partition_table() -> bytes:
    """Return a UEFI_GPT_DATA (PFP): GPT header, number of partitions, one EFI system partition."""
    disk, partition = uuid.UUID(int=0x5EA1), uuid.UUID(int=0x5EA2)
    system = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
    header = _GPT.pack(b"EFI PART", 0x10000, 92, 0, 0, 1, 409599, 34, 409566, disk.bytes_le, 2, 128, 128, 0, 1)
    entry = system.bytes_le + partition.bytes_le + struct.pack("<QQQ", 2048, 206847, 0)
    return header + entry + "EFI system".encode("utf-16-le").ljust(72, b"\0")
