"""What people call a node, a golden or a model, and the one thing that they mean.

A whole id means itself. Anything shorter is looked up at the verifier, and must mean exactly one thing. How little is
enough depends on the use. A host name is a node's own claim, so it never decides whom to trust.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from nodeseal.errors import MalformedInput, NotFound
from nodeseal.ids import Digest, NodeId, parse_digest, parse_node_id
from nodeseal.v1 import admin_pb2 as pb
from nodeseal.wire.messages import state_from_proto

WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,252}")
"""What may name something, and is one word to a shell. A node chooses its host name, which may be meant for the command
line of a person."""
_NODE_HEAD: Final = "n-"
_SHOWN: Final = 10
_DIGITS: Final = frozenset("0123456789abcdef")


class Use(Enum):
    """What somebody does with a thing, and so how little of its id names it."""

    LOOK = "look"
    """Nothing is changed: one letter of the id, or a name."""
    TAKE_AWAY = "take away"
    """Trust ends: six letters of the id, or a whole name."""
    TRUST = "trust"
    """Trust is given, or others are told of it: six letters of the id, and no name that a node gave itself."""

    @property
    def shortest(self) -> int:
        """How many letters of an id are enough."""
        return 1 if self is Use.LOOK else 6


class Directory(Protocol):
    """Lists what there is; the verifier does."""

    def list_nodes(self) -> list[pb.Node]:
        """Return all nodes."""

    def list_goldens(self, *, include_retired: bool = False) -> list[pb.Golden]:
        """Return the goldens."""

    def list_models(self) -> list[pb.Model]:
        """Return all models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameable:
    """A thing that a text may mean.

    Attributes:
        id: its whole id.
        names: other words for it.
        shown: what people recognise it by.
        retired: whether it is out of service; a name means it only if nothing in service has that name.
    """

    id: str
    names: tuple[str, ...] = ()
    shown: str = ""
    retired: bool = False


def find_node(directory: Directory, text: str, use: Use) -> Nameable:
    """Return the node that ``text`` means: its id, the beginning of its id, or its host name.

    Raises:
        NotFound: there is none.
        MalformedInput: several may be meant, or the text is too short or no id for this use.
    """
    if _parses(parse_node_id, text):
        return Nameable(id=NodeId(text))
    nodes = [_node(node) for node in directory.list_nodes()]
    letters = text.removeprefix(_NODE_HEAD) if text.startswith(_NODE_HEAD) else ""
    return _choose("node", text, letters, nodes, use)


def find_golden(directory: Directory, text: str, use: Use) -> Nameable:
    """Return the golden that ``text`` means: its digest, the beginning of its digest, or its name.

    Raises:
        NotFound: there is none.
        MalformedInput: several may be meant, or the text is too short for this use.
    """
    if _parses(parse_digest, text):
        return Nameable(id=Digest(text))
    goldens = directory.list_goldens(include_retired=True)
    found = [Nameable(id=g.digest, names=(g.name,), shown=g.name, retired=not g.active) for g in goldens]
    return _choose("golden", text, _digits(text), found, use)


def find_model(directory: Directory, text: str, use: Use) -> Nameable:
    """Return the model that ``text`` means: its digest, the beginning of its digest, NAME@VERSION, or NAME.

    Raises:
        NotFound: there is none.
        MalformedInput: several may be meant, or the text is too short for this use.
    """
    if _parses(parse_digest, text):
        return Nameable(id=Digest(text))
    return _choose("model", text, _digits(text), list(map(_model, directory.list_models())), use)


def _node(node: pb.Node) -> Nameable:
    retired = state_from_proto(node.state) == "retired"
    return Nameable(id=node.node_id, names=(node.hostname,), shown=node.hostname, retired=retired)


def _model(model: pb.Model) -> Nameable:
    release = f"{model.model_id}@{model.version}"
    return Nameable(id=model.digest, names=(release, model.model_id), shown=release, retired=model.HasField("retired"))


def _choose(what: str, text: str, letters: str, known: Sequence[Nameable], use: Use) -> Nameable:
    called = [each for each in known if text and text in each.names]
    called = [each for each in called if not each.retired] or called
    begun = [each for each in known if letters and each.id.startswith(text)]
    if what == "node" and use is Use.TRUST and called:
        if not begun:
            raise _no_proof(text, called)
        called = []
    found = list({each.id: each for each in (*called, *begun)}.values())
    if not found:
        raise NotFound(f"there is no {what} {text[:80]!a}", remedy=f"nodeseal {what} list")
    if len(found) > 1:
        raise MalformedInput(f"{text!a} may mean {_listed(found)}", remedy=f"give more of the {what}'s id")
    if not called and len(letters) < use.shortest:
        remedy = f"give at least {use.shortest} letters of the {what}'s id: {found[0].id}"
        raise MalformedInput(f"{text!a} is too short to decide about a {what}", remedy=remedy)
    return found[0]


def _no_proof(text: str, called: Sequence[Nameable]) -> MalformedInput:
    what = f"{text!a} is a host name, and a node chooses its own; so calls itself {_listed(called)}"
    return MalformedInput(what, remedy="compare its endorsement key (nodeseal node show), then give its id")


def _listed(found: Sequence[Nameable]) -> str:
    more = [f"{len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return ", ".join([*(f"{each.id} ({each.shown!a})" for each in found[:_SHOWN]), *more])


def _digits(text: str) -> str:
    return text if set(text) <= _DIGITS else ""


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except MalformedInput:
        return False
    return True
