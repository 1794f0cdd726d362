"""``nodeseal inspect``: what a sealed model consists of and which keys can open it, without any key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.output import JsonOption
from nodeseal.loader.reslot import read_documents
from nodeseal.sealed.content import Content, SealedFile
from nodeseal.sealed.slots import Slots


def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a sealed model and which keys open it. Verifies nothing: that takes the data key."""
    content, slots = read_documents(directory)
    if as_json:
        output.print_json(_describe(content, slots))
    else:
        _print(content, slots)


def _describe(content: Content, slots: Slots) -> dict[str, object]:
    return {
        "model_digest": content.digest,
        "model_id": content.model_id,
        "version": content.version,
        "created": content.created.isoformat(),
        "bytes": content.size,
        "files": [file.to_json() for file in content.files],
        "slots": [
            {"key_id": slot.key_id, "key_version": slot.key_version, "suite": slot.suite.value} for slot in slots.slots
        ],
    }


def _print(content: Content, slots: Slots) -> None:
    output.print_facts(
        [
            ("model", f"{content.model_id}, version {content.version}"),
            ("digest", content.digest),
            ("sealed on", f"{content.created:%Y-%m-%d %H:%M:%SZ}"),
            ("bytes", f"{content.size:,}"),
        ]
    )
    output.console.print()
    rows = (
        (file.path, "sealed" if isinstance(file, SealedFile) else "readable", f"{file.size:,}")
        for file in content.files
    )
    output.print_table(("file", "stored", "bytes"), rows, empty="no files")
    output.console.print()
    keys = ((slot.key_id, str(slot.key_version), slot.suite.value) for slot in slots.slots)
    output.print_table(("opens with key", "version", "suite"), keys, empty="no slots")
