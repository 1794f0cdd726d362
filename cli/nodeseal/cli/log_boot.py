"""Boot logs for people: a tree of events, the PCRs they replay to, and where two logs part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.log_json import plain_event
from nodeseal.cli.output import SHOWN_DIGITS, Block, FactList, Rows
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import PCR_CONTENTS
from nodeseal.uefi.event_log import NO_PCR, Event, EventLog, EventLogFormat, replay, startup_locality
from nodeseal.uefi.event_log_binding import Binding, binding
from nodeseal.uefi.event_log_diff import LogDifference, NumberedEvent, diff_event_logs, preferred_bank
from nodeseal.uefi.event_log_text import describe_event, event_details
from nodeseal.uefi.event_log_types import type_name

_TYPE_WIDTH: Final = 33
_STYLES: Final = {
    Binding.ALL: ("", "green"),
    Binding.PART: ("claimed in part: ", "yellow"),
    Binding.NONE: ("claimed: ", "red"),
    Binding.NOT_EXTENDED: ("claimed, not measured: ", "dim"),
}
"""What stands before a description, and its colour: whether the digest covers the data it was read from."""


class Grouping(Enum):
    """How the events of a log are shown."""

    PCR = "pcr"
    ORDER = "order"


def show_boot_log(log: EventLog, bank: HashAlg, pcrs: Sequence[int], by: Grouping, *, as_json: bool) -> None:
    """Show a log as a tree with a branch for each PCR and the value it replays to, or all events in order."""
    output.show(lambda: _plain_boot_log(log, bank, pcrs), _boot_log_parts(log, bank, pcrs, by), as_json=as_json)


def _boot_log_parts(log: EventLog, bank: HashAlg, pcrs: Sequence[int], by: Grouping) -> Iterator[Block]:
    yield FactList(_facts(log, bank))
    places = list(_places(log, pcrs))
    if by is Grouping.ORDER:
        yield Text(f"\n    # {_index_name(log):>3}  {'claimed type':{_TYPE_WIDTH}} digest", style="bold")
        yield _event_lines(places, bank, with_pcr=True)
        return
    values = replay(log, bank) if _locality(log) is not None else {}
    for pcr in sorted({event.pcr for _, event in places}):
        yield Text("\n").append_text(_branch_name(log, pcr, bank, values.get(pcr, b"")))
        yield _event_lines([place for place in places if place[1].pcr == pcr], bank, with_pcr=False)


def _plain_boot_log(log: EventLog, bank: HashAlg, pcrs: Sequence[int]) -> dict[str, object]:
    return {
        "format": log.form.value,
        "banks": [each.hashlib_name for each in log.algorithms],
        "banks_not_read": [f"0x{number:04x}" for number in log.unread],
        "shown_bank": bank.hashlib_name,
        "startup_locality": _locality(log),
        "events": [_plain_place(NumberedEvent(number, event), bank) for number, event in _places(log, pcrs)],
    }


def show_replayed(banks: Mapping[HashAlg, Mapping[int, bytes]], *, as_json: bool) -> None:
    """Show the PCRs that a log accounts for, as YAML or JSON."""
    replayed = {
        bank.hashlib_name: {str(pcr): value.hex() for pcr, value in sorted(pcrs.items())}
        for bank, pcrs in banks.items()
    }
    output.show(replayed, _yaml_lines(replayed), as_json=as_json)


def _yaml_lines(replayed: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for bank, pcrs in replayed.items():
        yield f"{bank}:\n" if pcrs else f"{bank}: {{}}\n"
        for pcr, value in pcrs.items():
            yield f'  "{pcr}": "{value}"\n'


def show_boot_differences(
    logs: tuple[EventLog, EventLog], names: tuple[str, str], bank: HashAlg, *, as_json: bool
) -> bool:
    """Show the first event of each PCR in which two logs differ; return whether there is one."""
    differences = diff_event_logs(*logs, bank)
    plain = [_plain_difference(each, bank) for each in differences]
    output.show(
        {"bank": bank.hashlib_name, "equal": not plain, "differences": plain},
        _difference_table(differences, bank, names, logs),
        as_json=as_json,
    )
    return bool(differences)


def chosen_bank(chosen: HashAlg | None, *logs: EventLog) -> HashAlg:
    """Return the bank that was asked for, or the one to look at when nobody asked.

    Raises:
        MalformedInput: a log does not have it, or the logs have none in common.
    """
    if chosen is None:
        return preferred_bank(*logs)
    if not all(chosen in log.algorithms for log in logs):
        raise MalformedInput(f"event log: has no {chosen.hashlib_name} bank")
    return chosen


def _places(log: EventLog, pcrs: Sequence[int]) -> Iterator[tuple[int, Event]]:
    return ((number, event) for number, event in log.numbered() if not pcrs or event.pcr in pcrs)


def _index_name(log: EventLog) -> str:
    return "MR" if log.form is EventLogFormat.CCEL else "PCR"


def _facts(log: EventLog, bank: HashAlg) -> Iterator[tuple[str, str]]:
    yield "format", log.form.value
    yield "banks", ", ".join(each.hashlib_name for each in log.algorithms)
    if log.unread:
        yield "not read", ", ".join(f"bank 0x{number:04x}" for number in log.unread)
    yield "shown bank", bank.hashlib_name
    locality = _locality(log)
    yield "startup locality", "contradictory or impossible" if locality is None else str(locality)
    yield "events", str(len(log.events))


def _locality(log: EventLog) -> int | None:
    """Return the startup locality; ``None`` where the log cannot be replayed for it, but can be looked at."""
    try:
        return startup_locality(log)
    except MalformedInput:
        return None


def _branch_name(log: EventLog, pcr: int, bank: HashAlg, value: bytes) -> Text:
    if pcr == NO_PCR:
        return Text("no PCR", style="bold cyan")
    return Text.assemble(
        (f"{_index_name(log)} {pcr}", "bold cyan"),
        (f"  {PCR_CONTENTS[pcr]}" if pcr in PCR_CONTENTS and log.form is not EventLogFormat.CCEL else "", "bold"),
        (f"  {bank.hashlib_name} {value.hex()}" if value else "", "dim"),
    )


def _event_lines(places: Sequence[tuple[int, Event]], bank: HashAlg, *, with_pcr: bool) -> Iterator[Text]:
    for at, (number, event) in enumerate(places, start=1):
        last = at == len(places)
        lead = "" if with_pcr else "└" if last else "├"
        yield Text.assemble((lead, "dim"), _line(number, event, bank, with_pcr=with_pcr))
        for detail in (*_whole_digest(event, bank), *event_details(event)):
            yield Text.assemble((" " if last or with_pcr else "│", "dim"), " " * 10, (detail, "dim"))


def _whole_digest(event: Event, bank: HashAlg) -> Iterator[str]:
    """Yield the digest where it is all that is known of an image or file, and what goldens name it by."""
    if binding(event, bank) is Binding.NONE:
        yield f"{bank.hashlib_name} {event.digests[bank].hex()}"


def _line(number: int, event: Event, bank: HashAlg, *, with_pcr: bool) -> Text:
    _, style = _STYLES[binding(event, bank)]
    index = "-" if event.pcr == NO_PCR else str(event.pcr)
    digest = event.digests[bank].hex()[:SHOWN_DIGITS] if bank in event.digests else ""
    return Text.assemble(
        (f"{number:5} ", "dim"),
        (f"{index:>3}  " if with_pcr else " ", "bold cyan"),
        f"{type_name(event.claimed_type):{_TYPE_WIDTH}} ",
        (f"{digest:{SHOWN_DIGITS}} ", "dim"),
        (_description(event, bank), style),
    )


def _description(event: Event, bank: HashAlg) -> str:
    return _STYLES[binding(event, bank)][0] + describe_event(event)


def _plain_place(place: NumberedEvent, bank: HashAlg) -> dict[str, object]:
    return plain_event(place, bank, _description(place.event, bank))


def _plain_difference(difference: LogDifference, bank: HashAlg) -> dict[str, object]:
    before, after = difference.before, difference.after
    return {
        "pcr": difference.pcr,
        "same_events": difference.same,
        "first": _plain_place(before, bank) if before else None,
        "second": _plain_place(after, bank) if after else None,
    }


def _difference_table(
    differences: tuple[LogDifference, ...], bank: HashAlg, names: tuple[str, str], logs: tuple[EventLog, EventLog]
) -> Rows:
    rows = [
        (str(each.pcr), str(each.same), _cell(each, each.before, logs[0], bank), _cell(each, each.after, logs[1], bank))
        for each in differences
    ]
    columns = (_index_name(logs[0]), "alike", *names)
    return Rows(columns, rows, empty=f"no difference in the {bank.hashlib_name} bank")


def _cell(difference: LogDifference, place: NumberedEvent | None, log: EventLog, bank: HashAlg) -> str:
    if place is None:
        alike = difference.before is difference.after
        return f"startup locality {startup_locality(log)}" if alike else "no further event"
    event = place.event
    digest = event.digests[bank].hex()
    return f"event {place.number} {type_name(event.claimed_type)}\n{digest}\n{_description(event, bank)}"
