"""Images that firmware loaded, as boot logs describe them."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.image_load import ImageLoad, decode_image_load
from support.uefi import END, file_path, image_load, node


@pytest.mark.parametrize(
    ("path", "text", "file"),
    [
        pytest.param(
            node(4, 8, bytes(20)) + file_path("\\EFI\\debian\\shimx64.efi"),
            "Offset(0,0)/\\EFI\\debian\\shimx64.efi",
            "\\EFI\\debian\\shimx64.efi",
            id="a file on a disk",
        ),
        pytest.param(
            file_path("\\EFI\\BOOT", "grub.efi"),
            "\\EFI\\BOOT/grub.efi",
            "\\EFI\\BOOT\\grub.efi",
            id="in parts",
        ),
        pytest.param(file_path("\\EFI\\", "\\a.efi"), "\\EFI\\/\\a.efi", "\\EFI\\a.efi", id="doubly separated"),
        pytest.param(file_path("/efi/boot/a.efi"), "/efi/boot/a.efi", "/efi/boot/a.efi", id="with slashes"),
        pytest.param(END, "", "", id="a path of nothing"),
        pytest.param(b"", "", "", id="no path"),
        pytest.param(node(4, 4, b"\0\xd8"), "Path(4,4,00d8)", "", id="a name that is no text"),
    ],
)
def test_an_image_is_read_with_its_file(path: bytes, text: str, file: str) -> None:
    image = decode_image_load(image_load(path, length=9))
    assert image == ImageLoad(location=0x1000, length=9, link_address=0, path=text, file=file)


def test_an_image_cut_anywhere_is_refused() -> None:
    raw = image_load(file_path("\\a.efi"))
    for size in range(len(raw)):
        with pytest.raises(MalformedInput, match=r"image load: (header|path) is cut off"):
            decode_image_load(raw[:size])


def test_a_pointer_behind_the_path_is_filler_and_more_is_refused() -> None:
    raw = image_load(END)
    assert decode_image_load(raw + bytes(9)) == decode_image_load(raw)
    with pytest.raises(MalformedInput, match="path is followed by more"):
        decode_image_load(raw + bytes(10))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(struct.pack("<QQQQ", 0, 0, 0, 2**64 - 1), "path is cut off", id="a path of 2^64 bytes"),
        pytest.param(image_load(b"\4\4\3\0"), "device path: a node without end", id="a path that does not decode"),
    ],
)
def test_what_is_no_image_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason):
        decode_image_load(raw)
