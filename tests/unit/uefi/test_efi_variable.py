"""UEFI variables as boot logs hold them."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.efi_variable import EfiVariable, decode_efi_variable
from nodeseal.uefi.guid import GLOBAL_VARIABLE, SHIM_LOCK
from support.uefi import variable


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            variable("SecureBoot", b"\1"),
            EfiVariable(vendor=GLOBAL_VARIABLE, name="SecureBoot", data=b"\1"),
            id="secure boot",
        ),
        pytest.param(
            variable("PK", b""), EfiVariable(vendor=GLOBAL_VARIABLE, name="PK", data=b""), id="one that is not there"
        ),
        pytest.param(
            variable("Größe", b"x", SHIM_LOCK) + bytes(5) + b"\xaf",
            EfiVariable(vendor=SHIM_LOCK, name="Größe", data=b"x"),
            id="with the filler of old shims",
        ),
        pytest.param(
            variable("x", b"") + bytes(8),
            EfiVariable(vendor=GLOBAL_VARIABLE, name="x", data=b""),
            id="with most filler",
        ),
        pytest.param(
            variable("db\0", b""), EfiVariable(vendor=GLOBAL_VARIABLE, name="db\0", data=b""), id="a NUL is kept"
        ),
    ],
)
def test_variables_are_read(raw: bytes, expected: EfiVariable) -> None:
    assert decode_efi_variable(raw) == expected


def test_a_variable_cut_anywhere_is_refused() -> None:
    raw = variable("db", b"content")
    for size in range(len(raw)):
        with pytest.raises(MalformedInput, match=r"UEFI variable: (header|name|content) is cut off"):
            decode_efi_variable(raw[:size])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(variable("db", b"x") + bytes(9), "is followed by more", id="nine bytes behind it"),
        pytest.param(struct.pack("<16sQQ", b"", 2**63, 0), "name is cut off", id="a name of 2^64 bytes"),
        pytest.param(struct.pack("<16sQQ", b"", 0, 2**64 - 1), "content is cut off", id="a content of 2^64 bytes"),
        pytest.param(variable("d", b"")[:-1] + b"\xd8", "name is no UTF-16", id="half a surrogate pair"),
    ],
)
def test_what_is_no_variable_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason):
        decode_efi_variable(raw)
