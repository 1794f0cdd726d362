"""Known deviations of firmware: rows of ``quirks.yaml``, each with an effect that is written here.

A row says for which firmware a log may lack something that the TPM did measure; an effect says what. What a node
claims of its firmware chooses rows, so an effect must be harmless on any machine: it may only supply measurements
whose content the specification fixes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Final

from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.settings import parse_yaml

_MAX_TEXT: Final = 256
_MAX_ROWS: Final = 256
_EXIT: Final = b"Exit Boot Services Invocation"
_SUCCESS: Final = b"Exit Boot Services Returned with Success"
_FAILURE: Final = b"Exit Boot Services Returned with Failure"


class Effect(Enum):
    """What a log may lack: a PCR, and the actions that may follow what is logged, in one of several ways."""

    MISSING_EXIT_BOOT_SERVICES = (
        "missing-exit-boot-services",
        5,
        ((_EXIT, _SUCCESS), (_EXIT, _FAILURE), (_EXIT, _FAILURE, _EXIT, _SUCCESS), (_EXIT, _FAILURE, _SUCCESS)),
    )

    def __init__(self, code: str, pcr: int, unlogged: tuple[tuple[bytes, ...], ...]) -> None:
        self.code = code
        self.pcr = pcr
        self.unlogged = unlogged


_EFFECTS: Final = {effect.code: effect for effect in Effect}


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
class Quirk:
    """A row.

    Attributes:
        id: its name.
        vendor: makers that it is for.
        firmware: versions that it is for.
        deviates: what the firmware does, for people.
        effect: what is allowed for.
        source: where that is known from.
    """

    id: str
    vendor: re.Pattern[str]
    firmware: re.Pattern[str]
    deviates: str
    effect: Effect
    source: str

    def concerns(self, firmware: FirmwareFacts) -> bool:
        """Tell whether the row is for this firmware."""
        return bool(self.vendor.fullmatch(firmware.vendor) and self.firmware.fullmatch(firmware.version))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedQuirk:
    """A quirk without which a PCR would not have replayed.

    Attributes:
        id: the row's name.
        pcr: the PCR.
        deviates: what the firmware does.
    """

    id: str
    pcr: int
    deviates: str


def parse_quirks(raw: bytes, source: str) -> tuple[Quirk, ...]:
    """Parse a table of quirks.

    Raises:
        MalformedInput: not the accepted part of YAML, an unknown or missing key, a pattern that does not compile, an
            unknown effect, or a name twice.
    """
    fields = parse_yaml(raw, source)
    rows = tuple(_quirk(Fields(row, source)) for row in fields.items("quirks", max_items=_MAX_ROWS))
    fields.done()
    if len({row.id for row in rows}) != len(rows):
        raise MalformedInput(f"{source}: a name is there twice")
    return rows


def quirks_for(firmware: FirmwareFacts, pcr: int) -> Iterator[Quirk]:
    """Iterate over the rows for this firmware that affect ``pcr``."""
    return (row for row in QUIRKS if row.effect.pcr == pcr and row.concerns(firmware))


def _quirk(row: Fields) -> Quirk:
    text = {key: row.text(key, max_length=_MAX_TEXT) for key in ("id", "vendor", "firmware", "deviates", "source")}
    effect = row.text("effect", max_length=_MAX_TEXT)
    row.done()
    if effect not in _EFFECTS:
        raise MalformedInput(f"quirk {text['id']}: no effect is called {effect!a}")
    return Quirk(
        id=text["id"],
        vendor=_pattern(text["vendor"]),
        firmware=_pattern(text["firmware"]),
        deviates=text["deviates"],
        effect=_EFFECTS[effect],
        source=text["source"],
    )


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise MalformedInput(f"quirks: {text!a} is no pattern: {error}") from error


QUIRKS: Final = parse_quirks(resources.files(__package__).joinpath("quirks.yaml").read_bytes(), "quirks.yaml")
"""The table that comes with this version."""
