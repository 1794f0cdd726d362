"""What commands print: tables for people, JSON for programs, errors with a hint.

A command makes plain values and parts of its result and gives both to :func:`show`, which prints one of the
two. Nothing else in this package chooses between them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nodeseal.client.config import DEFAULT_CLIENT
from nodeseal.client.refusal import Refused
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.program import plain_error

SHOWN_DIGITS: Final = 16
"""Hex digits of a digest where a whole one has no room."""
BLANK_LINE: Final = Text("")
_ROLL: Final = 1_000_000
"""Columns of what is no terminal."""
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


Block: TypeAlias = "FactList | Rows | Text | str | bytes | Iterable[Block]"
"""What :func:`show` prints for people. A text goes out as it is, a document byte by byte; a line is not wrapped unless
it says so itself."""


def argument(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """Turn a parser of nodeseal's into one whose refusal is a usage error (exit 2)."""

    def checked(text: str) -> Parsed:
        try:
            return parse(text)
        except MalformedInput as error:
            raise typer.BadParameter("; ".join(filter(None, (str(error), error.remedy)))) from error

    checked.__name__ = parse.__name__.removeprefix("parse_")
    return checked


def report(error: NodesealError, *, as_json: bool = False) -> int:
    """Print an error with every finding, or its hint, to stderr; for programs also to stdout. Return the exit code."""
    findings = _findings(error)
    if as_json:
        print_json(plain_error(error, findings))
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
        return list(error.findings)
    if isinstance(error, PolicyRefused | ProofFailed):
        return [(str(finding), finding.remedy) for finding in error.findings]
    return []


def show(value: object, *parts: Block, as_json: bool, to: Console = console) -> None:
    """Print what a command found: for programs as one JSON document, for people part by part.

    Args:
        value: plain values, or a function that makes them.
        parts: facts, tables, lines and texts, in the order in which people read them. Generators are not run for JSON.
        as_json: whether a program reads it.
        to: where people read it.
    """
    if as_json:
        print_json(value() if callable(value) else value)
    else:
        show_parts(parts, to)


def show_parts(parts: Iterable[Block], to: Console) -> None:
    """Print facts, tables, lines and texts for people."""
    for part in parts:
        match part:
            case FactList():
                _print_table(_facts_table(part), to)
            case Rows():
                table = _rows_table(part, to)
                _print_table(table, to) if table.row_count else to.print(part.empty)
            case Text():
                to.print(part, soft_wrap=part.no_wrap is not False or not to.is_terminal)
            case str() | bytes():
                typer.echo(part, nl=False)
            case _:
                show_parts(part, to)


def print_json(value: object) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


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


def short_digest(digest: bytes) -> str:
    """Return the first digits of a digest, as tables show it."""
    return f"{digest.hex()[:SHOWN_DIGITS]}…"


def _facts_table(facts: FactList) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in facts.facts:
        table.add_row(escape(name), escape(value))
    return table


def _rows_table(rows: Rows, to: Console) -> Table:
    cells = list(rows.rows)
    longest = max((cell_len(row[0]) for row in cells), default=0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows.columns:
        whole = column == rows.columns[0] and longest <= to.width // 2  # ids are copied from there
        table.add_column(column, overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def _print_table(table: Table, to: Console) -> None:
    """Print a table: folded to a terminal, elsewhere as wide as it is and without spaces at the ends of lines."""
    if to.is_terminal:
        to.print(table)
        return
    for line in to.render_lines(table, to.options.update_width(_ROLL), pad=False):
        to.print(Text("".join(segment.text for segment in line).rstrip()), soft_wrap=True)
