"""Go's ``golang.org/x/mod/sumdb`` as a judge of checkpoints and proofs."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

_SOURCE = Path(__file__).parent / "main.go"
_LIBRARY = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")

Case = Mapping[str, object]


def compiled(folder: Path) -> Path:
    """Compile the judge into a folder; skip the test, saying so, where Go or the library is not installed."""
    if shutil.which("go") is None or not _LIBRARY.is_dir():
        pytest.skip("golang-go and golang-golang-x-mod-dev are not installed")
    binary = folder / "judge"
    settings = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOCACHE": str(folder / "cache")}
    subprocess.run(["go", "build", "-o", binary, _SOURCE], env={**os.environ, **settings}, check=True)
    return binary


def verdicts(judge: Path, cases: Iterable[Case]) -> list[str]:
    """Return what the judge says of each case: ``ok``, or why not."""
    lines = "".join(f"{json.dumps(case, default=_base64)}\n" for case in cases)
    done = subprocess.run([judge], input=lines, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def note_case(note: bytes, key: str, size: int, root: bytes) -> Case:
    """Return the case that a checkpoint is signed by a key and says this."""
    return {"Kind": "note", "Note": note.decode(), "Key": key, "Size": size, "Root": root}


def inclusion_case(leaf: bytes, index: int, size: int, root: bytes, path: Iterable[bytes]) -> Case:
    """Return the case that a leaf is in a tree."""
    return {"Kind": "inclusion", "Leaf": leaf, "Index": index, "Size": size, "Root": root, "Path": list(path)}


def consistency_case(old: int, old_root: bytes, size: int, root: bytes, path: Iterable[bytes]) -> Case:
    """Return the case that one tree is the beginning of another."""
    return {"Kind": "consistency", "Old": old, "OldRoot": old_root, "Size": size, "Root": root, "Path": list(path)}


def _base64(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(value)
    return base64.b64encode(value).decode()
