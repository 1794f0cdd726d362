"""What a mutant is, and what of the code it changes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType
from typing import Literal

Changed = tuple[tuple[CodeType, CodeType], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """Characters `first` to `last` of a file become `text`."""

    path: Path
    operator: str
    first: int
    last: int
    text: str

    @property
    def key(self) -> dict[str, object]:
        """Return what names this mutant in a file of results."""
        return {
            "path": str(self.path),
            "line": self.line,
            "operator": self.operator,
            "first": self.first,
            "last": self.last,
            "text": self.text,
        }

    @property
    def digest(self) -> str:
        """Return what tells this text of the module from others."""
        return source_digest(self.path)

    @property
    def line(self) -> int:
        """Return the number of the first line that it changes."""
        return read_source(self.path).count("\n", 0, self.first) + 1

    @property
    def lines(self) -> range:
        """Return the lines of the smallest statement that it changes; without the body, if that has one."""
        return statement_lines(self.path, self.line)

    @property
    def source(self) -> str:
        """Return the text of the changed module."""
        source = read_source(self.path)
        return source[: self.first] + self.text + source[self.last :]


def read_mutants(path: Path) -> list[Mutant]:
    """Read a file that ``specs.py`` wrote, without mutants of annotations, which no test can see."""
    found = [
        Mutant(
            path=Path(row["path"]).absolute(),
            operator=row["operator"],
            first=row["first"],
            last=row["last"],
            text=row["text"],
        )
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ]
    return [mutant for mutant in found if not _is_annotation(mutant)]


@cache
def read_source(path: Path) -> str:
    """Return the text of a module."""
    return path.read_text(encoding="utf-8")


@cache
def source_digest(path: Path) -> str:
    """Return the beginning of the SHA-256 of a module's text."""
    return sha256(read_source(path).encode()).hexdigest()[:16]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(read_source(path))


@cache
def _annotations(path: Path) -> tuple[tuple[int, int], ...]:
    return tuple(_spans(path))


def _spans(path: Path) -> Iterator[tuple[int, int]]:
    source = read_source(path)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = source.splitlines(keepends=True)

    def offset(row: int, column: int) -> int:
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    for node in ast.walk(_tree(path)):
        for note in (getattr(node, name, None) for name in ("annotation", "returns")):
            if isinstance(note, ast.expr):
                yield (
                    offset(note.lineno, note.col_offset),
                    offset(note.end_lineno or note.lineno, note.end_col_offset or 0),
                )


def _is_annotation(mutant: Mutant) -> bool:
    return any(first <= mutant.first < last for first, last in _annotations(mutant.path))


@cache
def statement_lines(path: Path, line: int) -> range:
    """Return the lines of the smallest statement around a line."""
    best = range(line, line + 1)
    size = None
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            first = node.lineno if not isinstance(node, ast.match_case) else node.pattern.lineno
            last = _last_line(node)
            if first <= line <= last and (size is None or last - first < size):
                best, size = range(first, last + 1), last - first
    return best


def _last_line(node: ast.stmt | ast.ExceptHandler | ast.match_case) -> int:
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    if isinstance(node, ast.match_case):
        return max(node.pattern.end_lineno, (node.guard and node.guard.end_lineno) or 0)
    if isinstance(node, ast.Match):
        return node.subject.end_lineno or node.lineno
    if body:
        return max(node.lineno, int(body[0].lineno) - 1)
    return node.end_lineno or node.lineno


def changed_functions(mutant: Mutant) -> Changed | Literal["same", "import"]:
    """Return the functions that a mutant changes, before and after; or that it changes nothing, or what runs at import.

    Raises:
        SyntaxError: the mutant does not compile.
    """
    before = _compiled(mutant.path)
    after = compile(mutant.source, str(mutant.path), "exec", dont_inherit=True)
    if _flat(before) == _flat(after):
        return "same"
    changed: list[tuple[CodeType, CodeType]] = []
    return tuple(changed) if _compare(before, after, changed, inside=False) else "import"


@cache
def _compiled(path: Path) -> CodeType:
    return compile(read_source(path), str(path), "exec", dont_inherit=True)


def _flat(code: CodeType) -> object:
    return (_shell(code), tuple(_flat(inner) for inner in _inner(code)))


def _shell(code: CodeType) -> object:
    """Return what a code object is by itself, without lines and without the functions in it."""
    constants = tuple(
        (type(value).__name__, repr(value)) for value in code.co_consts if not isinstance(value, CodeType)
    )
    table = code.co_exceptiontable
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants, table


def _inner(code: CodeType) -> tuple[CodeType, ...]:
    return tuple(value for value in code.co_consts if isinstance(value, CodeType))


def _compare(before: CodeType, after: CodeType, changed: list[tuple[CodeType, CodeType]], *, inside: bool) -> bool:
    """Collect functions that differ; say whether nothing else does, that is: no module and no class body."""
    if not before.co_flags & CO_OPTIMIZED and not inside:
        if _shell(before) != _shell(after) or len(_inner(before)) != len(_inner(after)):
            return False
    elif _flat(before) != _flat(after):
        changed.append((before, after))
        inside = True
    pairs = zip(_inner(before), _inner(after), strict=False)
    whole = [_compare(one, other, changed, inside=inside) for one, other in pairs]  # each adds what it finds
    return all(whole)
