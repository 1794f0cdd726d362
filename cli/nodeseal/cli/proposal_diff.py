"""What proposed goldens and rules change, line by line, compared with those that are active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nodeseal.cli.naming import golden_of
from nodeseal.cli.proposal_view import read_proposal
from nodeseal.client.naming import Use
from nodeseal.client.verifier import Verifier
from nodeseal.documents import decode_json
from nodeseal.errors import MalformedInput
from nodeseal.golden.difference import diff_goldens
from nodeseal.golden.document import parse_golden
from nodeseal.golden.model import Golden
from nodeseal.governance.changes import ChangeKind
from nodeseal.ids import digest_of
from nodeseal.v1 import governance_pb2 as pb


class Difference(NamedTuple):
    """One thing that changes.

    Attributes:
        where: section and place.
        before: what is said now.
        after: what would be said.
    """

    where: str
    before: str
    after: str


def differences(verifier: Verifier, state: pb.ProposalState, against: str) -> list[Difference]:
    """Return what a proposal changes.

    Raises:
        MalformedInput: the verifier sends another attachment than the proposal names.
    """
    change = read_proposal(state).change
    if change.kind is ChangeKind.GOLDEN_ACTIVATE:
        proposed = parse_golden(_attachment(verifier, state), "the proposed golden")
        return [each for golden in _compared(verifier, proposed, against) for each in _goldens(golden, proposed)]
    if change.kind is ChangeKind.RULES_SET:
        now, then = verifier.get_rules().document, _attachment(verifier, state)
        return list(_fields(_mapping(now), _mapping(then)))
    return [Difference("effect", "", line) for line in state.effects]


def _attachment(verifier: Verifier, state: pb.ProposalState) -> bytes:
    attachment = verifier.get_attachment(state.proposal)
    if digest_of(attachment) != read_proposal(state).change.attachment:
        raise MalformedInput("the verifier sent another attachment than the proposal names")
    return attachment


def _compared(verifier: Verifier, proposed: Golden, against: str) -> Iterator[Golden]:
    """Yield the goldens to compare with: the one that is named, else active ones of that name, else all active ones."""
    if against:
        digests = [golden_of(verifier, against, Use.LOOK)]
    else:
        active = verifier.list_goldens()
        digests = [each.digest for each in active if each.name == proposed.name] or [each.digest for each in active]
    for digest in digests:
        yield parse_golden(verifier.get_golden(digest).document, f"golden {digest}")


def _goldens(now: Golden, then: Golden) -> Iterator[Difference]:
    for each in diff_goldens(now, then):
        where = f"{now.name}: {each.section} {each.where}"
        yield Difference(where, "\n".join(each.before) or "-", "\n".join(each.after) or "-")


def _mapping(document: bytes) -> Mapping[str, object]:
    value = decode_json(document, "rules")
    if not isinstance(value, dict):
        raise MalformedInput("rules: not a mapping")
    return value


def _fields(now: Mapping[str, object], then: Mapping[str, object]) -> Iterator[Difference]:
    for key in sorted({*now, *then}):
        before, after = now.get(key), then.get(key)
        if before != after:
            yield Difference(key, _spelled(before), _spelled(after))


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
