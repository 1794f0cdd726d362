"""Rules of the repository itself: what is generated is current, and nothing of one machine leaks in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("agent", "cli", "client", "common", "loader", "protos", "swtpm", "verifier")
MAX_FUNCTION_LINES = 50
MAX_MODULE_LINES = 400
MAX_FILE_BYTES = 1_000_000
SKIPPED = {".git", "__pycache__", "build", "dist", "fuzz-corpus"}
MACHINE = re.compile(r"(?<![\w.])/(?:root|home/\w+|work|opt/pypi)\b")
REGISTRY = re.compile(r"(?:pypi|python(?:hosted)|npmjs)\.(?:org|com)|index-url|find-links")
LATER = re.compile(r"#.*\b(?:TODO|FIXME|XXX)\b")
WRITERS = {"faulthandler", "logging", "structlog", "traceback", "warnings"}
STREAMS = {"print", "stdout", "stderr", "__stdout__", "__stderr__"}
SELF = Path(__file__).resolve()


def _files(folder: Path = ROOT) -> Iterator[Path]:
    """Return the project's files: everything but caches, environments and what a run leaves behind."""
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name not in {".ci", ".gitignore"}
        if hidden or path.name in SKIPPED or path.name.endswith(".egg-info") or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _python() -> Iterator[Path]:
    return (path for path in _files() if path.suffix == ".py" and "_pb2" not in path.name)


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_namespace_roots_have_no_init_module() -> None:
    assert not list(ROOT.glob("*/nodeseal/__init__.py"))


def test_every_part_says_that_it_is_typed() -> None:
    parts = {path for root in ROOTS for path in (ROOT / root / "nodeseal").iterdir() if path.is_dir()}
    assert not [_named(path) for path in parts if path.name != "__pycache__" and not (path / "py.typed").exists()]


def test_generated_protobuf_modules_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "generate_protobuf.py", tmp_path], check=True, capture_output=True)
    generated = {path.name: path.read_bytes() for path in tmp_path.rglob("*_pb2*")}
    committed = {path.name: path.read_bytes() for path in (ROOT / "protos").rglob("*_pb2*") if path.suffix != ".pyc"}
    assert generated.keys() == committed.keys()
    assert [name for name in generated if generated[name] != committed[name]] == [], "make proto"


@pytest.mark.parametrize("page", ["findings", "acts"])
def test_a_generated_page_is_current(page: str) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / f"generate_{page}.py", "--check"], check=True)


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1


def test_no_function_is_long() -> None:
    assert [
        f"{_named(path)}: {name} has {lines} lines"
        for path in _python()
        for name, lines in _functions(path)
        if lines > MAX_FUNCTION_LINES
    ] == []


def test_no_module_is_long() -> None:
    acts = ROOT / "verifier" / "nodeseal" / "verifier" / "ledger" / "acts.py"  # one class per act
    tables = {ROOT / "common" / "nodeseal" / "findings.py", acts}  # one row per finding
    modules = [path for path in _python() if "tests" not in path.parts and path not in tables]
    lengths = {_named(path): path.read_bytes().count(b"\n") for path in modules}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_no_file_is_large() -> None:
    assert [_named(path) for path in _files() if path.stat().st_size > MAX_FILE_BYTES] == []


@pytest.mark.parametrize("leak", [MACHINE, REGISTRY], ids=["path of one machine", "address of a registry"])
def test_no_file_holds_what_belongs_to_one_machine(leak: re.Pattern[str]) -> None:
    own = {SELF, ROOT / "Makefile"} if leak is REGISTRY else {SELF}  # the Makefile switches indexes off by name
    found = {
        _named(path): match.group()
        for path in _files()
        if path not in own and (match := leak.search(path.read_text(errors="replace")))
    }
    assert found == {}


def _words_of(path: Path) -> set[str]:
    """Return by what names a module could write to a log, to standard output or to standard error."""
    tree = ast.walk(ast.parse(path.read_bytes()))
    found: set[str] = set()
    for node in tree:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & WRITERS
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & WRITERS
            found |= {alias.name for alias in node.names} & STREAMS if node.module == "sys" else set()
        elif isinstance(node, ast.Name | ast.Attribute):
            found |= {node.id if isinstance(node, ast.Name) else node.attr} & STREAMS
    return found


def test_the_loader_and_what_it_uses_write_no_words_of_their_own() -> None:
    """Their process belongs to others: what they have to say is an error, a value or an event."""
    logs = {ROOT / "common" / "nodeseal" / name for name in ("logs.py", "log_sink.py")}
    modules = [path for root in ("loader", "common") for path in (ROOT / root / "nodeseal").rglob("*.py")]
    assert {_named(path): words for path in modules if path not in logs and (words := _words_of(path))} == {}
    assert all(_words_of(path) for path in logs if path.name == "logs.py")


def test_requirements_are_pinned_by_hash_alone() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"#.*|[a-z0-9-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?|", line), (
                path.name,
                line,
            )


def test_pages_link_to_files_that_exist() -> None:
    links = (
        (page, target)
        for page in _files()
        if page.suffix == ".md"
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    )
    assert [f"{_named(page)}: {target}" for page, target in links if not (page.parent / target).exists()] == []


def test_every_attack_of_the_threat_model_has_a_test() -> None:
    rows = re.findall(r"^\| ([a-z]\d\d) \|", (ROOT / "docs" / "threat-model.md").read_text(), re.MULTILINE)
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "attacks").rglob("test_*.py"))
    assert rows
    assert [row for row in rows if not re.search(rf"^ *(?:async )?def test_{row}_", tests, re.MULTILINE)] == []


def test_no_code_is_left_for_later() -> None:
    assert [_named(path) for path in _python() if path != SELF and LATER.search(path.read_text())] == []
