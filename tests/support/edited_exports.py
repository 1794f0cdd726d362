"""Edits the folder of an export, as somebody would who wants another history to be believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any


def lines(folder: Path, name: str = "acts.jsonl") -> list[dict[str, Any]]:
    """Return the lines of a file."""
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def write(folder: Path, changed: list[dict[str, Any]], name: str = "acts.jsonl") -> None:
    """Write lines, spelled as they were."""
    encoded = (json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for line in changed)
    (folder / name).write_text("".join(f"{line}\n" for line in encoded))


def renumber(acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return acts with numbers that follow each other."""
    return [{**act, "sequence": number} for number, act in enumerate(acts, 1)]


def edit_act(folder: Path, kind: str, edit: Callable[[dict[str, Any]], None], *, hashes: bool) -> int:
    """Change fields of the first act of a kind, and its leaf with it; return its number.

    Args:
        folder: of the export.
        kind: of the act.
        edit: changes its fields.
        hashes: whether the leaf hash that the export shows is changed too.
    """
    acts = lines(folder)
    act = next(each for each in acts if json.loads(each["envelope"])["kind"] == kind)
    body, envelope = json.loads(act["body"]), json.loads(act["envelope"])
    edit(body["fields"])
    act["body"] = json.dumps(body, sort_keys=True, separators=(",", ":"))
    envelope["body"] = sha256(act["body"].encode()).hexdigest()
    act["envelope"] = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    if hashes:
        act["leaf_hash"] = sha256(b"\0" + act["envelope"].encode()).hexdigest()
    write(folder, acts)
    return int(act["sequence"])
