"""Types of boot log events by name (TCG PC Client Platform Firmware Profile v1.06, "Event Types").

No digest covers an event's type. It is a claim, and only selects how data is decoded.
"""

from __future__ import annotations

from enum import IntEnum


class EventType(IntEnum):
    """Event types. In replay only EV_NO_ACTION matters: it is never extended."""

    PREBOOT_CERT = 0x00000000
    POST_CODE = 0x00000001
    NO_ACTION = 0x00000003
    SEPARATOR = 0x00000004
    ACTION = 0x00000005
    EVENT_TAG = 0x00000006
    S_CRTM_CONTENTS = 0x00000007
    S_CRTM_VERSION = 0x00000008
    CPU_MICROCODE = 0x00000009
    PLATFORM_CONFIG_FLAGS = 0x0000000A
    TABLE_OF_DEVICES = 0x0000000B
    COMPACT_HASH = 0x0000000C
    IPL = 0x0000000D
    IPL_PARTITION_DATA = 0x0000000E
    NONHOST_CODE = 0x0000000F
    NONHOST_CONFIG = 0x00000010
    NONHOST_INFO = 0x00000011
    OMIT_BOOT_DEVICE_EVENTS = 0x00000012
    POST_CODE2 = 0x00000013
    EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EFI_VARIABLE_BOOT = 0x80000002
    EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EFI_GPT_EVENT = 0x80000006
    EFI_ACTION = 0x80000007
    EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EFI_HANDOFF_TABLES = 0x80000009
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EFI_HANDOFF_TABLES2 = 0x8000000B
    EFI_VARIABLE_BOOT2 = 0x8000000C
    EFI_GPT_EVENT2 = 0x8000000D
    EFI_HCRTM_EVENT = 0x80000010
    EFI_VARIABLE_AUTHORITY = 0x800000E0
    EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


_NAMES: dict[int, str] = {each.value: f"EV_{each.name}" for each in EventType}


def type_name(claimed_type: int) -> str:
    """Return the specification's name of an event type, or its number: ``0x0000040e``."""
    return _NAMES.get(claimed_type, f"0x{claimed_type:08x}")
