"""``nodeseal golden explain``: how a node differs from goldens, event by event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nodeseal.appraisal.explanation import Explanation, HeldPcr, explain_folder
from nodeseal.boot.difference import EventDifference, Shown
from nodeseal.cli import output
from nodeseal.cli.appraise import finding_lines, plain_finding
from nodeseal.cli.evidence import load_evidence
from nodeseal.cli.golden_source import QuirksOption, active_goldens, load_golden, quirks_of
from nodeseal.cli.output import BLANK_LINE, CLIENT, Block, ClientOption, JsonOption
from nodeseal.client.naming import Use
from nodeseal.errors import OutOfOrder
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg

SourceArgument = Annotated[
    str, typer.Argument(metavar="NODE|DIR", help="A connected node, or a folder that nodeseal node evidence wrote.")
]
GoldensOption = Annotated[
    list[str] | None,
    typer.Option(
        "--golden",
        metavar="FILE|DIGEST",
        help="A file, or a golden of the verifier; may be repeated. Without it: all that are active.",
    ),
]


def explain_node(
    source: SourceArgument,
    golden: GoldensOption = None,
    quirks: QuirksOption = None,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show whether a node matches each golden, and what differs. Exit code 1: no golden makes it trusted.

    For every PCR that differs, the events of the golden's machine (-) and the events seen instead (+) are listed.
    """
    goldens = _goldens(golden or (), client)
    folder = load_evidence(source, client, Use.LOOK)
    known = quirks_of(quirks)
    explanations = [explain_folder(folder, each, known) for each in goldens]
    output.show(
        lambda: {"node_id": folder.channel.node_id, "goldens": list(map(plain_explanation, explanations))},
        *map(_explanation_parts, explanations),
        as_json=as_json,
    )
    if not any(each.trusted for each in explanations):
        raise typer.Exit(output.REFUSED)


def _goldens(sources: Sequence[str], client: Path) -> list[Golden]:
    goldens = [load_golden(each, client) for each in sources] if sources else active_goldens(client)
    if not goldens:
        raise OutOfOrder("no golden is active", remedy="name one: --golden FILE")
    return goldens


def verdict(explanation: Explanation) -> tuple[str, str]:
    """Return the verdict on evidence by a golden in words, and their colour."""
    if explanation.trusted:
        return "matches", "green"
    if explanation.matches:
        return "matches, but something else speaks against the node", "yellow"
    return "does not match", "red"


def plain_explanation(explanation: Explanation) -> dict[str, object]:
    """Return an explanation as plain values."""
    return {
        "name": explanation.golden.name,
        "digest": explanation.golden.digest,
        "matches": explanation.matches,
        "trusted": explanation.trusted,
        "findings": [plain_finding(finding) for finding in explanation.findings],
        "pcrs": [_plain_pcr(held) for held in explanation.pcrs],
    }


def _plain_pcr(held: HeldPcr) -> dict[str, object]:
    return {
        "bank": held.bank.hashlib_name,
        "pcr": held.pcr,
        "judged_by": "value" if held.pinned else "rules",
        "expected": sorted(value.hex() for value in held.allowed),
        "seen": None if held.seen is None else held.seen.hex(),
        "differs": held.differs,
        "first_difference": held.first,
        "differences": [
            {"golden": _plain_event(each.golden), "seen": _plain_event(each.seen)} for each in held.differences
        ],
        "unexplained": held.unexplained,
    }


def _plain_event(event: Shown | None) -> dict[str, str] | None:
    return None if event is None else {"what": event.what, "digest": event.digest.hex()}


def _explanation_parts(explanation: Explanation) -> Iterator[Block]:
    words, colour = verdict(explanation)
    golden = explanation.golden
    yield Text.assemble((golden.name, "bold"), (f"  {golden.digest}  ", "dim"), (words, colour))
    yield finding_lines(explanation.findings, explained=True)
    if not explanation.matches:
        yield _difference_lines(explanation.pcrs)
    yield BLANK_LINE


def _difference_lines(pcrs: Iterable[HeldPcr]) -> Iterator[Text]:
    """Yield the events that differ, of PCRs judged by value and of PCRs judged by rules."""
    different = (held for held in pcrs if held.differs or held.differences)
    for (bank, pinned, unexplained, differences), alike in groupby(different, _told):
        numbers = ", ".join(str(held.pcr) for held in alike)
        how = "" if pinned else ", judged by rules"
        yield Text(f"{bank.hashlib_name} PCR {numbers}{how}", style="bold")
        if unexplained:
            yield Text(f"  {unexplained}", style="yellow")
        yield from _changes(differences)


def _told(held: HeldPcr) -> tuple[HashAlg, bool, str, tuple[EventDifference, ...]]:
    """Return the printed facts of a PCR; neighbours with equal facts share their lines."""
    return held.bank, held.pinned, held.unexplained, held.differences


def _changes(differences: Iterable[EventDifference]) -> Iterator[Text]:
    for each in differences:
        for sign, event, colour in (("-", each.golden, "red"), ("+", each.seen, "green")):
            if event is not None:
                yield Text(f"  {sign} {output.short_digest(event.digest)} {event.what}", style=colour)
