"""Cursor over an event log, and the refusal of files that are no event log."""

from __future__ import annotations

import struct
from typing import Final

from nodeseal.errors import MalformedInput

MAX_LOG: Final = 16 * 1024 * 1024
"""Largest log in bytes, filler included; firmware reserves 64 KiB to 1 MiB."""
MAX_EVENT_DATA: Final = 1024 * 1024
"""Largest data of one event in bytes; a whole signature database (dbx) has tens of KiB."""
_FILLER: Final = (b"\0", b"\xff")
U32: Final = struct.Struct("<I")
_ACPI_TABLES: Final = {
    b"CCEL": "give the log it points to, such as /sys/firmware/acpi/tables/data/CCEL",
    b"TPM2": "give the log it points to, such as /sys/kernel/security/tpm0/binary_bios_measurements",
    b"TCPA": "give the log it points to, such as /sys/kernel/security/tpm0/binary_bios_measurements",
}
"""ACPI tables that point to a log. People take them for the log (ACPI 6.5 table 5.6)."""
_TEXT_SAMPLE: Final = 64
_TEXT: Final = "give the binary file: binary_bios_measurements of the firmware, or binary_runtime_measurements of IMA"
_SPACES: Final = b"\t\n\r"


class LogReader:
    """Cursor over the little-endian bytes of a log.

    Attributes:
        event: number of the current event, for errors.

    Raises:
        MalformedInput: from the constructor: not an event log; from every method: the bytes end early.
    """

    __slots__ = ("_at", "_end", "_raw", "event")

    def __init__(self, raw: bytes) -> None:
        refuse_what_is_no_log(raw)
        self._raw = raw
        self._at = 0
        # searched once: searching before each event would take quadratic time
        self._end = len(raw.rstrip(raw[-1:])) if raw[-1:] in _FILLER else len(raw)
        self.event = 0

    def fault(self, problem: str, remedy: str = "") -> MalformedInput:
        """Return the error for a problem, with the current event and byte."""
        place = f"event {self.event} at byte {self._at} of {len(self._raw)}"
        return MalformedInput(f"event log: {place}: {problem}", remedy=remedy)

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Read neighbouring integers of fixed size."""
        at = self._at
        if layout.size > len(self._raw) - at:
            raise self.fault(f"cut off, {layout.size} bytes are due")
        self._at = at + layout.size
        return layout.unpack_from(self._raw, at)

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        at = self._at
        if size > len(self._raw) - at:
            raise self.fault(f"cut off, {size} bytes are due")
        self._at = at + size
        return self._raw[at : at + size]

    def data(self) -> bytes:
        """Read an event's data behind its size as UINT32."""
        (size,) = self.unpack(U32)
        if size > MAX_EVENT_DATA:
            raise self.fault(f"{size} bytes of data, at most {MAX_EVENT_DATA}")
        return self.take(size)

    def only_filler_left(self) -> bool:
        """Tell whether no bytes are left, or only equal bytes 00 or ff."""
        return self._at >= self._end


def refuse_what_is_no_log(raw: bytes) -> None:
    """Refuse files that people and programs take for a log, and name them.

    Raises:
        MalformedInput: empty, too large, nothing but filler, text, or an ACPI table.
    """
    if len(raw) > MAX_LOG:
        raise MalformedInput(f"event log: has more than {MAX_LOG} bytes")
    if not raw.strip(raw[:1] if raw[:1] in _FILLER else b""):
        raise MalformedInput("event log: is empty")
    if raw[:4] in _ACPI_TABLES:
        name = raw[:4]
        raise MalformedInput(f"event log: is the ACPI table {name.decode()}, no log", remedy=_ACPI_TABLES[name])
    if all(byte in _SPACES or byte in range(0x20, 0x7F) for byte in raw[:_TEXT_SAMPLE]):
        raise MalformedInput("event log: is text, no log", remedy=_TEXT)
