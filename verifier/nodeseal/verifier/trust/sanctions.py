"""Whether every act that needed approvals carries them: decided again, by the rules and people of its moment.

A start asks this of the whole log, before anything that was decided is loaded. Rules and people are followed act by
act, so a signature counts as it counted then: by keys that people had, and under the rules that were in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from nodeseal.crypto.ssh_key import decode_ssh_key, parse_ssh_key
from nodeseal.errors import MalformedInput
from nodeseal.governance.changes import Change, ChangeKind
from nodeseal.governance.proposal import decode_proposal, proposal_id
from nodeseal.governance.quorum import Member, Outcome, Question, decide
from nodeseal.governance.rules import SOLO, Rules, decode_rules
from nodeseal.governance.sanction import ApprovedProposal, decode_approved
from nodeseal.ids import Digest, PersonId, digest_of
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.leaf import Entry, read_entry
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.acts import every_act, find_document
from nodeseal.verifier.store.nodes import decode_labels

_REMEDY: Final = "restore the last backup that starts, and find out who can write to the database"
_Find: TypeAlias = Callable[[Digest], bytes]
_PROPOSERS: Final = frozenset({Role.OPERATOR.value, Role.APPROVER.value})


@dataclass(frozen=True, slots=True)
class Place:
    """Where proposals hold.

    Attributes:
        trust_domain: of the verifier.
        origin: of its log.
    """

    trust_domain: str
    origin: str


@dataclass(slots=True)
class _Situation:
    """Rules and people as the acts so far have left them."""

    rules: Rules = SOLO
    roles: dict[PersonId, frozenset[str]] = field(default_factory=dict)
    suspended: set[PersonId] = field(default_factory=set)
    spent: dict[Digest, datetime] = field(default_factory=dict)
    keys: dict[bytes, tuple[PersonId, bool]] = field(default_factory=dict)

    def members(self) -> dict[PersonId, Member]:
        return {name: self._member(name, roles) for name, roles in self.roles.items()}

    def _member(self, name: PersonId, roles: frozenset[str]) -> Member:
        active = name not in self.suspended
        own = {blob: in_token for blob, (holder, in_token) in self.keys.items() if holder == name}
        return Member(
            name=name,
            proposes=active and bool(roles & _PROPOSERS),
            approves=active and Role.APPROVER.value in roles,
            keys=frozenset(own),
            token_keys=frozenset(blob for blob, in_token in own.items() if in_token),
        )

    def is_spent(self, proposal: Digest, entry: Entry) -> bool:
        """Tell whether a proposal has led to an act before; only slots of one decision may need several acts."""
        before = self.spent.get(proposal)
        self.spent[proposal] = entry.at
        return before is not None and not (before == entry.at and isinstance(entry.act, acts.SlotsRewrapped))

    def follow(self, act: acts.Act, find: Callable[[Digest], bytes]) -> None:
        match act:
            case acts.RulesSet():
                self.rules = decode_rules(find(act.rules), "rules")
            case acts.PersonAdded():
                self.roles[act.name] = frozenset(act.roles)
                self.suspended.discard(act.name)
            case acts.PersonRemoved():
                self.roles.pop(act.name, None)
                self.keys = {blob: each for blob, each in self.keys.items() if each[0] != act.name}
            case acts.PersonSuspended():
                self.suspended.add(act.name)
            case acts.PersonResumed():
                self.suspended.discard(act.name)
            case acts.PersonKeyAdded():
                self.keys[act.blob] = (act.name, act.in_token)
            case acts.PersonKeyRemoved():
                self.keys = {blob: each for blob, each in self.keys.items() if not _is_key(blob, each[0], act)}


def _is_key(blob: bytes, holder: PersonId, act: acts.PersonKeyRemoved) -> bool:
    return holder == act.name and decode_ssh_key(blob).fingerprint == act.fingerprint


def check_sanctions(connection: sa.Connection, place: Place) -> None:
    """Make sure that every act that needed approvals carries approvals that counted.

    Raises:
        MalformedInput: one does not; the message names it.
    """
    for entry, why in unsanctioned(
        tuple(_entries(connection)), lambda digest: find_document(connection, digest), place
    ):
        what = f"{entry.act.kind} at {entry.at.isoformat(timespec='seconds')}"
        raise MalformedInput(f"store: act {what} is not approved: {why}", remedy=_REMEDY)


def unsanctioned(
    entries: Sequence[Entry], find_content: Callable[[Digest], bytes | None], place: Place
) -> Iterator[tuple[Entry, str]]:
    """Yield every act that needed approvals and has none that counted, and why.

    Args:
        entries: the log, or those of its acts that are known.
        find_content: returns a document, or None if it is not there.
        place: where proposals of the last log hold.

    Raises:
        MalformedInput: a document is missing, was changed, or does not parse.
    """
    state, origins = _Situation(), [*_former_origins(entries), place.origin]

    def find(digest: Digest) -> bytes:
        content = find_content(digest)
        if content is None or digest_of(content) != digest:
            raise MalformedInput(f"document {digest} is missing, or was changed by hand", remedy=_REMEDY)
        return content

    for entry in entries:
        if isinstance(entry.act, acts.OriginChanged):
            origins.pop(0)
        why = _lacks(state, entry, find, Place(place.trust_domain, origins[0]))
        if why:
            yield entry, why
        state.follow(entry.act, find)


def _entries(connection: sa.Connection) -> Iterator[Entry]:
    for row in every_act(connection):
        if row.kind in _FOLLOWED:
            yield read_entry(row.envelope, row.body)


def _former_origins(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the names of the logs before this one: proposals of theirs counted there."""
    yield from (entry.act.origin for entry in entries if isinstance(entry.act, acts.OriginChanged))


def _lacks(state: _Situation, entry: Entry, find: Callable[[Digest], bytes], place: Place) -> str:
    """Return why an act is not approved as the rules of its moment want it; empty: it is, or needs no approval."""
    kind = KIND_OF.get(type(entry.act))
    if kind is None or _stands_alone(entry.act) or not (state.rules.governs(kind) or _raises_quorum(entry.act, find)):
        return ""
    approvals: Digest = getattr(entry.act, "approvals", acts.ALONE)
    if not approvals:
        return "it carries no approvals"
    approved = decode_approved(find(approvals), "approvals")
    return _refusal(state, entry, approved, find, place)


def _stands_alone(act: acts.Act) -> bool:
    """Tell whether an act is of the kind that needs approvals, and came about otherwise: it lapsed, or root did it."""
    by_root = (isinstance(act, acts.RulesSet) and act.recovery) or _removed_alone(act)
    return bool(getattr(act, "lapsed", False)) or by_root


def _removed_alone(act: acts.Act) -> bool:
    """Tell whether somebody was removed by a command on the host, which only takes away."""
    return isinstance(act, acts.PersonRemoved) and not act.approvals


def _raises_quorum(act: acts.Act, find: Callable[[Digest], bytes]) -> bool:
    return isinstance(act, acts.RulesSet) and not decode_rules(find(act.rules), "rules").solo


def _refusal(state: _Situation, entry: Entry, approved: ApprovedProposal, find: _Find, place: Place) -> str:
    proposal = decode_proposal(approved.document, "proposal")
    if not _MATCHES[proposal.change.kind](proposal.change, entry.act) or not _same_labels(proposal.change, entry, find):
        return "its proposal says something else"
    if state.is_spent(proposal_id(approved.document), entry):
        return "its proposal took effect before"
    act = entry.act
    question = Question(
        proposal=proposal,
        document=approved.document,
        signature=approved.signature,
        approvals=approved.approvals,
        rules=state.rules,
        following=decode_rules(find(act.rules), "rules") if isinstance(act, acts.RulesSet) else None,
        people=state.members(),
        now=entry.at,
        base=proposal.base,
        trust_domain=place.trust_domain,
        origin=place.origin,
    )
    answer = decide(question)
    return "" if answer.outcome is Outcome.APPROVED else "; ".join(answer.why)


KIND_OF: Final[Mapping[type[Any], ChangeKind]] = {
    acts.NodeAdmitted: ChangeKind.NODE_ADMIT,
    acts.NodeLabelled: ChangeKind.NODE_LABEL,
    acts.GoldenActivated: ChangeKind.GOLDEN_ACTIVATE,
    acts.KeyCreated: ChangeKind.KEY_CREATE,
    acts.KeyPolicySet: ChangeKind.KEY_POLICY,
    acts.KeyGranted: ChangeKind.KEY_GRANT,
    acts.KeyResumed: ChangeKind.KEY_RESUME,
    acts.KeyRevoked: ChangeKind.KEY_REVOKE,
    acts.ModelRegistered: ChangeKind.MODEL_REGISTER,
    acts.SlotsRewrapped: ChangeKind.MODEL_RESLOT,
    acts.PersonAdded: ChangeKind.PERSON_INVITE,
    acts.PersonRemoved: ChangeKind.PERSON_REMOVE,
    acts.PersonKeyAdded: ChangeKind.PERSON_KEY_ADD,
    acts.PersonKeyRemoved: ChangeKind.PERSON_KEY_REMOVE,
    acts.PersonResumed: ChangeKind.PERSON_RESUME,
    acts.RulesSet: ChangeKind.RULES_SET,
}
"""The kind of change that each widening act makes."""
_FOLLOWED: Final = frozenset(
    {kind.kind for kind in KIND_OF}
    | {acts.PersonAdded.kind, acts.PersonRemoved.kind, acts.PersonSuspended.kind, acts.OriginChanged.kind}
)


def _same(kind: type[Any], **named: str) -> Callable[[Change, Any], bool]:
    """Return whether an act of a kind says what a change says, fact by field."""

    def match(change: Change, act: Any) -> bool:
        return isinstance(act, kind) and all(
            change.facts[fact] == getattr(act, attribute) for fact, attribute in named.items()
        )

    return match


def _same_person(change: Change, act: Any) -> bool:
    return _same(acts.PersonAdded, person="name")(change, act) and change.texts("roles") == act.roles


def _same_model(change: Change, act: Any) -> bool:
    return _same(acts.ModelRegistered, model="digest")(change, act) and bool(change.facts["again"]) >= act.again


def _same_slots(change: Change, act: Any) -> bool:
    return _same(acts.SlotsRewrapped, model="digest")(change, act) and set(act.made) <= set(change.texts("keys"))


def _same_labels(change: Change, entry: Entry, find: _Find) -> bool:
    """Tell whether new labels of a node are the old ones with what a change says of them; true of all other acts."""
    act = entry.act
    if not isinstance(act, acts.NodeLabelled):
        return True
    wanted = {**decode_labels(find(act.previous)), **change.labels()}
    return decode_labels(find(act.labels)) == {name: value for name, value in wanted.items() if value}


def _same_key(change: Change, act: Any) -> bool:
    own = _same(acts.PersonKeyAdded, person="name")
    return own(change, act) and parse_ssh_key(change.text("key")).blob == act.blob


_MATCHES: Final[Mapping[ChangeKind, Callable[[Change, Any], bool]]] = {
    ChangeKind.NODE_ADMIT: _same(acts.NodeAdmitted, node="node_id"),
    ChangeKind.NODE_LABEL: _same(acts.NodeLabelled, node="node_id"),
    ChangeKind.GOLDEN_ACTIVATE: _same(acts.GoldenActivated, golden="digest", document="document"),
    ChangeKind.KEY_CREATE: _same(acts.KeyCreated, key="key_id", suite="suite", silence_seconds="silence_seconds"),
    ChangeKind.KEY_POLICY: _same(acts.KeyPolicySet, key="key_id", silence_seconds="silence_seconds"),
    ChangeKind.KEY_GRANT: _same(acts.KeyGranted, key="key_id", node="node_id", max_leases="max_leases"),
    ChangeKind.KEY_RESUME: _same(acts.KeyResumed, key="key_id"),
    ChangeKind.KEY_REVOKE: _same(acts.KeyRevoked, key="key_id"),
    ChangeKind.MODEL_REGISTER: _same_model,
    ChangeKind.MODEL_RESLOT: _same_slots,
    ChangeKind.PERSON_INVITE: _same_person,
    ChangeKind.PERSON_REMOVE: _same(acts.PersonRemoved, person="name"),
    ChangeKind.PERSON_KEY_ADD: _same_key,
    ChangeKind.PERSON_KEY_REMOVE: _same(acts.PersonKeyRemoved, person="name", fingerprint="fingerprint"),
    ChangeKind.PERSON_RESUME: _same(acts.PersonResumed, person="name"),
    ChangeKind.RULES_SET: _same(acts.RulesSet, document="rules"),
}
