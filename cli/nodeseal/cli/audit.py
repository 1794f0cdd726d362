"""``nodeseal audit``: what happened, in the order in which it was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.client import CALL_SECONDS, connect
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.v1 import admin_pb2 as pb

_DETAIL_WIDTH = 72

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
    """List records: who did what to whom, with the hash that later proofs refer to."""
    with connect(client) as verifier:
        request = pb.ListRecordsRequest(after=after, limit=limit)
        records = list(verifier.audit.ListRecords(request, timeout=CALL_SECONDS))
    if as_json:
        output.print_json([_plain(record) for record in records])
        return
    output.print_table(("#", "time", "actor", "action", "subject", "details"), _rows(records), empty="no records")


def _plain(record: pb.AuditRecord) -> dict[str, object]:
    return {
        "sequence": record.sequence,
        "leaf_hash": record.leaf_hash.hex(),
        "content": json.loads(record.content),
    }


def _rows(records: list[pb.AuditRecord]) -> Iterator[tuple[str, ...]]:
    for record in records:
        content = json.loads(record.content)
        details = " ".join(f"{name}={_short(value)}" for name, value in sorted(content["details"].items()))
        yield (
            str(record.sequence),
            content["time"],
            content["actor"],
            content["action"],
            content["subject"],
            details,
        )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _DETAIL_WIDTH else text[: _DETAIL_WIDTH - 1] + "…"
