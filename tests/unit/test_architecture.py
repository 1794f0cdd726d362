"""The architecture page and the structure that it describes: rooms, import graph, sizes, and the three journeys.

Everything is read with ``ast``; no module of the product is imported.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
SOURCE_ROOTS = ("agent", "cli", "client", "common", "loader", "protos", "swtpm", "verifier")
WITHOUT_ROOMS = {"protos"}
SCRIPTS = "migrations"
"""Folder of Alembic's scripts, which Alembic loads by their path: part of the store, no package."""
MAX_MODULES = 15
MAX_P90_LINES = 15

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.ClassDef | Function


# --- Source code -------------------------------------------------------------------------------------------------


@cache
def _modules() -> dict[str, Path]:
    """Return every module of the product by its dotted name."""
    found = {}
    for root in SOURCE_ROOTS:
        for path in (ROOT / root).rglob("*.py"):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_modules()[module].read_bytes())


def _definition(module: str, name: str) -> Definition | None:
    """Return the function, class or method that ``name`` (``function`` or ``Class.method``) names in ``module``."""
    found: ast.Module | Definition | None = _tree(module) if module in _modules() else None
    for part in name.split("."):
        body = found.body if found is not None else []
        named = (each for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef))
        found = next((each for each in named if each.name == part), None)
    return found if not isinstance(found, ast.Module) else None


@cache
def _imported(module: str) -> dict[str, tuple[str, str]]:
    """Return what each imported name stands for: a module and a name in it, or a module and ``""``."""
    names = {}
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = _target(node.module, alias.name)
    return names


def _target(module: str, name: str) -> tuple[str, str]:
    """Return what ``from module import name`` imports: a module and a name in it, or a module and ``""``."""
    whole = f"{module}.{name}"
    return (whole, "") if whole in _modules() else (module, name)


def _resolved(module: str, name: str) -> tuple[str, str]:
    """Return where the thing is defined that ``name`` means in ``module``, through modules that pass it on."""
    target, found = _imported(module).get(name, (module, name))
    if found and target != module and target in _modules() and found in _imported(target):
        return _resolved(target, found)
    return target, found


# --- The page ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a journey.

    Attributes:
        module: with its prefix ``nodeseal.``.
        name: ``function``, ``Class`` or ``Class.method``.
        through: the expression through which the caller reaches the object; empty: none is needed.
        text: the sentence.
        depth: how far the line is indented.
    """

    module: str
    name: str
    through: str
    text: str
    depth: int

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True)
class Call:
    """A step with the step that it is indented under, which is the ``number``-th of its journey."""

    journey: str
    number: int
    caller: Step
    step: Step


_STEP = re.compile(r"^( *)\d+\. `([\w.]+):([\w.]+)`(?: through `([^`]+)`)?: (.+(?:\n(?! *\d+\. ) +.+)*)$", re.MULTILINE)
_MESSAGE = re.compile(r"(sends|handles) `(\w+)\.(\w+)`")


def _section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, title
    return found.group(1)


@cache
def _journeys() -> dict[str, tuple[Step, ...]]:
    titles = re.findall(r"^## (Journey .*)$", PAGE.read_text(), re.MULTILINE)
    return {title: tuple(_steps(_section(re.escape(title)))) for title in titles}


def _steps(text: str) -> Iterator[Step]:
    lines = re.findall(r"^ *\d+\. ", text, re.MULTILINE)
    found = _STEP.findall(text)
    assert len(lines) == len(found), "a step that is not of the form that the page explains"
    for indent, module, name, through, sentence in found:
        yield Step(
            module=f"nodeseal.{module}",
            name=name,
            through=ast.unparse(ast.parse(through, mode="eval")) if through else "",
            text=" ".join(sentence.split()),
            depth=len(indent),
        )


def _calls() -> Iterator[Call]:
    for journey, steps in _journeys().items():
        above: list[tuple[int, Step]] = []
        for number, step in enumerate(steps):
            above = [each for each in above if each[1].depth < step.depth]
            if above:
                yield Call(journey, *above[-1], step)
            above.append((number, step))


# --- References in docstrings ------------------------------------------------------------------------------------

_REFERENCE = re.compile(r":(?:mod|class|func|meth|attr|data):`~?(nodeseal[\w.]*)`")


def _exists(name: str) -> bool:
    """Tell whether a dotted name is a module, or something that its module defines, assigns or imports."""
    module, parts = name, list[str]()
    while module not in _modules() and "." in module:
        module, _, part = module.rpartition(".")
        parts.insert(0, part)
    if module not in _modules():
        return False
    return not parts or _definition(module, ".".join(parts)) is not None or parts[0] in _assigned(module)


def _assigned(module: str) -> set[str]:
    stored = {
        node.id for node in ast.walk(_tree(module)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return stored | _imported(module).keys()


def test_references_in_docstrings_lead_somewhere() -> None:
    names = {(module, name) for module, path in _modules().items() for name in _REFERENCE.findall(path.read_text())}
    assert len(names) > 50
    assert sorted((module, name) for module, name in names if not _exists(name)) == []


# --- Journeys ----------------------------------------------------------------------------------------------------


def _reached(body: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Return what a body calls, or hands to a call: the expression before the dot, the name, the line."""
    for node in ast.walk(body):
        if isinstance(node, ast.Call):
            for each in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(each, ast.Attribute):
                    yield ast.unparse(each.value), each.attr, each.end_lineno or 0
                elif isinstance(each, ast.Name):
                    yield "", each.id, each.lineno


def _tabled(module: str, body: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Return the functions of those tables of a module that a body mentions, in the form of :func:`_reached`."""
    tables: dict[str, ast.Dict] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Dict):
            tables[node.target.id] = node.value
    for name in ast.walk(body):
        if isinstance(name, ast.Name) and name.id in tables:
            yield from (("", each.id, name.lineno) for each in tables[name.id].values if isinstance(each, ast.Name))


def _lines(call: Call) -> list[int]:
    """Return the lines of the caller at which it makes a call of the page."""
    body = _definition(call.caller.module, call.caller.name)
    if body is None or _definition(call.step.module, call.step.name) is None:
        return []
    owner, _, last = call.step.name.rpartition(".")
    own = (call.caller.module, call.caller.name.rpartition(".")[0]) == (call.step.module, owner)
    if call.step.through or owner:
        before = call.step.through or ("self" if own else None)
        return sorted(line for expression, name, line in _reached(body) if (expression, name) == (before, last))
    module, wanted = call.caller.module, (call.step.module, last)
    reached = (*_reached(body), *_tabled(module, body))
    return sorted(line for before, name, line in reached if _names(module, before, name) == wanted)


def _names(module: str, before: str, name: str) -> tuple[str, str] | None:
    """Return the function or class that ``name``, or ``before.name``, means in ``module``."""
    if not before:
        return _resolved(module, name)
    found, rest = _imported(module).get(before, ("", "-"))
    return (found, name) if not rest else None


def _wrong_type(call: Call) -> str:
    """Compare the declared type of what the call goes through, where one is declared, with the step's class."""
    declared = _declared(call.caller, call.step.through)
    owner, _, method = call.step.name.rpartition(".")
    if declared is None or declared == (call.step.module, owner):
        return ""
    kind = _definition(*declared)
    if isinstance(kind, ast.ClassDef) and _is_protocol(kind) and _definition(declared[0], f"{declared[1]}.{method}"):
        return ""
    return f"{call.step.through} is declared as {declared[0]}:{declared[1]}"


def _is_protocol(kind: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in kind.bases)


def _declared(caller: Step, expression: str) -> tuple[str, str] | None:
    """Return the class that a parameter, or an attribute set in ``__init__``, is declared to be."""
    owner = caller.name.rpartition(".")[0]
    if expression.startswith("self.") and owner:
        init = _definition(caller.module, f"{owner}.__init__")
        name = _attribute(init, expression) if init is not None else None
    else:
        body = _definition(caller.module, caller.name)
        name = _parameter(body, expression) if body is not None else None
    if name is None:
        return None
    module, resolved = _resolved(caller.module, name)
    return (module, resolved) if _definition(module, resolved) is not None else None


def _parameter(body: ast.AST, name: str) -> str | None:
    for node in ast.walk(body):
        if isinstance(node, ast.arg) and node.arg == name and isinstance(node.annotation, ast.Name):
            return node.annotation.id
    return None


def _attribute(init: Definition, expression: str) -> str | None:
    for node in ast.walk(init):
        targets = (
            [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        )
        if expression in map(ast.unparse, targets) and isinstance(node, ast.Assign | ast.AnnAssign):
            if isinstance(node.value, ast.Name):
                return _parameter(init, node.value.id)
            if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
                return node.value.func.id
    return None


def test_a_function_in_a_table_is_reached_from_where_the_table_is_read() -> None:
    module = "nodeseal.verifier.fleet.fold"
    readers = {
        node.name
        for node in _tree(module).body
        if isinstance(node, ast.FunctionDef) and "_judged" in {name for _, name, _ in _tabled(module, node)}
    }
    assert readers == {"fold"}


def test_the_page_has_three_journeys() -> None:
    assert len(_journeys()) == 3
    assert all(len(steps) >= 10 for steps in _journeys().values())


def test_every_step_of_a_journey_exists() -> None:
    steps = {step for steps in _journeys().values() for step in steps}
    assert [str(step) for step in steps if _definition(step.module, step.name) is None] == []


@pytest.mark.parametrize(
    "call", tuple(_calls()), ids=lambda call: f"{call.journey[:9]}: {call.caller.name} → {call.step.name}"
)
def test_each_step_is_called_by_the_step_that_it_is_indented_under(call: Call) -> None:
    assert _lines(call), "the caller's body does not call it"
    assert not call.step.through or _wrong_type(call) == ""


def test_steps_of_one_level_stand_in_the_order_of_the_code() -> None:
    siblings = defaultdict(list)
    for call in _calls():
        siblings[call.journey, call.number].append(call)
    assert [
        f"{before.step} stands before {after.step}"
        for calls in siblings.values()
        for before, after in pairwise(calls)
        if not any(line >= _lines(before)[0] for line in _lines(after))
    ] == []


@pytest.mark.parametrize("journey", tuple(_journeys()))
def test_every_chain_says_what_starts_it(journey: str) -> None:
    """A step at the margin is started by a person or a program, or by a message that an earlier step sends."""
    sent: set[tuple[str, str]] = set()
    for number, step in enumerate(_journeys()[journey]):
        for what, service, method in _MESSAGE.findall(step.text):
            if what == "sends":
                assert _sends(step, method), f"{step} does not send {method}"
                sent.add((service, method))
            else:
                assert (service, method) in sent, f"nobody sends {service}.{method} before {step}"
                assert _handles(step, service, method), f"{step} does not handle {service}.{method}"
        if step.depth == 0:
            assert re.match(r"(A person|A program|The same stream)\b", step.text) or "handles `" in step.text, str(step)
            assert number == 0 or not step.text.startswith("A p"), f"{step}: only the first step starts by itself"


def _sends(step: Step, method: str) -> bool:
    """Tell whether a step calls the method of a gRPC stub, or spells it for Varlink, which knows methods as texts."""
    body = _definition(step.module, step.name)
    assert body is not None
    texts = (node.value for node in ast.walk(body) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return method in {name for _, name, _ in _reached(body)} or any(text.endswith(f".{method}") for text in texts)


def _handles(step: Step, service: str, method: str) -> bool:
    """Tell whether a step is the method of a gRPC servicer, or compares Varlink's method with this one."""
    owner, _, name = step.name.rpartition(".")
    kind, body = _definition(step.module, owner), _definition(step.module, step.name)
    bases = [ast.unparse(base) for base in kind.bases] if isinstance(kind, ast.ClassDef) else []
    if any(base.endswith(f"_grpc.{service}Servicer") for base in bases):
        return name == method
    compared = (node for node in ast.walk(body or ast.Pass()) if isinstance(node, ast.Compare))
    return any(f"{service}.{method}".upper().endswith(ast.unparse(node.comparators[0])) for node in compared)


# --- Rooms -------------------------------------------------------------------------------------------------------


def _rooms() -> set[str]:
    """Return every package folder by its dotted name."""
    folders = {
        path.parent
        for root in SOURCE_ROOTS
        if root not in WITHOUT_ROOMS
        for path in (ROOT / root / "nodeseal").rglob("*.py")
        if SCRIPTS not in path.parts
    }
    names = {".".join(folder.parts[folder.parts.index("nodeseal", len(ROOT.parts)) :]) for folder in folders}
    return names - {"nodeseal"}


def test_the_page_lists_every_room_and_nothing_else() -> None:
    listed = re.findall(r"^\| `([a-z0-9_.]+)` \|", _section("Rooms"), re.MULTILINE)
    assert [name for name, times in Counter(listed).items() if times > 1] == []
    assert {f"nodeseal.{name}" for name in listed} == _rooms()


def test_the_picture_names_every_room() -> None:
    picture = (PAGE.parent / "architecture.svg").read_text()
    words = set(re.findall(r"[a-z0-9]+", " ".join(re.findall(r">([^<>]+)<", picture))))
    assert sorted({name.rpartition(".")[2] for name in _rooms()} - words) == []


def test_every_room_says_in_its_first_lines_what_it_is() -> None:
    silent = [room for room in sorted(_rooms()) if room not in _modules() or not ast.get_docstring(_tree(room))]
    assert silent == []


def test_no_folder_of_the_verifier_is_crowded() -> None:
    crowds = Counter(path.parent for path in (ROOT / "verifier" / "nodeseal").rglob("*.py"))
    assert {folder.name: count for folder, count in crowds.items() if count > MAX_MODULES} == {}


def _contracts() -> list[list[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [contract["layers"] for contract in contracts if contract["type"] == "layers"]


def test_the_lists_of_the_page_are_the_import_contracts() -> None:
    beginning = PAGE.read_text().partition("\n## ")[0]
    assert [block.split("\n") for block in re.findall(r"```\n(.*?)\n```", beginning, re.DOTALL)] == _contracts()


def test_every_module_without_a_room_is_named() -> None:
    """Modules at the root of ``common``, the verifier and the agent; entry points speak for themselves."""
    folders = ("common/nodeseal", "verifier/nodeseal/verifier", "agent/nodeseal/agent")
    alone = {path.stem for folder in folders for path in (ROOT / folder).glob("*.py")} - {
        "__init__",
        "__main__",
        "main",
    }
    assert sorted(alone - set(re.findall(r"`(\w+)`", _section("Rooms")))) == []


def test_rooms_to_come_have_a_place_in_the_contracts() -> None:
    contracts = "\n".join(layer for layers in _contracts() for layer in layers)
    announced = re.findall(r"^- \*\*([a-z]+)\*\*", _section("Rooms to come"), re.MULTILINE)
    assert announced
    assert [name for name in announced if name not in _built() and f"({name})" not in contracts] == []


def _built() -> set[str]:
    return {name.rpartition(".")[2] for name in _rooms()}


# --- The import graph --------------------------------------------------------------------------------------------


def _imports(module: str) -> set[str]:
    """Return the own modules that a module imports, under ``TYPE_CHECKING`` and inside functions as well."""
    return (set(_mentioned(_tree(module))) & _modules().keys()) - {module}


def _mentioned(tree: ast.Module) -> Iterator[str]:
    """Return the modules of all imports. Two functions may import different things under one name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "a relative import"
            assert not node.level, "a relative import"
            yield from (_target(node.module, alias.name)[0] for alias in node.names)


def _cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for after in sorted(graph[node]):
            if after not in order:
                visit(after)
            if after in stack:
                low[node] = min(low[node], low[after])
        if low[node] == order[node]:
            at = stack.index(node)
            found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return [group for group in found if len(group) > 1]


def test_no_import_cycle_exists() -> None:
    assert _cycles({module: _imports(module) for module in _modules()}) == []


def test_no_import_hides_behind_another_of_the_same_name() -> None:
    tree = ast.parse(
        "from nodeseal.errors import *\n"
        "def one():\n    from nodeseal.ids import parse as it\n"
        "def two():\n    from nodeseal.inert import inert as it\n"
        "if TYPE_CHECKING:\n    import nodeseal.files as it\n"
    )
    assert set(_mentioned(tree)) == {"nodeseal.errors", "nodeseal.ids", "nodeseal.inert", "nodeseal.files"}


def test_a_cycle_would_be_found() -> None:
    assert _cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


# --- Sizes -------------------------------------------------------------------------------------------------------


def _lengths(modules: Iterable[str]) -> Iterator[int]:
    """Return how many lines the body of each function has, without its docstring."""
    for module in modules:
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                yield (node.end_lineno or 0) - first.lineno + 1


def test_nine_functions_in_ten_are_short() -> None:
    lengths = sorted(_lengths(module for module in _modules() if "_pb2" not in module))
    assert lengths[len(lengths) * 9 // 10] < MAX_P90_LINES
