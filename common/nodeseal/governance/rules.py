"""Rules: which acts need a proposal, and who must approve it. A canonical document with a version.

People write YAML, and :mod:`nodeseal.settings` refuses what is not plain there, with file, line and key::

    format: "nodeseal/rules/1"
    version: 2                    # one more than the rules in force
    rule: "quorum"                # or "solo": one person decides alone; then nothing else stands here
    approvals: 2                  # people other than the proposer
    groups:                       # NAME K|any|all MEMBER…, as in a C2SP tlog-policy; members are people or groups above
      - "security any kim lee"
    require: ["security"]         # groups that must have approved as well
    user_verification: false      # whether only FIDO2 keys count that asked for PIN, finger or face
    approvals_last_hours: 72
    needs_proposal: ["all"]       # or kinds of change, such as key.grant

What lets people get around a quorum (:data:`~nodeseal.governance.changes.ALWAYS`) needs a proposal under every quorum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from nodeseal.documents import Fields, Item, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.governance.changes import ALWAYS, ChangeKind
from nodeseal.ids import Digest, PersonId, digest_of, parse_name, parse_person_id
from nodeseal.settings import parse_yaml

FORMAT: Final = "nodeseal/rules/1"
MAX_RULES: Final = 64 * 1024
"""Bytes of a document of rules."""
_MAX_VERSION: Final = 2**31 - 1
_MAX_APPROVALS: Final = 64
_MAX_HOURS: Final = 30 * 24
_MAX_GROUPS: Final = 64
_ALL: Final = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """People of whom some must have approved.

    Attributes:
        name: of the group.
        least: how many members.
        members: people, and groups that stand above it.
    """

    name: str
    least: int
    members: tuple[str, ...]

    def line(self) -> str:
        """Return the group as rules spell it."""
        return " ".join((self.name, str(self.least), *self.members))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules. Only the parsers of this module build them.

    Attributes:
        version: counts from 1.
        solo: one person decides alone.
        approvals: people other than the proposer.
        groups: in the order in which they stand.
        require: names of groups that must have approved.
        user_verification: whether only signatures count whose token knew who signed.
        approvals_last: how long an approval counts.
        governed: kinds of change that need a proposal.
    """

    version: int
    solo: bool
    approvals: int = 0
    groups: tuple[Group, ...] = ()
    require: tuple[str, ...] = ()
    user_verification: bool = False
    approvals_last: timedelta = timedelta()
    governed: frozenset[ChangeKind] = frozenset()

    def governs(self, kind: ChangeKind) -> bool:
        """Tell whether a change of this kind needs a proposal."""
        return not self.solo and kind in self.governed

    def missing(self, approved: Collection[PersonId]) -> Iterator[str]:
        """Yield what approvals by these people, the proposer not among them, lack."""
        if len(approved) < self.approvals:
            yield f"{self.approvals - len(approved)} more of {self.approvals} approvals"
        met = self._met(approved)
        for name in self.require:
            if not met[name]:
                yield f"group {name}"

    def _met(self, approved: Collection[PersonId]) -> Mapping[str, bool]:
        met: dict[str, bool] = {}
        for group in self.groups:
            there = sum(met.get(name, name in approved) for name in group.members)
            met[group.name] = there >= group.least
        return met

    def encode(self) -> bytes:
        """Return the canonical document."""
        plain: dict[str, object] = {"format": FORMAT, "version": self.version, "rule": "solo"}
        if not self.solo:
            plain |= {
                "rule": "quorum",
                "approvals": self.approvals,
                "groups": [group.line() for group in self.groups],
                "require": list(self.require),
                "user_verification": self.user_verification,
                "approvals_last_hours": self.approvals_last // timedelta(hours=1),
                "needs_proposal": sorted(kind.value for kind in self.governed),
            }
        return encode_json(plain)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical document."""
        return digest_of(self.encode())

    @property
    def words(self) -> str:
        """The rules in one sentence."""
        if self.solo:
            return f"solo (version {self.version}): one person decides alone, no second one is asked"
        people = f"{self.approvals} other {'person' if self.approvals == 1 else 'people'}"
        groups = f", groups {', '.join(self.require)}" if self.require else ""
        verified = ", with user verification" if self.user_verification else ""
        return f"quorum (version {self.version}): {people} must approve{groups}{verified}"


SOLO: Final = Rules(version=1, solo=True)
"""The first rules of every verifier, and those of databases of releases before them."""


def solo(version: int) -> Rules:
    """Return rules by which one person decides alone."""
    return Rules(version=version, solo=True)


def parse_rules(raw: bytes, source: str) -> Rules:
    """Parse rules that people wrote, in YAML.

    Raises:
        MalformedInput: too large, not plain YAML, an unknown, duplicate or missing key, or a value that does not fit.
    """
    return _rules(parse_yaml(raw, source, MAX_RULES))


def decode_rules(raw: bytes, source: str) -> Rules:
    """Parse the canonical document of rules.

    Raises:
        MalformedInput: as :func:`parse_rules`, or it has another spelling.
    """
    if len(raw) > MAX_RULES:
        raise MalformedInput(f"{source}: more than {MAX_RULES} bytes")
    rules = _rules(Fields(decode_json(raw, source), source))
    if rules.encode() != raw:
        raise MalformedInput(f"{source}: not in its one spelling", remedy="let nodeseal propose rules write it")
    return rules


def _rules(fields: Fields) -> Rules:
    fields.constant("format", FORMAT)
    version = fields.integer("version", low=1, high=_MAX_VERSION)
    rule = fields.text("rule", max_length=16)
    if rule not in {"solo", "quorum"}:
        raise fields.wrong("rule", '"solo" or "quorum"')
    rules = Rules(version=version, solo=True) if rule == "solo" else _quorum(fields, version)
    fields.done()
    return rules


def _quorum(fields: Fields, version: int) -> Rules:
    approvals = fields.integer("approvals", low=1, high=_MAX_APPROVALS)
    groups = _groups(fields)
    return Rules(
        version=version,
        solo=False,
        approvals=approvals,
        groups=groups,
        require=_required(fields, {group.name for group in groups}),
        user_verification=fields.boolean("user_verification"),
        approvals_last=timedelta(hours=fields.integer("approvals_last_hours", low=1, high=_MAX_HOURS)),
        governed=_governed(fields),
    )


def _groups(fields: Fields) -> tuple[Group, ...]:
    if not fields.has("groups"):
        return ()
    groups: dict[str, Group] = {}
    for item in fields.each("groups", max_items=_MAX_GROUPS) if not _is_empty(fields) else ():
        group = _group(item, groups)
        groups[group.name] = group
    return tuple(groups.values())


def _is_empty(fields: Fields) -> bool:
    """Tell whether the list of groups is empty, and take it then: canonical documents have one."""
    empty = fields.holds_nothing("groups")
    if empty:
        fields.take("groups")
    return empty


def _group(item: Item, above: Mapping[str, Group]) -> Group:
    name, threshold, *members = [*item.text(max_length=8192).split(" "), "", ""][:-2] or ("", "")
    if not threshold or not members:
        raise item.wrong("NAME K|any|all MEMBER…")
    parse_name(name, "group")
    for member in members:
        parse_person_id(member)
    if name in above or name in members or len(set(members)) != len(members):
        raise item.wrong("a group of its own name with different members")
    return Group(name=name, least=_least(item, threshold, len(members)), members=tuple(members))


def _least(item: Item, threshold: str, members: int) -> int:
    words = {"any": 1, "all": members}
    least = words.get(threshold, int(threshold) if threshold.isascii() and threshold.isdigit() else 0)
    if not 1 <= least <= members:
        raise item.wrong(f"a group of any, all or 1 to {members} members")
    return least


def _required(fields: Fields, known: Collection[str]) -> tuple[str, ...]:
    names = fields.texts("require", max_items=_MAX_GROUPS) if fields.has("require") else ()
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) != len(names):
        raise fields.wrong("require", "a list of groups, each once")
    return names


def _governed(fields: Fields) -> frozenset[ChangeKind]:
    names = fields.texts("needs_proposal", max_items=len(ChangeKind), max_length=64)
    if _ALL in names:
        return frozenset(ChangeKind)
    known = {kind.value: kind for kind in ChangeKind}
    unknown = [name for name in names if name not in known]
    if unknown:
        expected = "a list of kinds of change, or all"
        raise fields.wrong("needs_proposal", expected, remedy=f"choose of {', '.join(sorted(known))}")
    return frozenset(known[name] for name in names) | ALWAYS
