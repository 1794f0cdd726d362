"""Known deviations of firmware: rows of ``quirks.yaml``, each with an effect that this module implements.

A row names the firmware whose log may lack a measurement; the effect names the measurement. A node's claims about its
firmware choose the rows, so an effect must be harmless on any machine: it may only add measurements whose content the
specification fixes.
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
    """A gap in a log: a PCR, and the possible sequences of actions after the logged events."""

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
    """A node's claims about its firmware (SMBIOS).

    Attributes:
        vendor: maker of the firmware; empty: not known.
        version: version of the firmware; empty: not known.
    """

    vendor: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """A row of the table.

    Attributes:
        id: name of the row.
        vendor: pattern for the firmware's maker.
        firmware: pattern for the firmware's version.
        deviates: what the firmware does, for people.
        effect: the gap that is accepted.
        source: where the deviation is documented.
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
    """A quirk that a PCR needed to replay.

    Attributes:
        id: name of the row.
        pcr: the PCR.
        deviates: what the firmware does.
    """

    id: str
    pcr: int
    deviates: str


def parse_quirks(raw: bytes, source: str) -> tuple[Quirk, ...]:
    """Parse a table of quirks.

    Raises:
        MalformedInput: not the accepted subset of YAML, an unknown or missing key, a pattern that does not compile, an
            unknown effect, or a repeated name.
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
        raise MalformedInput(f"quirks: {text!a} is not a pattern: {error}") from error


QUIRKS: Final = parse_quirks(resources.files(__package__).joinpath("quirks.yaml").read_bytes(), "quirks.yaml")
"""The table that comes with this version."""
