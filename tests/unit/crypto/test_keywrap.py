"""Wrapping of private keys for storage."""

from __future__ import annotations

import pytest

from nodeseal.crypto.keywrap import KEK_SIZE, new_kek, unwrap_private_key, wrap_private_key
from nodeseal.errors import MalformedInput

KEK = bytes(range(KEK_SIZE))
SECRET = b"s" * 48
WRAPPED = wrap_private_key(KEK, SECRET, b"key 1")


def test_what_was_wrapped_opens_with_the_same_key_and_context() -> None:
    assert unwrap_private_key(KEK, WRAPPED, b"key 1") == SECRET
    assert len(new_kek()) == KEK_SIZE


def test_each_wrapping_is_different() -> None:
    assert wrap_private_key(KEK, SECRET, b"key 1") != WRAPPED


@pytest.mark.parametrize("context", [b"", b"key 2", b"key 1 "])
def test_another_context_opens_nothing(context: bytes) -> None:
    with pytest.raises(MalformedInput, match="altered, or belongs to another"):
        unwrap_private_key(KEK, WRAPPED, context)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(MalformedInput, match="altered, or belongs to another"):
        unwrap_private_key(bytes(KEK_SIZE), WRAPPED, b"key 1")


def test_any_changed_byte_and_any_missing_tail_is_refused() -> None:
    for place in range(len(WRAPPED)):
        changed = bytearray(WRAPPED)
        changed[place] ^= 1
        with pytest.raises(MalformedInput):
            unwrap_private_key(KEK, bytes(changed), b"key 1")
        with pytest.raises(MalformedInput):
            unwrap_private_key(KEK, WRAPPED[:place], b"key 1")
