"""Known deviations of firmware: rows of ``quirks.yaml``, each with an effect that is written here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareFacts:
    """What a node says of its firmware (SMBIOS); claims.

    Attributes:
        vendor: its maker; empty: not known.
        version: its version, likewise.
    """

    vendor: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedQuirk:
    """A quirk without which a PCR would not have replayed.

    Attributes:
        id: the row's name.
        pcr: the PCR.
    """

    id: str
    pcr: int
