"""``nodeseal golden check``: a golden, predicted or not, compared with one node's measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from nodeseal.appraisal.explanation import Explanation, HeldPcr, explain_folder
from nodeseal.cli import output
from nodeseal.cli.appraise import finding_lines
from nodeseal.cli.evidence import load_evidence
from nodeseal.cli.golden_explain import SourceArgument, plain_explanation, verdict
from nodeseal.cli.golden_source import load_golden
from nodeseal.cli.output import CLIENT, Block, ClientOption, FactList, JsonOption, Rows
from nodeseal.client.naming import Use
from nodeseal.findings import FindingId, Severity
from nodeseal.golden.rules import ALWAYS


def check_golden(
    golden: Annotated[str, typer.Argument(metavar="GOLDEN", help="A file, or the digest of a golden of the verifier.")],
    source: SourceArgument,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Compare a prediction, or any golden, with what a node measured. Exit code 1: they differ.

    Whether the golden is active does not matter: check it against a first node, then activate it.
    """
    explanation = explain_folder(load_evidence(source, client, Use.LOOK), load_golden(golden, client))
    output.show(lambda: plain_explanation(explanation), _check_parts(explanation), as_json=as_json)
    if not explanation.trusted:
        raise typer.Exit(output.REFUSED)


def _check_parts(explanation: Explanation) -> Iterator[Block]:
    golden = explanation.golden
    yield FactList((("golden", golden.name), ("digest", golden.digest), ("verdict", verdict(explanation)[0])))
    columns = ("PCR", "expected", "seen", "verdict", "first event that differs")
    yield Rows(columns, map(_pcr_row, explanation.pcrs), empty="no PCR is judged")
    yield Rows(("rules", "verdict"), _rules(explanation), empty="no rules")
    yield finding_lines(each for each in explanation.findings if each.id is not FindingId.PCR_MISMATCH)


def _pcr_row(held: HeldPcr) -> tuple[str, ...]:
    values = sorted(held.allowed)
    more = f" or {len(values) - 1} more" if len(values) > 1 else ""
    expected = output.short_digest(values[0]) + more if values else "what rules allow"
    told = "see the rules" if not held.pinned else "differs" if held.differs else "as expected"
    seen = "not quoted" if held.seen is None else output.short_digest(held.seen)
    return f"{held.bank.hashlib_name} {held.pcr}", expected, seen, told, _event(held)


def _event(held: HeldPcr) -> str:
    return (held.first or held.unexplained) if held.differs else ""


def _rules(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Yield each kind of rules in the golden, and whether findings contradict it."""
    golden = explanation.golden
    found = [each.id for each in explanation.findings if each.id.severity is not Severity.WARNING]
    counts = FindingId.GOLDEN_NOT_VALID not in found
    for name, rules, prefix in (
        ("boot log", golden.boot, "uefi."),
        ("runtime", golden.runtime, "ima."),
        ("platform", golden.platform, "platform."),
        ("validity and labels", golden.nodes or golden.valid != ALWAYS, "golden."),
    ):
        if rules:
            against = any(each.code.startswith(prefix) for each in found)
            yield name, "not kept" if against else "kept" if counts else "not judged"
