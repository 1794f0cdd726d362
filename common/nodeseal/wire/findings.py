"""Findings as JSON values: one form for the database, the audit log, the local socket, tokens and ``--json``.

Severity and remedy follow from a finding's id, so they need not be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.findings import BY_CODE, Finding

MAX_FINDING_TEXT: Final = 16384
"""Characters of one text of a finding on the local socket."""


def plain_finding(finding: Finding) -> dict[str, str]:
    """Return a finding as JSON values."""
    return {
        "id": finding.id.code,
        "where": finding.where,
        "expected": finding.expected,
        "seen": finding.seen,
        "event": finding.event,
    }


def plain_findings(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as a JSON list."""
    return [plain_finding(finding) for finding in findings]


def parse_finding(fields: Fields, text: Callable[[str], str]) -> Finding:
    """Return the finding that a mapping holds.

    Args:
        fields: the mapping.
        text: returns the text under a key of ``fields``, or refuses it.

    Raises:
        MalformedInput: this version does not know the id, or a text is missing or refused.
    """
    code = fields.text("id")
    if code not in BY_CODE:
        raise MalformedInput(f"unknown finding {code[:80]!a}", remedy="update nodeseal here")
    return Finding(
        id=BY_CODE[code],
        expected=text("expected"),
        seen=text("seen"),
        where=text("where"),
        event=text("event") if fields.has("event") else "",
    )
