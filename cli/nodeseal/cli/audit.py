"""``nodeseal audit``: what happened, in the order in which it was recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.client.connection import connect
from nodeseal.v1 import admin_pb2 as pb

_HEX = re.compile(r"[0-9a-f]{40,}")
_SHOWN_DIGITS = 12

app = typer.Typer(no_args_is_help=True, help="Read the verifier's records.")


@app.callback()
def _group() -> None:
    """Read the verifier's records."""


@app.command(
    "list", epilog="Example: nodeseal audit list --limit 20. To follow: nodeseal audit list --after 120 --json"
)
def list_records(
    after: Annotated[
        int | None, typer.Option(min=0, help="Show the first records behind this sequence number, not the newest.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Largest number of records.")] = 1000,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the newest records in the order of the log: who did what to whom.

    Digests are cut short; --json shows all, with the leaf hashes. To follow the log, name the last sequence number that
    you saw with --after; --after 0 reads from the first record on.
    """
    with connect(client) as verifier:
        records = verifier.list_records(after, limit)
    output.show(lambda: list(map(_plain_record, records)), _record_lines(records), as_json=as_json)
    if not as_json and records and (older := records[0].sequence - 1):
        said = f"older records: nodeseal audit list --after {max(older - limit, 0)} --limit {min(limit, older)}"
        output.show_parts([Text(said)], output.errors)


def _plain_record(record: pb.AuditRecord) -> dict[str, object]:
    return {
        "sequence": record.sequence,
        "leaf_hash": record.leaf_hash.hex(),
        "content": json.loads(record.content),
    }


def _record_lines(records: list[pb.AuditRecord]) -> Iterator[Text]:
    """Yield one line that says what happened, and one with the details, which a table would squeeze into a column."""
    if not records:
        yield Text("no records")
    for record in records:
        content = json.loads(record.content)
        time = content["time"][: len("2026-01-01T00:00:00")]
        subject = _short(content["subject"])
        yield Text(f"{record.sequence:>4}  {time}Z  {content['action']}  {subject}  by {content['actor']}")
        known = {name: text for name, value in content["details"].items() if (text := _short(value))}
        if known:
            yield Text("      " + " ".join(f"{name}={text}" for name, text in sorted(known.items())))


def _short(value: object) -> str:
    """Return a value as people read it: findings by id, digests by their first digits, empty values as nothing."""
    if isinstance(value, list):
        return ",".join(map(_short, value))
    if isinstance(value, dict):
        return f"{value.get('id', '')} {value.get('where', '')}".strip()
    return _HEX.sub(lambda found: f"{found[0][:_SHOWN_DIGITS]}…", str(value))
