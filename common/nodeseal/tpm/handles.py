"""Handles that every TPM has (TPM_RH, TPM Library Part 2)."""

from __future__ import annotations

from enum import IntEnum


class PermanentHandle(IntEnum):
    """Permanent handles. The name of such an object is its handle (Part 1, "Names")."""

    OWNER = 0x40000001
    NULL = 0x40000007
    PASSWORD = 0x40000009
    """TPM_RS_PW: stands for a session where a command is authorised by password."""
    ENDORSEMENT = 0x4000000B
    PLATFORM = 0x4000000C
