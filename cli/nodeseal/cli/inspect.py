"""``nodeseal inspect``: files and slots of a sealed model, read without any key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.output import BLANK_LINE, Block, FactList, JsonOption, Rows
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
    """Show a sealed model: its files, the keys that open it, and files that are missing, changed or unexpected.

    It needs no key, so it finds accidents, not attacks: use `nodeseal verify` against those. `nodeseal key show` lists
    the nodes that may use a key.
    """
    content, slots = read_documents(directory)
    wrong = list(glance(directory, content))
    foreign = list(islice(surplus(LocalFolder(directory), content), _MAX_SURPLUS))
    plain = {**_plain_model(content, slots, wrong), "surplus": foreign}
    output.show(plain, _model_parts(content, slots, wrong, foreign), as_json=as_json)
    if any(wrong) or foreign:
        raise typer.Exit(output.REFUSED)


def _plain_model(content: Content, slots: Slots, wrong: Sequence[str]) -> dict[str, object]:
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


def _model_parts(content: Content, slots: Slots, wrong: Sequence[str], foreign: Sequence[str]) -> Iterator[Block]:
    yield FactList(
        [
            ("model", f"{content.model_id}, version {content.version}"),
            ("digest", content.digest),
            ("sealed on", f"{content.created:%Y-%m-%d %H:%M:%SZ}"),
            ("bytes", f"{content.size:,}"),
        ]
    )
    yield BLANK_LINE
    rows = [
        (file.path, "sealed" if isinstance(file, SealedFile) else "readable", f"{file.size:,}", seen or "there")
        for file, seen in zip(content.files, wrong, strict=True)
    ]
    rows += [(path, "-", "-", "not of this model; delete it") for path in foreign]
    yield Rows(("file", "stored", "bytes", "at a glance"), rows, empty="no files")
    yield BLANK_LINE
    keys = ((slot.key_id, str(slot.key_version), slot.suite.value) for slot in slots.slots)
    yield Rows(("opens with key", "version", "suite"), keys, empty="no slots")
