"""UEFI variables in boot logs: UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile v1.06).

Events of the types EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_BOOT, EV_EFI_VARIABLE_BOOT2 and
EV_EFI_VARIABLE_AUTHORITY hold it. Other modules decode a variable's content: :mod:`nodeseal.uefi.signature_database`
signature databases, :mod:`nodeseal.uefi.load_option` boot options.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.guid import guid_text

VARIABLE_HEADER: Final = struct.Struct("<16sQQ")
"""VariableName (the vendor's GUID), UnicodeNameLength and VariableDataLength."""
_CHARACTER: Final = 2
_MAX_FILLER: Final = 8
"""Most bytes behind the content; old shims log some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EfiVariable:
    """A variable at the time of its measurement.

    Attributes:
        vendor: VendorGuid as text.
        name: name, exactly as long as declared.
        data: content; empty: the variable did not exist.
    """

    vendor: str
    name: str
    data: bytes


def decode_efi_variable(raw: bytes) -> EfiVariable:
    """Decode a UEFI_VARIABLE_DATA.

    Raises:
        MalformedInput: cut off, a name that is no UTF-16, or more than a few bytes of filler behind the content.
    """
    reader = Reader(raw, "UEFI variable")
    vendor, characters, size = reader.unpack(VARIABLE_HEADER, "header")
    name = reader.take(_CHARACTER * characters, "name")
    data = reader.take(size, "content")
    if len(reader.rest()) > _MAX_FILLER:
        raise reader.fault("content", "is followed by more")
    try:
        return EfiVariable(vendor=guid_text(vendor), name=name.decode("utf-16-le"), data=data)
    except UnicodeDecodeError:
        raise reader.fault("name", "is no UTF-16") from None
