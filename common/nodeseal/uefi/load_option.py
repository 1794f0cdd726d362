"""Boot options: the content of the variables Boot####, EFI_LOAD_OPTION (UEFI 2.10, "Load Options")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.device_path import DevicePath, decode_device_path

_HEADER: Final = struct.Struct("<IH")
_CHARACTER: Final = struct.Struct("<H")
_ACTIVE: Final = 1
MAX_DESCRIPTION: Final = 1024
"""Most characters of a description; firmware shows about 80."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOption:
    """One entry of a machine's boot menu.

    Attributes:
        active: whether firmware tries the option.
        description: text in the menu.
        path: path of the loaded image, the first in the option's list.
        optional: data for the loaded image, such as a command line in UTF-16.
    """

    active: bool
    description: str
    path: DevicePath
    optional: bytes


@dataclass(frozen=True, slots=True)
class BootOrder:
    """The order in which firmware tries boot options.

    Attributes:
        options: names of the options, first choice first.
    """

    options: tuple[str, ...]


def decode_load_option(raw: bytes) -> LoadOption:
    """Decode an EFI_LOAD_OPTION.

    Raises:
        MalformedInput: cut off, a description without end or not in UTF-16, or a path that does not decode.
    """
    reader = Reader(raw, "boot option")
    attributes, size = reader.unpack(_HEADER, "header")
    description = _description(reader)
    path = decode_device_path(reader.take(size, "path"))
    return LoadOption(active=bool(attributes & _ACTIVE), description=description, path=path, optional=reader.rest())


def decode_boot_order(raw: bytes) -> BootOrder:
    """Decode the content of the variable BootOrder (UEFI 2.10, "Globally Defined Variables").

    Raises:
        MalformedInput: an odd number of bytes.
    """
    if len(raw) % _CHARACTER.size:
        raise Reader(raw, "boot order").fault("its last number", "is cut off")
    return BootOrder(tuple(f"Boot{number:04X}" for (number,) in _CHARACTER.iter_unpack(raw)))


def _description(reader: Reader) -> str:
    characters = bytearray()
    while (character := reader.take(_CHARACTER.size, "description")) != b"\0\0":
        characters += character
        if len(characters) > _CHARACTER.size * MAX_DESCRIPTION:
            raise reader.fault("description", "is too long")
    try:
        return characters.decode("utf-16-le")
    except UnicodeDecodeError:
        raise reader.fault("description", "is no UTF-16") from None
