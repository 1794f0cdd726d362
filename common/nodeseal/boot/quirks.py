"""Known deviations of firmware: rows of ``quirks.yaml``, each with an effect that this module implements.

A row names the firmware whose log may lack a measurement; the effect names the measurement. Operators add rows of their
own in a file of the same form. A node's claims about its firmware choose the rows, so an effect must be harmless on any
machine: it adds measurements whose content the specification fixes, or it gives a PCR's log up and leaves the PCR to
goldens that pin its value.
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
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS

_MAX_TEXT: Final = 256
_MAX_ROWS: Final = 256
MAX_BYTES: Final = 256 * 1024
_MAX_REPETITIONS: Final = 2
_PATTERN: Final = re.compile(r"(?:(?:[A-Za-z0-9 _,:/&@#'=!-]|\\[^A-Za-z0-9\s]|\[[A-Za-z0-9 ._-]{1,64}\]|\.)[*+?]?|\|)+")
"""What a pattern may consist of: a node's claims are matched with it."""
_EXIT: Final = b"Exit Boot Services Invocation"
_SUCCESS: Final = b"Exit Boot Services Returned with Success"
_FAILURE: Final = b"Exit Boot Services Returned with Failure"


class Effect(Enum):
    """A gap in a log: a PCR (None: the row names it), and the possible sequences of actions after the logged events."""

    MISSING_EXIT_BOOT_SERVICES = (
        "missing-exit-boot-services",
        5,
        ((_EXIT, _SUCCESS), (_EXIT, _FAILURE), (_EXIT, _FAILURE, _EXIT, _SUCCESS), (_EXIT, _FAILURE, _SUCCESS)),
    )

    VALUE_ALONE = ("value-alone", None, ())
    """The log is not believed of the PCR; a golden must pin its value."""

    def __init__(self, code: str, pcr: int | None, unlogged: tuple[tuple[bytes, ...], ...]) -> None:
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
        quirks: rows that operators added to the table.
    """

    vendor: str = ""
    version: str = ""
    quirks: tuple[Quirk, ...] = ()

    def left_to_values(self) -> bool:
        """Tell whether a row for this firmware gives the log of some PCR up."""
        return any(row.effect is Effect.VALUE_ALONE and row.concerns(self) for row in (*QUIRKS, *self.quirks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """A row of the table.

    Attributes:
        id: name of the row.
        vendor: pattern for the firmware's maker.
        firmware: pattern for the firmware's version.
        pcr: the PCR that it is about.
        deviates: what the firmware does, for people.
        effect: the gap that is accepted.
        source: where the deviation is documented.
    """

    id: str
    vendor: re.Pattern[str]
    firmware: re.Pattern[str]
    pcr: int
    deviates: str
    effect: Effect
    source: str

    @property
    def gives_up(self) -> str:
        """What is given up by accepting the deviation, for people."""
        if self.effect is Effect.VALUE_ALONE:
            return f"PCR {self.pcr} is judged by its value alone: nothing that the log says of it is believed"
        return f"the end of PCR {self.pcr} is accepted without a line in the log"

    def __str__(self) -> str:
        firmware = f"firmware {self.firmware.pattern} of {self.vendor.pattern}"
        return f"{self.gives_up} (quirk {self.id}, {firmware}: {self.deviates})"

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
        gives_up: what is given up by it.
    """

    id: str
    pcr: int
    deviates: str
    gives_up: str = ""


def parse_quirks(raw: bytes, source: str) -> tuple[Quirk, ...]:
    """Parse a table of quirks.

    Raises:
        MalformedInput: naming file, line and key: not the accepted subset of YAML, an unknown or missing key, a pattern
            that may take long or does not compile, an unknown effect, a PCR that firmware does not extend, or a
            repeated name.
    """
    fields = parse_yaml(raw, source, MAX_BYTES)
    found: dict[str, Quirk] = {}
    for item in fields.items("quirks", max_items=_MAX_ROWS):
        row = Fields(item, source)
        quirk = _quirk(row)
        if quirk.id in found:
            raise row.wrong("id", "a name of its own")
        found[quirk.id] = quirk
    fields.done()
    return tuple(found.values())


def parse_added_quirks(raw: bytes, source: str) -> tuple[Quirk, ...]:
    """Parse an operator's table of quirks.

    Raises:
        MalformedInput: as :func:`parse_quirks` says, or a row has the name of one that comes with this version.
    """
    rows = parse_quirks(raw, source)
    for taken in sorted({row.id for row in rows} & {row.id for row in QUIRKS}):
        raise MalformedInput(f"{source}: id: {taken} is a quirk that comes with this version", remedy="use another id")
    return rows


def quirks_for(firmware: FirmwareFacts, pcr: int) -> Iterator[Quirk]:
    """Iterate over the rows for this firmware that affect ``pcr``."""
    return (row for row in (*QUIRKS, *firmware.quirks) if row.pcr == pcr and row.concerns(firmware))


def _quirk(row: Fields) -> Quirk:
    text = {key: row.text(key, max_length=_MAX_TEXT) for key in ("id", "deviates", "source")}
    vendor, firmware = _pattern(row, "vendor"), _pattern(row, "firmware")
    effect = _EFFECTS.get(row.text("effect", max_length=_MAX_TEXT))
    if effect is None:
        raise row.wrong("effect", f"one of {', '.join(_EFFECTS)}")
    pcr = row.integer("pcr", low=0, high=FIRMWARE_PCRS[-1]) if effect.pcr is None else effect.pcr
    row.done()
    return Quirk(
        id=text["id"],
        vendor=vendor,
        firmware=firmware,
        pcr=pcr,
        deviates=text["deviates"],
        effect=effect,
        source=text["source"],
    )


def _pattern(row: Fields, key: str) -> re.Pattern[str]:
    """Return a regular expression that takes little time on any text: no groups, few repetitions."""
    text = row.text(key, max_length=_MAX_TEXT)
    if not _PATTERN.fullmatch(text) or max(map(_repetitions, text.split("|"))) > _MAX_REPETITIONS:
        raise row.wrong(
            key,
            "a pattern of texts with | between them, . and simple [classes], with at most two of *, + and ? in each",
            remedy="write special characters as \\( or [.], and leave groups out",
        )
    try:
        return re.compile(text)
    except re.error as error:
        raise row.wrong(key, f"a pattern: {error}") from error


def _repetitions(alternative: str) -> int:
    return len(re.findall(r"(?<!\\)[*+?]", alternative))


QUIRKS: Final = parse_quirks(resources.files(__package__).joinpath("quirks.yaml").read_bytes(), "quirks.yaml")
"""The table that comes with this version."""
