"""One word for one thing: the glossary of ``docs/design.md`` against names in the code and the text of the pages."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("agent", "cli", "client", "common", "loader", "swtpm", "verifier")
APPRAISAL = ROOT / "common" / "nodeseal" / "appraisal"
GLOSSARY = ROOT / "docs" / "design.md"
HEADING = "**Retired words**"
JUDGES = re.compile(r"(?:^|_)judg(?:e|es|ed|ing)(?:_|$)|Judg(?:e|ed|ing)")
OF_THE_ACT = {"NodeJudged", "judged", "_judged"}
"""Names of the act ``node.judged``, which records what appraisal judged, and of what follows from it."""
DOUBLED = re.compile(r"(?!ed|ing|er)")
"""What may not follow the retired spelling ``enroll``: with these endings it is the right one."""


@cache
def _sources() -> tuple[Path, ...]:
    return tuple(path for root in SOURCE_ROOTS for path in sorted((ROOT / root / "nodeseal").rglob("*.py")))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def _place(path: Path, name: str) -> str:
    return f"{path.relative_to(ROOT)}: {name}"


@cache
def _words_section() -> str:
    text = GLOSSARY.read_text()
    return text[text.index("## 1.") : text.index("## 2.")]


def _rows(section: str) -> list[str]:
    """Return the first cells of the rows of all tables, without heads and rules."""
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return [cell for cell in cells if cell not in {"word", "retired"}]


def _terms() -> list[str]:
    return _rows(_words_section().partition(HEADING)[0])


def _retired() -> list[str]:
    return [cell.strip("`") for cell in _rows(_words_section().partition(HEADING)[2])]


def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(re.escape(word) + (DOUBLED.pattern if word == "enroll" else ""), re.IGNORECASE)


# --- The glossary ------------------------------------------------------------------------------------------------


def test_the_glossary_is_alphabetical_and_names_each_word_once() -> None:
    terms = [term.casefold() for term in _terms()]
    assert len(terms) > 50
    assert terms == sorted(set(terms))


def test_every_state_and_role_and_setting_of_trust_is_in_the_glossary() -> None:
    text = _words_section()
    tree = _tree(ROOT / "verifier" / "nodeseal" / "verifier" / "states.py")
    states = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "NodeState")
    values = [ast.literal_eval(node.value) for node in states.body if isinstance(node, ast.Assign)]
    assert len(values) == 7
    assert [value for value in (*values, "trust_seconds") if value not in text] == []


def test_a_retired_word_would_be_found() -> None:
    assert _pattern("enroll").search("Enrollment")
    assert _pattern("trust_ends").search("node_trust_ends_at")
    assert not _pattern("enroll").search("enrolled, enrolling")


# --- Names in the code -------------------------------------------------------------------------------------------


def test_every_class_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for path in _sources():
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(_place(path, node.name))
    assert [found for found in places.values() if len(found) > 1] == []


def test_only_appraisal_judges() -> None:
    definitions = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    assert [
        _place(path, node.name)
        for path in _sources()
        if APPRAISAL not in path.parents
        for node in ast.walk(_tree(path))
        if isinstance(node, definitions) and JUDGES.search(node.name) and node.name not in OF_THE_ACT
    ] == []


@cache
def _names(path: Path) -> frozenset[str]:
    """Return all names that a module gives: its own, its folder's, and those that it defines."""
    return frozenset({path.stem, path.parent.name, *_defined(_tree(path))})


def _defined(tree: ast.Module) -> Iterator[str]:
    """Return the names that a module defines, without the methods of gRPC servicers: those are names of the wire."""
    wire = {
        method
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("_grpc." in ast.unparse(base) for base in node.bases)
        for method in node.body
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node not in wire:
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@pytest.mark.parametrize("word", _retired())
def test_no_name_holds_a_retired_word(word: str) -> None:
    retired = _pattern(word)
    assert [_place(path, name) for path in _sources() for name in sorted(_names(path)) if retired.search(name)] == []


# --- Texts -------------------------------------------------------------------------------------------------------


@cache
def _prose(path: Path) -> str:
    """Return comments and texts of a module; names of generated modules in them are of the wire."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    texts = (token.string for token in tokens if token.type in {tokenize.COMMENT, tokenize.STRING})
    return re.sub(r"enrollment(_pb2|\.proto)\w*|(nodeseal\.v1\.)?\bEnrollment(/Enroll)?\b", "", "\n".join(texts))


def _pages() -> Iterator[tuple[Path, str]]:
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        yield path, text.replace(_words_section(), "") if path == GLOSSARY else text


@pytest.mark.parametrize("word", _retired())
def test_no_text_holds_a_retired_word(word: str) -> None:
    retired = _pattern(word)
    texts = [*((path, _prose(path)) for path in _sources()), *_pages()]
    assert sorted(_place(path, found.group()) for path, text in texts if (found := retired.search(text))) == []
