"""GUIDs as text."""

from __future__ import annotations

import struct
import uuid

import pytest

from nodeseal.uefi.guid import GLOBAL_VARIABLE, guid_text
from support.uefi import guid


def test_a_guid_is_spelled_as_the_standard_library_does() -> None:
    raw = bytes(range(16))
    assert guid_text(raw) == str(uuid.UUID(bytes_le=raw))
    assert guid_text(guid(GLOBAL_VARIABLE) + b"more") == GLOBAL_VARIABLE


def test_fewer_bytes_are_no_guid() -> None:
    with pytest.raises(struct.error):
        guid_text(bytes(15))
