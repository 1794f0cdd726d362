"""``nodeseal golden activate --dry-run``: what a golden would say of each node of the verifier."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_messages
from nodeseal.cli.output import Rows
from nodeseal.client.connection import connect
from nodeseal.v1 import admin_pb2 as pb
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.messages import state_from_proto

_NOTE: Final = (
    "nothing was changed; activating a golden takes no trust: a node that differs stays trusted while another active "
    "golden matches it, and loses trust when that is retired. A golden of another PCR bank makes nodes quote that "
    "bank, too, and those whose firmware does not extend it lose trust: give such a golden labels"
)
_WORDS: Final = {
    "matches": "matches",
    "differs": "does not match",
    "open": "matches as far as is known; its logs must be judged: nodeseal golden explain NODE --golden FILE",
    "unknown": "nothing is known of its present boot",
    "not-for-it": "not for this node: other labels, or its window is closed",
}


def show_outlook(document: bytes, client: Path, *, as_json: bool) -> None:
    """Print what a golden would say of each node. Exit code 1: one that is trusted now may not be by it alone."""
    with connect(client) as verifier:
        found = verifier.foresee_golden(document)
    columns = ("node", "now", "by this golden alone", "why")
    output.show(lambda: plain_messages(found), Rows(columns, map(_row, found), empty="no nodes"), as_json=as_json)
    if not as_json:
        output.show_note(_NOTE)
    if any(_loses(each) for each in found):
        raise typer.Exit(output.REFUSED)


def _loses(found: pb.GoldenOutlook) -> bool:
    trusted = found.state == attestation_pb2.NODE_STATE_TRUSTED
    return trusted and found.foreseen in {"differs", "not-for-it", "unknown"}


def _row(found: pb.GoldenOutlook) -> tuple[str, ...]:
    why = "\n".join(
        f"{finding.id} {finding.where}: expected {finding.expected}, seen {finding.seen}" for finding in found.findings
    )
    return found.node_id, state_from_proto(found.state), _WORDS.get(found.foreseen, found.foreseen), why
