"""Things by what people call them: commands ask the verifier, and say what they found."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from nodeseal.cli import output
from nodeseal.client.naming import Directory, Nameable, Use, find_golden, find_model, find_node
from nodeseal.errors import MalformedInput, NotFound

_CALLED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,252}")


def parse_called(text: str) -> str:
    """Return ``text`` if it may be an id, the beginning of one, or a name.

    Raises:
        MalformedInput: it is none, and the verifier need not be asked.
    """
    if not _CALLED.fullmatch(text):
        raise MalformedInput(f"neither an id nor a name: {text[:80]!a}")
    return text


def _argument(metavar: str, says: str) -> Any:
    return typer.Argument(metavar=metavar, parser=output.argument(parse_called), help=says)


NodeArgument = Annotated[str, _argument("NODE", "Its id, the first letters of it, or its host name.")]
NodeIdArgument = Annotated[str, _argument("NODE", "Its id, or the first letters of it: six at least.")]
GoldenArgument = Annotated[str, _argument("GOLDEN", "Its digest, the first digits of it, or its name.")]
ModelArgument = Annotated[str, _argument("MODEL", "NAME@VERSION, its name, its digest, or the first digits of that.")]


def node_of(directory: Directory, text: str, use: Use) -> str:
    """Return the id of the node that somebody calls ``text``."""
    return _told("node", text, find_node(directory, text, use))


def golden_of(directory: Directory, text: str, use: Use) -> str:
    """Return the digest of the golden that somebody calls ``text``."""
    return _told("golden", text, find_golden(directory, text, use))


def model_of(directory: Directory, text: str, use: Use) -> str:
    """Return the digest of the model that somebody calls ``text``."""
    return _told("model", text, find_model(directory, text, use))


def subject_of(directory: Directory, text: str) -> str:
    """Return a subject of the log, such as ``node/n-…``, with the whole id."""
    kind, _, called = text.partition("/")
    find = {"node": node_of, "golden": golden_of, "model": model_of}.get(kind)
    try:
        return f"{kind}/{find(directory, called, Use.LOOK)}" if find else text
    except NotFound:
        return text  # the log may know what is gone


def _told(what: str, text: str, found: Nameable) -> str:
    if text != found.id:
        output.show_note(f"{text} is {what} {found.id} ({found.shown})")
    return found.id
