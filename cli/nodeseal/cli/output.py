"""What commands print: tables for people, JSON for programs, errors with a hint.

A command makes plain values and parts of its result and gives both to :func:`show`, which prints one of the
two. Nothing else in this package chooses between them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nodeseal.client.config import DEFAULT_CLIENT
from nodeseal.client.connection import Refused
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.wire.messages import describe_finding, state_from_proto

SHOWN_DIGITS: Final = 16
"""Hex digits of a digest where a whole one has no room."""
BLANK_LINE: Final = Text("")
REFUSED = 1
"""Exit code of a command that was refused or failed; misuse is 2, as click has it."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ClientOption = Annotated[
    Path,
    typer.Option(
        "--client", envvar="NODESEAL_CLIENT", help="Folder with client.yaml, or that file.", show_default=True
    ),
]
CLIENT = DEFAULT_CLIENT

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class FactList:
    """One fact a line, names aligned.

    Attributes:
        facts: pairs of name and value; both are text, never markup.
    """

    facts: Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Rows:
    """A table.

    Attributes:
        columns: headings.
        rows: cells, which are text, never markup.
        empty: printed instead of a table without rows.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[str]]
    empty: str


Block: TypeAlias = "FactList | Rows | Text | str | Iterable[Block]"
"""What :func:`show` prints for people. A text goes out as it is; a line is not wrapped unless it says so itself."""


def argument(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """Turn a parser of nodeseal's into one whose refusal is a usage error (exit 2)."""

    def checked(text: str) -> Parsed:
        try:
            return parse(text)
        except MalformedInput as error:
            raise typer.BadParameter("; ".join(filter(None, (str(error), error.remedy)))) from error

    checked.__name__ = parse.__name__.removeprefix("parse_")
    return checked


def report(error: NodesealError) -> int:
    """Print an error with every finding, or its hint, to stderr; return the exit code."""
    findings = _findings(error)
    said = "refused:" if findings else str(error)
    errors.print(f"[bold red]nodeseal:[/] {escape(said)}", highlight=False, soft_wrap=True)
    for text, remedy in findings:
        errors.print(f"  {escape(text)}", highlight=False, soft_wrap=True)
        errors.print(f"    [yellow]do:[/] {escape(remedy)}", highlight=False, soft_wrap=True)
    if error.remedy and not findings:
        errors.print(f"[yellow]hint:[/] {escape(error.remedy)}", highlight=False, soft_wrap=True)
    return REFUSED


def _findings(error: NodesealError) -> list[tuple[str, str]]:
    if isinstance(error, Refused):
        return [(describe_finding(finding), finding.remedy) for finding in error.findings]
    if isinstance(error, PolicyRefused | ProofFailed):
        return [(str(finding), finding.remedy) for finding in error.findings]
    return []


def show(value: object, *parts: Block, as_json: bool, to: Console = console) -> None:
    """Print what a command found: for programs as one JSON document, for people part by part.

    Args:
        value: a protobuf message, a list of messages, plain values, or a function that makes plain values.
        parts: facts, tables, lines and texts, in the order in which people read them. Generators are not run for JSON.
        as_json: whether a program reads it.
        to: where people read it.
    """
    if as_json:
        print_json(plain(value))
    else:
        show_parts(parts, to)


def show_parts(parts: Iterable[Block], to: Console) -> None:
    """Print facts, tables, lines and texts for people."""
    for part in parts:
        match part:
            case FactList():
                to.print(_facts_table(part))
            case Rows():
                table = _rows_table(part)
                to.print(table if table.row_count else part.empty)
            case Text():
                to.print(part, soft_wrap=part.no_wrap is not False)
            case str():
                typer.echo(part, nl=False)
            case _:
                show_parts(part, to)


def plain(value: object) -> object:
    """Return a value of :func:`show` as plain values."""
    match value:
        case Message():
            return message_json(value)
        case list():
            return [plain(each) for each in value]
        case _:
            return value() if callable(value) else value


def print_json(value: object) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def message_json(message: Message) -> dict[str, object]:
    """Return a protobuf message as plain values; absent fields are shown with their defaults."""
    found = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if "state" in found:
        found["state"] = state_from_proto(message.state)  # type: ignore[attr-defined]  # the field just found
    return dict(found)


def write_file(path: Path, content: bytes) -> None:
    """Write an output file of a command.

    Raises:
        Unavailable: the file cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def show_note(text: str) -> None:
    """Tell the reader something beside the result, on stderr."""
    errors.print(Text.assemble(("note:", "yellow"), " ", text), soft_wrap=True)


def show_time(timestamp: Timestamp) -> str:
    """Return a time in UTC to the second, or ``-`` if it is unset."""
    if timestamp.seconds == 0:
        return "-"
    return timestamp.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short_digest(digest: bytes) -> str:
    """Return the first digits of a digest, as tables show it."""
    return f"{digest.hex()[:SHOWN_DIGITS]}…"


def _facts_table(facts: FactList) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.facts:
        table.add_row(escape(name), escape(value))
    return table


def _rows_table(rows: Rows) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows.columns:
        table.add_column(column, overflow="fold", no_wrap=column == rows.columns[0])  # ids are copied from there
    for row in rows.rows:
        table.add_row(*map(escape, row))
    return table
