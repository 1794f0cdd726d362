"""Images that firmware loaded: UEFI_IMAGE_LOAD_EVENT (TCG PC Client Platform Firmware Profile v1.06).

The digest of such an event is the Authenticode hash of the image; it covers nothing of what is decoded here. Where an
image came from is therefore a claim, fit for words and never for a decision.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.device_path import decode_device_path

_HEADER: Final = struct.Struct("<QQQQ")
_MAX_FILLER: Final = 9
"""Bytes behind the path: shim logs one pointer, and old ones a byte more than there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoad:
    r"""An image in memory.

    Attributes:
        location: its address.
        length: its size in bytes.
        link_address: the address it was linked for.
        path: its device path as text; empty where a boot loader loaded it from memory.
        file: the file named in the path, such as ``\EFI\debian\shimx64.efi``; empty where none is.
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
