"""Images that firmware loads: UEFI_IMAGE_LOAD_EVENT (TCG PC Client Platform Firmware Profile v1.06).

The event's digest is the image's Authenticode hash and covers no field that is decoded here. So an image's origin is a
claim: for display, never for a decision.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.device_path import decode_device_path

_HEADER: Final = struct.Struct("<QQQQ")
_MAX_FILLER: Final = 9
"""Most bytes behind the path: shim logs a pointer, and old ones one byte more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoad:
    r"""An image in memory.

    Attributes:
        location: address.
        length: size in bytes.
        link_address: address for which it is linked.
        path: device path as text; empty: a boot loader loaded it from memory.
        file: file in the path, such as ``\EFI\debian\shimx64.efi``; empty: none.
    """

    location: int
    length: int
    link_address: int
    path: str
    file: str


def decode_image_load(raw: bytes) -> ImageLoad:
    """Decode a UEFI_IMAGE_LOAD_EVENT.

    Raises:
        MalformedInput: cut off, a path that does not decode, or more than a few bytes of filler behind it.
    """
    reader = Reader(raw, "image load")
    location, length, link_address, size = reader.unpack(_HEADER, "header")
    path = decode_device_path(reader.take(size, "path"))
    if len(reader.rest()) > _MAX_FILLER:
        raise reader.fault("path", "is followed by more")
    return ImageLoad(location=location, length=length, link_address=link_address, path=path.text, file=path.file)
