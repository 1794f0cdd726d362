"""Things by what people call them: commands ask the verifier, and say what they found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nodeseal.cli import output
from nodeseal.client.naming import WORD, Directory, Nameable, Use, find_golden, find_model, find_node
from nodeseal.client.offers import offered_words
from nodeseal.errors import MalformedInput, NotFound

if TYPE_CHECKING:
    from nodeseal.client.verifier import Verifier


def parse_called(text: str) -> str:
    """Return ``text`` if it may be an id, the beginning of one, or a name.

    Raises:
        MalformedInput: it is none, and the verifier need not be asked.
    """
    if not WORD.fullmatch(text):
        raise MalformedInput(f"neither an id nor a name: {text[:80]!a}")
    return text


def _completion(words: Callable[[Verifier], Iterable[tuple[str, str]]]) -> Callable[..., list[tuple[str, str]]]:
    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        client = ctx.params.get("client") or os.environ.get("NODESEAL_CLIENT") or output.CLIENT
        return offered_words(Path(client), incomplete, words)

    return complete


def _node_ids(verifier: Verifier) -> Iterator[tuple[str, str]]:
    yield from ((node.node_id, node.hostname) for node in verifier.list_nodes())


def _nodes(verifier: Verifier) -> Iterator[tuple[str, str]]:
    for node in verifier.list_nodes():
        yield from ((node.node_id, node.hostname), (node.hostname, node.node_id))


def _goldens(verifier: Verifier) -> Iterator[tuple[str, str]]:
    for golden in verifier.list_goldens(include_retired=True):
        yield from ((golden.name, golden.digest), (golden.digest, golden.name))


def _models(verifier: Verifier) -> Iterator[tuple[str, str]]:
    for model in verifier.list_models():
        release = f"{model.model_id}@{model.version}"
        yield from ((release, model.digest), (model.digest, release))


def _keys(verifier: Verifier) -> Iterator[tuple[str, str]]:
    yield from ((key.key_id, key.suite) for key in verifier.list_keys())


complete_node_id: Final = _completion(_node_ids)
complete_node: Final = _completion(_nodes)
complete_key: Final = _completion(_keys)


def _argument(metavar: str, says: str, complete: Callable[..., list[tuple[str, str]]]) -> Any:
    return typer.Argument(metavar=metavar, parser=output.argument(parse_called), help=says, autocompletion=complete)


NodeArgument = Annotated[str, _argument("NODE", "Its id, the first letters of it, or its host name.", complete_node)]
NodeIdArgument = Annotated[
    str, _argument("NODE", "Its id, or the first letters of it: six at least.", complete_node_id)
]
GoldenArgument = Annotated[
    str, _argument("GOLDEN", "Its digest, the first digits of it, or its name.", _completion(_goldens))
]
ModelArgument = Annotated[
    str, _argument("MODEL", "NAME@VERSION, its name, its digest, or the first digits of that.", _completion(_models))
]


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
