"""``nodeseal audit``: what happened, in the order in which it was recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.client import CALL_SECONDS, connect
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.v1 import admin_pb2 as pb

_HEX = re.compile(r"[0-9a-f]{40,}")
_SHOWN_DIGITS = 12

app = typer.Typer(no_args_is_help=True, help="Read the verifier's records.")


@app.callback()
def _group() -> None:
    """Read the verifier's records."""


@app.command("list", epilog="Example: nodeseal audit list --after 120 --json")
def list_records(
    after: Annotated[int, typer.Option(min=0, help="Start behind this sequence number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many records.")] = 1000,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """List records: who did what to whom. Digests are cut short; --json shows all, with the leaf hashes."""
    with connect(client) as verifier:
        request = pb.ListRecordsRequest(after=after, limit=limit)
        records = list(verifier.audit.ListRecords(request, timeout=CALL_SECONDS))
    if as_json:
        output.print_json([_plain(record) for record in records])
        return
    for line in _lines(records) if records else ("no records",):
        output.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _plain(record: pb.AuditRecord) -> dict[str, object]:
    return {
        "sequence": record.sequence,
        "leaf_hash": record.leaf_hash.hex(),
        "content": json.loads(record.content),
    }


def _lines(records: list[pb.AuditRecord]) -> Iterator[str]:
    """Yield one line that says what happened, and one with the details, which a table would squeeze into a column."""
    for record in records:
        content = json.loads(record.content)
        time = content["time"][: len("2026-01-01T00:00:00")]
        yield f"{record.sequence:>4}  {time}Z  {content['action']}  {_short(content['subject'])}  by {content['actor']}"
        known = {name: text for name, value in content["details"].items() if (text := _short(value))}
        if known:
            yield "      " + " ".join(f"{name}={text}" for name, text in sorted(known.items()))


def _short(value: object) -> str:
    """Return a value as people read it: findings by id, digests by their first digits; nothing for what is empty."""
    if isinstance(value, list):
        return ",".join(map(_short, value))
    if isinstance(value, dict):
        return f"{value.get('id', '')} {value.get('where', '')}".strip()
    return _HEX.sub(lambda found: f"{found[0][:_SHOWN_DIGITS]}…", str(value))
