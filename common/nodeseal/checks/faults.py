"""Faults of a setup, and the checks that find them: all at once, whatever each check comes upon."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeseal.errors import MalformedInput, NodesealError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with a setup.

    Attributes:
        what: what is wrong.
        remedy: what to do about it.
        field: the setting that leads there; empty: none does.
        file: the file, folder or address concerned; empty: none is.
        fatal: whether the program does not start with it. Others are warnings.
    """

    what: str
    remedy: str
    field: str = ""
    file: str = ""
    fatal: bool = True

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.field, self.file, self.what)))

    def to_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {name: getattr(self, name) for name in ("fatal", "field", "file", "what", "remedy")}


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        field: the setting that it is about.
        file: the file, folder or address that it is about.
        find: gives faults; an error that it raises is one more.
        remedy: what to do about an error that has no remedy of its own.
    """

    field: str
    file: Path
    find: Callable[[], Iterable[Fault]]
    remedy: str

    def faults(self) -> Iterator[Fault]:
        """Give all faults; those that were found before an error stay."""
        try:
            yield from self.find()
        except NodesealError as error:
            what = str(error).removeprefix(f"{self.field}: ").removeprefix(f"{self.file}: ")
            yield Fault(field=self.field, file=str(self.file), what=what, remedy=error.remedy or self.remedy)


class Unfit(MalformedInput):
    """A setup that a program does not start with, since waiting does not heal it.

    Attributes:
        faults: all that were found, warnings too.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        fatal = [fault for fault in faults if fault.fatal]
        first, *others = fatal
        lines = (f"\n  do: {fault.remedy}" for fault in fatal)
        whole = "\n".join(f"{fault}{line}" for fault, line in zip(fatal, lines, strict=True))
        super().__init__(whole if others else str(first), remedy="" if others else first.remedy)
        self.faults = tuple(faults)


def passed(faults: Iterable[Fault]) -> Generator[Fault, None, bool]:
    """Give faults, and return whether a check may look further: none of them is fatal."""
    found = list(faults)
    yield from found
    return not any(fault.fatal for fault in found)


def find_faults(checks: Iterable[Check]) -> tuple[Fault, ...]:
    """Run all checks and return what they found."""
    return tuple(fault for check in checks for fault in check.faults())


def require_fit(faults: Sequence[Fault]) -> None:
    """Refuse a setup with fatal faults.

    Raises:
        Unfit: there is one.
    """
    if any(fault.fatal for fault in faults):
        raise Unfit(faults)


def report_lines(faults: Sequence[Fault]) -> Iterable[str]:
    """Return faults for people, the fatal ones first: what is wrong, then what to do."""
    for fault in sorted(faults, key=lambda fault: not fault.fatal):
        yield f"{'fault' if fault.fatal else 'warning':8} {fault}"
        if fault.remedy:
            yield f"{'do':8} {fault.remedy}"
