from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.agent.evidence.host import Firmware, read_boot_id, read_firmware
from nodeseal.errors import MalformedInput, Unavailable


def test_the_boot_id_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "boot_id").write_text("0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e\n")
    assert read_boot_id(tmp_path / "boot_id") == "0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e"


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_boot_id_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "boot_id").write_bytes(content)
    with pytest.raises(Unavailable, match="boot_id"):
        read_boot_id(tmp_path / "boot_id")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="nothing"),
        pytest.param("\n", id="an empty line"),
        pytest.param("boot-1\n", id="no UUID"),
        pytest.param("0D5A3A1E-8D8D-4D0A-9F5E-0A6F5B1C2D3E\n", id="capitals"),
        pytest.param("0d5a3a1e8d8d4d0a9f5e0a6f5b1c2d3e\n", id="no dashes"),
        pytest.param("{0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e}\n", id="braces"),
        pytest.param("0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e\n" * 2, id="two lines"),
    ],
)
def test_a_boot_id_as_no_kernel_writes_it_is_refused_with_file_key_and_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "id"
    path.write_text(content)
    with pytest.raises(MalformedInput, match=f"^{path}: boot_id_file: ") as caught:
        read_boot_id(path)
    assert "boot_id_file name a file that holds one UUID in lower case" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        pytest.param(b"American Megatrends Inc.\n", "American Megatrends Inc.", id="a line"),
        pytest.param(b"  2.4 \n", "2.4", id="spaces around it"),
        pytest.param(b"a\x1b[31mb\xff\n", "a[31mb\N{REPLACEMENT CHARACTER}", id="bytes that are no text"),
        pytest.param(b"x" * 500, "x" * 128, id="more than claims hold"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(None, "", id="no file"),
    ],
)
def test_firmware_is_what_the_kernel_says_as_printable_text(tmp_path: Path, content: bytes | None, fact: str) -> None:
    if content is not None:
        (tmp_path / "bios_vendor").write_bytes(content)
    (tmp_path / "bios_version").write_bytes(b"F12")
    assert read_firmware(tmp_path) == Firmware(fact, "F12")
