"""What commands print: tables for people, JSON for programs, errors with a hint."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nodeseal.client.connection import DEFAULT_CLIENT, Refused
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.wire.messages import describe_finding, state_from_proto

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


def print_json(value: object) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def print_message(message: Message) -> None:
    """Print a protobuf message as JSON with its fields' own names."""
    print_json(message_json(message))


def message_json(message: Message) -> dict[str, object]:
    """Return a protobuf message as plain values; absent fields are shown with their defaults."""
    found = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if "state" in found:
        found["state"] = state_from_proto(message.state)  # type: ignore[attr-defined]  # the field just found
    return dict(found)


def write_file(path: Path, content: bytes) -> None:
    """Write what a command was asked to write.

    Raises:
        Unavailable: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print a table, or ``empty`` if there are no rows. Cells are text, never markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])  # ids are copied from there
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table if table.row_count else empty)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print one fact a line, names aligned."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(escape(name), escape(value))
    console.print(table)


def show_time(timestamp: Timestamp) -> str:
    """Return a time in UTC to the second, or ``-`` if it is unset."""
    if timestamp.seconds == 0:
        return "-"
    return timestamp.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
