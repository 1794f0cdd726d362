"""``nodeseal log``: read, replay and compare boot logs from files, without verifier, network or TPM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.output import JsonOption
from nodeseal.errors import MalformedInput
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import NO_PCR, Event, EventLog, LogFormat, decode_event_log, replay, startup_locality
from nodeseal.tcg.event_log_binding import Binding, binding
from nodeseal.tcg.event_log_diff import LogDifference, NumberedEvent, diff_event_logs, preferred_bank
from nodeseal.tcg.event_log_reader import MAX_LOG
from nodeseal.tcg.event_log_text import describe_event
from nodeseal.tcg.event_log_types import type_name

app = typer.Typer(no_args_is_help=True, help="Read, replay and compare boot logs, offline.")

_SHOWN_DIGITS: Final = 16
_TYPE_WIDTH: Final = 33
_STYLES: Final = {
    Binding.ALL: ("", "green"),
    Binding.PART: ("claimed in part: ", "yellow"),
    Binding.NONE: ("claimed: ", "red"),
    Binding.NOT_EXTENDED: ("claimed, not measured: ", "dim"),
}
"""What stands before a description, and its colour: whether the digest covers the data it was read from."""


@app.callback()
def _group() -> None:
    """Read, replay and compare boot logs, offline."""


LogArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="A boot log, such as /sys/kernel/security/tpm0/binary_bios_measurements.",
    ),
]
BankOption = Annotated[
    HashAlg | None,
    typer.Option(
        "--bank", metavar="BANK", parser=output.argument(HashAlg.from_name), help="sha1, sha256, sha384 or sha512."
    ),
]


@app.command("show", epilog="Example: nodeseal log show /sys/kernel/security/tpm0/binary_bios_measurements")
def show_log(file: LogArgument, bank: BankOption = None, *, as_json: JsonOption = False) -> None:
    """Show what a boot log says was measured, event by event, and which of it the digests do not cover."""
    log = _load(file)
    chosen = _bank(bank, log)
    if as_json:
        output.print_json(_plain_log(log, chosen))
        return
    output.print_facts(_facts(log, chosen))
    _print_line(Text(f"\n    # {_index_name(log):>3}  {'claimed type':{_TYPE_WIDTH}} digest", style="bold"))
    for number, event in log.numbered():
        _print_line(_line(number, event, chosen))


@app.command("replay", epilog="Example: nodeseal log replay boot.log --bank sha256")
def replay_log(file: LogArgument, bank: BankOption = None, *, as_json: JsonOption = False) -> None:
    """Print the PCRs that a boot log accounts for, in every bank or in one, as YAML."""
    log = _load(file)
    banks = (bank,) if bank else log.algorithms
    replayed = {each.hashlib_name: sorted(replay(log, each).items()) for each in banks}
    if as_json:
        output.print_json({name: {str(pcr): value.hex() for pcr, value in pcrs} for name, pcrs in replayed.items()})
        return
    for name, pcrs in replayed.items():
        typer.echo(f"{name}:" if pcrs else f"{name}: {{}}")
        for pcr, value in pcrs:
            typer.echo(f'  "{pcr}": "{value.hex()}"')


@app.command("diff", epilog="Example: nodeseal log diff yesterday.log today.log")
def diff_logs(first: LogArgument, second: LogArgument, bank: BankOption = None, *, as_json: JsonOption = False) -> None:
    """Show the first event of each PCR in which two boot logs differ. Exit code 1: they do."""
    logs = _load(first), _load(second)
    chosen = _bank(bank, *logs)
    differences = diff_event_logs(*logs, chosen)
    if as_json:
        plain = [_plain_difference(each, chosen) for each in differences]
        output.print_json({"bank": chosen.hashlib_name, "equal": not plain, "differences": plain})
    else:
        _print_differences(differences, chosen, (str(first), str(second)), logs)
    if differences:
        raise typer.Exit(output.REFUSED)


def _load(path: Path) -> EventLog:
    with path.open("rb") as file:
        raw = file.read(MAX_LOG + 1)
    try:
        return decode_event_log(raw)
    except MalformedInput as error:
        raise MalformedInput(f"{path}: {error}", remedy=error.remedy) from error


def _bank(chosen: HashAlg | None, *logs: EventLog) -> HashAlg:
    if chosen is None:
        return preferred_bank(*logs)
    if not all(chosen in log.algorithms for log in logs):
        raise MalformedInput(f"event log: has no {chosen.hashlib_name} bank")
    return chosen


def _index_name(log: EventLog) -> str:
    return "MR" if log.form is LogFormat.CCEL else "PCR"


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


def _print_line(line: Text) -> None:
    output.console.print(line, soft_wrap=True)


def _line(number: int, event: Event, bank: HashAlg) -> Text:
    _, style = _STYLES[binding(event, bank)]
    index = "-" if event.pcr == NO_PCR else str(event.pcr)
    digest = event.digests[bank].hex()[:_SHOWN_DIGITS] if bank in event.digests else ""
    return Text.assemble(
        (f"{number:5} ", "dim"),
        (f"{index:>3}  ", "bold cyan"),
        f"{type_name(event.claimed_type):{_TYPE_WIDTH}} ",
        (f"{digest:{_SHOWN_DIGITS}} ", "dim"),
        (_description(event, bank), style),
    )


def _description(event: Event, bank: HashAlg) -> str:
    return _STYLES[binding(event, bank)][0] + describe_event(event)


def _plain_log(log: EventLog, bank: HashAlg) -> dict[str, object]:
    return {
        "format": log.form.value,
        "banks": [each.hashlib_name for each in log.algorithms],
        "banks_not_read": [f"0x{number:04x}" for number in log.unread],
        "shown_bank": bank.hashlib_name,
        "startup_locality": _locality(log),
        "events": [_plain_event(NumberedEvent(number, event), bank) for number, event in log.numbered()],
    }


def _plain_event(place: NumberedEvent, bank: HashAlg) -> dict[str, object]:
    event = place.event
    return {
        "number": place.number,
        "pcr": None if event.pcr == NO_PCR else event.pcr,
        "claimed_type": type_name(event.claimed_type),
        "claimed_type_number": event.claimed_type,
        "digests": {each.hashlib_name: digest.hex() for each, digest in event.digests.items()},
        "data_bound": binding(event, bank).value,
        "description": _description(event, bank),
        "data": event.data.hex(),
    }


def _plain_difference(difference: LogDifference, bank: HashAlg) -> dict[str, object]:
    before, after = difference.before, difference.after
    return {
        "pcr": difference.pcr,
        "same_events": difference.same,
        "first": _plain_event(before, bank) if before else None,
        "second": _plain_event(after, bank) if after else None,
    }


def _print_differences(
    differences: tuple[LogDifference, ...], bank: HashAlg, names: tuple[str, str], logs: tuple[EventLog, EventLog]
) -> None:
    rows = [
        (str(each.pcr), str(each.same), _cell(each, each.before, logs[0], bank), _cell(each, each.after, logs[1], bank))
        for each in differences
    ]
    columns = (_index_name(logs[0]), "alike", *names)
    output.print_table(columns, rows, empty=f"no difference in the {bank.hashlib_name} bank")


def _cell(difference: LogDifference, place: NumberedEvent | None, log: EventLog, bank: HashAlg) -> str:
    if place is None:
        alike = difference.before is difference.after
        return f"startup locality {startup_locality(log)}" if alike else "no further event"
    event = place.event
    digest = event.digests[bank].hex()
    return f"event {place.number} {type_name(event.claimed_type)}\n{digest}\n{_description(event, bank)}"
