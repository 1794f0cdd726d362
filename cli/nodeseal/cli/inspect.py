"""``nodeseal inspect``: what a sealed model consists of and which keys can open it, without any key."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.output import JsonOption
from nodeseal.loader.folders import LocalFolder, surplus
from nodeseal.loader.glance import glance
from nodeseal.loader.reslot import read_documents
from nodeseal.sealed.content import Content, SealedFile
from nodeseal.sealed.slots import Slots

_MAX_SURPLUS = 100


def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a sealed model, which keys open it, and files that are missing, others, or too many.

    Takes no key, so it finds accidents and no attacks: that is what `nodeseal verify` is for. Which nodes may use
    a key, `nodeseal key show` says.
    """
    content, slots = read_documents(directory)
    wrong = list(glance(directory, content))
    foreign = list(islice(surplus(LocalFolder(directory), content), _MAX_SURPLUS))
    if as_json:
        output.print_json({**_describe(content, slots, wrong), "surplus": foreign})
    else:
        _print(content, slots, wrong, foreign)
    if any(wrong) or foreign:
        raise typer.Exit(output.REFUSED)


def _describe(content: Content, slots: Slots, wrong: Sequence[str]) -> dict[str, object]:
    return {
        "model_digest": content.digest,
        "model_id": content.model_id,
        "version": content.version,
        "created": content.created.isoformat(),
        "bytes": content.size,
        "files": [{**file.to_json(), "wrong": seen} for file, seen in zip(content.files, wrong, strict=True)],
        "slots": [
            {"key_id": slot.key_id, "key_version": slot.key_version, "suite": slot.suite.value} for slot in slots.slots
        ],
    }


def _print(content: Content, slots: Slots, wrong: Sequence[str], foreign: Sequence[str]) -> None:
    output.print_facts(
        [
            ("model", f"{content.model_id}, version {content.version}"),
            ("digest", content.digest),
            ("sealed on", f"{content.created:%Y-%m-%d %H:%M:%SZ}"),
            ("bytes", f"{content.size:,}"),
        ]
    )
    output.console.print()
    rows = [
        (file.path, "sealed" if isinstance(file, SealedFile) else "readable", f"{file.size:,}", seen or "there")
        for file, seen in zip(content.files, wrong, strict=True)
    ]
    rows += [(path, "-", "-", "not of this model; delete it") for path in foreign]
    output.print_table(("file", "stored", "bytes", "at a glance"), rows, empty="no files")
    output.console.print()
    keys = ((slot.key_id, str(slot.key_version), slot.suite.value) for slot in slots.slots)
    output.print_table(("opens with key", "version", "suite"), keys, empty="no slots")
