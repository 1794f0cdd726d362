"""Memory that held secrets."""

from __future__ import annotations

from array import array

import pytest

from nodeseal.crypto.secret import allocate, wipe


@pytest.mark.parametrize("size", [0, 1, 4095, 3 << 20])
def test_wiped_memory_holds_zeros(size: int) -> None:
    secret = bytearray(b"s" * size)
    wipe(secret)
    assert secret == bytes(size)
    memory = allocate(size)
    memory[:] = b"s" * size
    wipe(memory)
    assert memory == bytes(size)


def test_only_the_part_that_is_given_is_wiped() -> None:
    secret = bytearray(b"secret")
    wipe(memoryview(secret)[1:4])
    assert secret == b"s\0\0\0et"


def test_every_byte_of_items_that_have_several_is_wiped() -> None:
    numbers = array("d", [1.5, 2.5])
    wipe(memoryview(numbers))
    assert list(numbers) == [0, 0]


@pytest.mark.parametrize("memory", [memoryview(b"secret"), memoryview(bytearray(6))[::2]])
def test_what_cannot_be_wiped_whole_is_an_error(memory: memoryview) -> None:
    with pytest.raises((TypeError, ValueError)):
        wipe(memory)


def test_a_buffer_that_was_wiped_may_grow_again() -> None:
    secret = bytearray(b"secret")
    wipe(secret)
    secret += b"!"
    assert secret == b"\0\0\0\0\0\0!"
