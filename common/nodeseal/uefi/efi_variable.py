"""UEFI variables as boot logs hold them: UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile v1.06).

Events of the types EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_BOOT, EV_EFI_VARIABLE_BOOT2 and
EV_EFI_VARIABLE_AUTHORITY carry it. What a variable's content means is for other decoders: signature databases are
read by :mod:`nodeseal.uefi.signature_database`, boot options by :mod:`nodeseal.uefi.load_option`.
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
"""Bytes behind the content that old shims logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EfiVariable:
    """A variable at the time it was measured.

    Attributes:
        vendor: its VendorGuid as text.
        name: its name, as long as declared and not stripped of anything.
        data: its content; empty when it did not exist.
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
