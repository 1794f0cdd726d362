"""What a digest proves of its event's data, and what it does not."""

from __future__ import annotations

import struct

import pytest

from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event
from nodeseal.uefi.event_log_binding import Binding, binding, bound_data
from nodeseal.uefi.event_log_types import EventType

SHA256 = HashAlg.SHA256
VARIABLE = struct.pack("<16sQQ", bytes(16), 2, 3) + "db".encode("utf-16-le") + b"abc"
TAGGED = struct.pack("<II", 0x8F3B22EC, 5) + b"hello"


def event(data: bytes, measured: bytes, claimed_type: int = EventType.IPL) -> Event:
    return Event(pcr=8, claimed_type=claimed_type, digests={SHA256: SHA256.digest(measured)}, data=data)


@pytest.mark.parametrize(
    ("data", "measured", "expected"),
    [
        pytest.param(b"data", b"data", Binding.ALL, id="all of the data"),
        pytest.param(b"", b"", Binding.ALL, id="no data at all"),
        pytest.param(b"text\0", b"text", Binding.ALL, id="text without its NUL"),
        pytest.param(b"q\0u\0", b"q\0u\0\0", Binding.ALL, id="UTF-16 that lost its NUL"),
        pytest.param(b"q\0u\0\0\0", b"q\0u\0", Binding.ALL, id="UTF-16 without its NUL"),
        pytest.param(b".\0l\0\0\0", b".l\0", Binding.ALL, id="the name of a section, hashed in ASCII"),
        pytest.param(b"data\xaf", b"data", Binding.PART, id="a byte that old shims log too many"),
        pytest.param(b"grub_cmd: ls\0", b"ls", Binding.PART, id="a command of GRUB"),
        pytest.param(b"kernel_cmdline: quiet\0", b"quiet", Binding.PART, id="a command line of GRUB"),
        pytest.param(b"grub_cmd ls\0", b"ls\0", Binding.PART, id="a command of GRUB in RHEL 8"),
        pytest.param(VARIABLE, VARIABLE, Binding.ALL, id="a variable"),
        pytest.param(VARIABLE, b"abc", Binding.PART, id="a variable's content"),
        pytest.param(TAGGED, b"hello", Binding.PART, id="a tagged event's content"),
        pytest.param(b"/vmlinuz\0", b"kernel", Binding.NONE, id="a file behind its path"),
        pytest.param(b"text\0\0", b"text", Binding.NONE, id="two NULs"),
        pytest.param(b"x\xaf", b"x", Binding.PART, id="one byte, and one too many"),
        pytest.param(b"q\0u\0", b"q\0", Binding.NONE, id="UTF-16 without its last letter"),
        pytest.param(b"l\0xy", b"lx", Binding.NONE, id="every other byte of what is no UTF-16"),
        pytest.param(b"data\xaf\xaf", b"data", Binding.NONE, id="two bytes too many"),
        pytest.param(b".l\0\0", b".", Binding.NONE, id="every other letter"),
        pytest.param(b"GRUB ls", b"ls", Binding.NONE, id="a first word that GRUB does not write"),
        pytest.param(TAGGED + b"x", b"hellox", Binding.NONE, id="a tagged event that states another size"),
        pytest.param(b"x", b"", Binding.NONE, id="a byte for nothing"),
        pytest.param(b"\0", b"", Binding.NONE, id="a NUL for nothing"),
        pytest.param(VARIABLE[:-3] + b"abd", b"abc", Binding.NONE, id="another content"),
        pytest.param(VARIABLE, b"", Binding.NONE, id="nothing measured, something said"),
        pytest.param(VARIABLE[:-3], b"", Binding.NONE, id="a variable that lost its content"),
        pytest.param(TAGGED[:8], b"", Binding.NONE, id="a tag without content"),
        pytest.param(b"grub_cmd: \0", b"", Binding.NONE, id="an empty command"),
    ],
)
def test_data_is_proved_as_far_as_the_digest_is_its_hash(data: bytes, measured: bytes, expected: Binding) -> None:
    assert binding(event(data, measured), SHA256) is expected
    assert bound_data(event(data, measured), SHA256) == (None if expected is Binding.NONE else measured)


@pytest.mark.parametrize("claimed_type", [EventType.SEPARATOR, EventType.EFI_GPT_EVENT, 0x12345678])
def test_the_claimed_type_makes_no_difference(claimed_type: int) -> None:
    assert binding(event(VARIABLE, b"abc", claimed_type), SHA256) is Binding.PART
    assert binding(event(b"data", b"other", claimed_type), SHA256) is Binding.NONE


def test_what_is_never_extended_proves_nothing() -> None:
    never = event(b"data", b"data", EventType.NO_ACTION)
    assert binding(never, SHA256) is Binding.NOT_EXTENDED
    assert bound_data(never, SHA256) is None


def test_a_bank_that_was_not_extended_proves_nothing() -> None:
    assert binding(event(b"data", b"data"), HashAlg.SHA1) is Binding.NOT_EXTENDED
    assert bound_data(event(b"data", b"data"), HashAlg.SHA1) is None


@pytest.mark.parametrize("characters", [2**63, 2**64 - 1])
def test_impossible_sizes_of_a_variable_cover_nothing(characters: int) -> None:
    data = struct.pack("<16sQQ", bytes(16), characters, 2**64 - 1) + b"abc"
    assert binding(event(data, b"abc"), SHA256) is Binding.NONE
