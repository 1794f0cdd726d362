"""Tagged events: TCG_PCClientTaggedEvent (TCG PC Client Platform Firmware Profile v1.06, EV_EVENT_TAG).

The Linux EFI stub and systemd log a description of the hashed data under a tag. Windows logs the hashed data itself,
and nests tagged events (wbcl.h of the Windows SDK: SIPAEVENT types).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader

MAX_TAGS: Final = 4096
"""Most events in one container; Windows writes a few hundred."""
TAG_HEADER: Final = struct.Struct("<II")
"""taggedEventID and taggedEventDataSize."""
_CONTAINER: Final = 0x40010000
"""SIPAEVENTTYPE_AGGREGATION and SIPAEVENTTYPE_CONTAINER: the data is a sequence of tagged events."""
INITRD: Final = 0x8F3B22EC
LOAD_OPTIONS: Final = 0x8F3B22ED
"""Tags of what Linux' EFI stub measures (drivers/firmware/efi/libstub/efistub.h)."""
LOAD_OPTIONS_NAME: Final = "LOADED_IMAGE::LoadOptions"
"""Name of the event of the load options (drivers/firmware/efi/libstub/efi-stub-helper.c)."""
_LOADER_CONF: Final = 0xF5BC582A
"""Tag of systemd-boot's settings in PCR 5 (src/fundamental/tpm-pcr.h)."""
_NAMES: Final = {
    INITRD: "initrd (Linux EFI stub)",
    LOAD_OPTIONS: "load options (Linux EFI stub)",
    _LOADER_CONF: "loader.conf (systemd-boot)",
    0x6C46F751: "devicetree addon (systemd-stub)",
    0x49DFFE0F: "initrd addon (systemd-stub)",
    0xDAC08E1A: "microcode addon (systemd-stub)",
    0xD5CB7CBC: "SMBIOS system information (systemd)",
    0xE0D47BC8: "SMBIOS baseboard information (systemd)",
    0xC0B3BD23: "SMBIOS OEM strings (systemd)",
    0x40010001: "trust boundary",
    0x40010002: "ELAM drivers",
    0x40010003: "loaded module",
    0xC0010004: "trust point",
    0x40010005: "KSR",
    0x00020001: "information",
    0x00020002: "boot counter",
    0x00020003: "transfer of control",
    0x00020004: "return of application",
    0x00020005: "BitLocker unlock",
    0x00020006: "event counter",
    0x00020009: "application SVN",
    0x0002000B: "MOR bit status",
    0x00040001: "boot debugging",
    0x00040002: "boot revocation list",
    0x00050001: "kernel debugging",
    0x00050002: "code integrity",
    0x00050003: "test signing",
    0x00050004: "data execution prevention",
    0x00050005: "safe mode",
    0x00050006: "Windows PE",
    0x00050008: "boot device",
    0x00050009: "system root",
    0x0005000A: "hypervisor launch type",
    0x00050012: "VSM launch type",
    0x00050013: "OS revocation list",
    0x00060001: "no authority",
    0x00060002: "public key of authority",
    0x00070001: "file path",
    0x00070002: "image size",
    0x00070003: "hash algorithm",
    0x00070004: "Authenticode hash",
    0x00070005: "issuer of authority",
    0x00070006: "serial number of authority",
    0x00070007: "image base",
    0x00070008: "publisher",
    0x00070009: "thumbprint of authority",
    0x0007000A: "image validated",
    0x0007000B: "module SVN",
    0x80080001: "quote",
    0x80080002: "signature of quote",
    0x80080003: "AIK",
    0x80080004: "digest of AIK",
}
"""Linux: drivers/firmware/efi/libstub/efistub.h; systemd: docs/TPM2_PCR_MEASUREMENTS.md; Windows: wbcl.h."""


@dataclass(frozen=True, slots=True)
class TaggedEvent:
    """One tagged event.

    Attributes:
        tag: number of the tag.
        data: description, or the measured data.
    """

    tag: int
    data: bytes

    @property
    def name(self) -> str:
        """Meaning of the tag, or its number."""
        return _NAMES.get(self.tag, f"tag 0x{self.tag:08x}")

    @property
    def is_container(self) -> bool:
        """Whether the data is a sequence of tagged events."""
        return self.tag & _CONTAINER == _CONTAINER


def loader_conf_event() -> bytes:
    """Return the data of the event by which systemd-boot describes that it measured ``loader.conf``."""
    name = "loader.conf\0".encode("utf-16-le")
    return TAG_HEADER.pack(_LOADER_CONF, len(name)) + name


def decode_tagged_event(raw: bytes) -> TaggedEvent:
    """Decode the data of an EV_EVENT_TAG event: one tagged event and nothing else.

    Raises:
        MalformedInput: cut off, or bytes behind it.
    """
    reader = Reader(raw, "tagged event")
    event = _tagged_event(reader)
    reader.end()
    return event


def decode_tagged_events(raw: bytes) -> tuple[TaggedEvent, ...]:
    """Decode a container's data.

    Raises:
        MalformedInput: an event is cut off, or there are more than :data:`MAX_TAGS`.
    """
    reader, events = Reader(raw, "tagged events"), list[TaggedEvent]()
    left = len(raw)
    while left:
        if len(events) == MAX_TAGS:
            raise reader.fault("container", f"has more than {MAX_TAGS} events")
        events.append(_tagged_event(reader))
        left -= TAG_HEADER.size + len(events[-1].data)
    return tuple(events)


def _tagged_event(reader: Reader) -> TaggedEvent:
    tag, size = reader.unpack(TAG_HEADER, "header")
    return TaggedEvent(tag, reader.take(size, "data"))
