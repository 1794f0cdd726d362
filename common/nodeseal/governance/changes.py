"""What a proposal may change: one table of kinds, with the facts, the sentence and the command of each.

A change names things by id and digest. What is larger travels beside the proposal as its *attachment*, which the change
names by its SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from nodeseal.crypto.ssh_key import parse_ssh_key
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.ids import (
    Digest,
    parse_digest,
    parse_key_id,
    parse_labels,
    parse_name,
    parse_node_id,
    parse_person_id,
)
from nodeseal.sealed.slots import parse_suite


class ChangeKind(Enum):
    """What widens trust or cannot be undone."""

    NODE_ADMIT = "node.admit"
    NODE_LABEL = "node.label"
    GOLDEN_ACTIVATE = "golden.activate"
    KEY_CREATE = "key.create"
    KEY_POLICY = "key.policy"
    KEY_GRANT = "key.grant"
    KEY_RESUME = "key.resume"
    KEY_REVOKE = "key.revoke"
    MODEL_REGISTER = "model.register"
    MODEL_RESLOT = "model.reslot"
    PERSON_INVITE = "person.invite"
    PERSON_REMOVE = "person.remove"
    PERSON_KEY_ADD = "person.key-add"
    PERSON_KEY_REMOVE = "person.key-remove"
    PERSON_RESUME = "person.resume"
    RULES_SET = "rules.set"


ALWAYS: Final = frozenset(
    {
        ChangeKind.RULES_SET,
        ChangeKind.PERSON_INVITE,
        ChangeKind.PERSON_REMOVE,
        ChangeKind.PERSON_KEY_ADD,
        ChangeKind.PERSON_KEY_REMOVE,
        ChangeKind.PERSON_RESUME,
    }
)
"""Kinds that every quorum governs: with any of them, people could get around it."""

Value: TypeAlias = "str | int | bool | dict[str, str] | list[str]"
_Take: TypeAlias = Callable[[Fields, str], Value]
_MAX_SECONDS: Final = 24 * 3600
_MAX_LEASES: Final = 1024
_MAX_KEYS: Final = 64
_ROLES: Final = frozenset({"approver", "auditor", "operator", "viewer"})


def _text(parse: Callable[[str], str], longest: int = 128) -> _Take:
    return lambda fields, key: parse(fields.text(key, max_length=longest))


def _number(low: int, high: int) -> _Take:
    return lambda fields, key: fields.integer(key, low=low, high=high)


def _labels(fields: Fields, key: str) -> Value:
    inner = fields.fields(key)
    found = {name: inner.text(name, max_length=256) for name in inner.keys()}  # noqa: SIM118 - no mapping
    for name in found:
        parse_name(name, "label")
    parse_labels({name: value for name, value in found.items() if value})
    return found


def _keys(fields: Fields, key: str) -> Value:
    return list(fields.texts(key, max_items=_MAX_KEYS, max_length=128))


def _roles(fields: Fields, key: str) -> Value:
    roles = list(fields.texts(key, max_items=len(_ROLES), max_length=16))
    if not roles or roles != sorted(set(roles)) or not _ROLES.issuperset(roles):
        raise fields.wrong(key, f"a sorted list of {', '.join(sorted(_ROLES))}")
    return roles


_NODE, _KEY, _PERSON = _text(parse_node_id), _text(parse_key_id), _text(parse_person_id)
_DIGEST: Final = _text(parse_digest)
_SECONDS: Final = _number(0, _MAX_SECONDS)


class Shape(NamedTuple):
    """A kind of change.

    Attributes:
        facts: how each fact is read.
        words: a sentence with the facts in braces.
        command: what a person types to propose it.
        attachment: the fact that names the attachment by digest; empty: there is none.
    """

    facts: Mapping[str, _Take]
    words: str
    command: str
    attachment: str = ""


SHAPES: Final[Mapping[ChangeKind, Shape]] = {
    ChangeKind.NODE_ADMIT: Shape(
        {"node": _NODE}, "Admit node {node}, so that it may be trusted.", "nodeseal propose node admit NODE"
    ),
    ChangeKind.NODE_LABEL: Shape(
        {"node": _NODE, "labels": _labels},
        "Change labels of node {node}: {labels}.",
        "nodeseal propose node label NODE LABEL=VALUE",
    ),
    ChangeKind.GOLDEN_ACTIVATE: Shape(
        {"golden": _DIGEST, "name": _text(lambda text: parse_name(text, "name")), "document": _DIGEST},
        "Activate golden {name} ({golden}): nodes that match it are trusted.",
        "nodeseal propose golden activate FILE",
        "document",
    ),
    ChangeKind.KEY_CREATE: Shape(
        {
            "key": _KEY,
            "suite": _text(lambda text: parse_suite(text).value),
            "store": _text(str, 512),
            "silence_seconds": _SECONDS,
        },
        "Create model key {key} in store {store}. Its leases survive {silence_seconds} seconds of silence.",
        "nodeseal propose key create KEY",
    ),
    ChangeKind.KEY_POLICY: Shape(
        {"key": _KEY, "silence_seconds": _SECONDS},
        "Let leases of key {key} survive {silence_seconds} seconds of silence.",
        "nodeseal propose key policy KEY --silence-seconds N",
    ),
    ChangeKind.KEY_GRANT: Shape(
        {"key": _KEY, "node": _NODE, "max_leases": _number(1, _MAX_LEASES)},
        "Grant key {key} to node {node}, for {max_leases} leases at once.",
        "nodeseal propose key grant KEY --node NODE",
    ),
    ChangeKind.KEY_RESUME: Shape({"key": _KEY}, "End the suspension of key {key}.", "nodeseal propose key resume KEY"),
    ChangeKind.KEY_REVOKE: Shape(
        {"key": _KEY},
        "Revoke key {key} for good: nobody opens with it again, and its leases end.",
        "nodeseal propose key revoke KEY",
    ),
    ChangeKind.MODEL_REGISTER: Shape(
        {"model": _DIGEST, "again": lambda fields, key: fields.boolean(key)},
        "Register model {model}, so that keys may be released for it (again, after it was retired: {again}).",
        "nodeseal propose model register DIR",
        "model",
    ),
    ChangeKind.MODEL_RESLOT: Shape(
        {"model": _DIGEST, "keys": _keys, "document": _DIGEST},
        "Seal the data key of model {model} to the keys {keys}.",
        "nodeseal propose reslot DIR --key PUBLIC",
        "document",
    ),
    ChangeKind.PERSON_INVITE: Shape(
        {"person": _PERSON, "roles": _roles, "request": _DIGEST},
        "Let person {person} operate the verifier with the roles {roles}, by the certificate request {request}.",
        "nodeseal propose person invite PERSON REQUEST --role ROLE",
        "request",
    ),
    ChangeKind.PERSON_REMOVE: Shape(
        {"person": _PERSON},
        "Remove person {person}: every call of theirs is refused, and no approval of theirs counts.",
        "nodeseal propose person remove PERSON",
    ),
    ChangeKind.PERSON_KEY_ADD: Shape(
        {"person": _PERSON, "key": _text(lambda text: parse_ssh_key(text).line, 2048)},
        "Let person {person} approve with the SSH key {key}.",
        "nodeseal propose person key-add PERSON FILE",
    ),
    ChangeKind.PERSON_KEY_REMOVE: Shape(
        {"person": _PERSON, "fingerprint": _text(str)},
        "Let person {person} approve no more with the SSH key {fingerprint}.",
        "nodeseal propose person key-remove PERSON FINGERPRINT",
    ),
    ChangeKind.PERSON_RESUME: Shape(
        {"person": _PERSON}, "End the suspension of person {person}.", "nodeseal propose person resume PERSON"
    ),
    ChangeKind.RULES_SET: Shape(
        {"document": _DIGEST},
        "Replace the rules by those of document {document}.",
        "nodeseal propose rules FILE",
        "document",
    ),
}


@dataclass(frozen=True, slots=True)
class Change:
    """What a proposal changes. Only :func:`parse_change` builds it.

    Attributes:
        kind: of the change.
        facts: its facts by name, as :data:`SHAPES` lists them.
    """

    kind: ChangeKind
    facts: Mapping[str, Value]

    def text(self, name: str) -> str:
        """Return a fact that is text."""
        return str(self.facts[name])

    def number(self, name: str) -> int:
        """Return a fact that is a number."""
        value = self.facts[name]
        if not isinstance(value, int):
            raise TypeError(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a fact that is a list of texts."""
        value = self.facts[name]
        if not isinstance(value, list):
            raise TypeError(name)
        return tuple(value)

    def labels(self) -> dict[str, str]:
        """Return labels to set; an empty value takes a label away."""
        value = self.facts["labels"]
        if not isinstance(value, dict):
            raise TypeError("labels")
        return dict(value)

    @property
    def attachment(self) -> Digest:
        """SHA-256 of what travels beside it; empty: nothing does."""
        named = SHAPES[self.kind].attachment
        return Digest(self.text(named) if named else "")

    @property
    def words(self) -> str:
        """The change as a sentence for people."""
        return SHAPES[self.kind].words.format_map({name: _spoken(value) for name, value in self.facts.items()})

    def to_plain(self) -> dict[str, object]:
        """Return the change as JSON values."""
        return {"kind": self.kind.value, **self.facts}


def _spoken(value: Value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def parse_change(fields: Fields) -> Change:
    """Return the change of a document.

    Raises:
        MalformedInput: no such kind, a fact is missing or unknown, or does not parse.
    """
    name = fields.text("kind", max_length=64)
    try:
        kind = ChangeKind(name)
    except ValueError as error:
        raise MalformedInput(
            f"unknown kind of change {name!a}", remedy="update the older of command and verifier"
        ) from error
    facts = {key: take(fields, key) for key, take in SHAPES[kind].facts.items()}
    fields.done()
    return Change(kind, facts)
