"""The tool that runs mutants: what of the code one changes, which lines it stands in, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.mutants.code import Mutant, changed_functions, read_mutants, statement_lines

MODULE = '''"""A module."""

LIMIT = 3 - 1


def decide(number: int | None) -> bool:
    """Decide."""
    if (
        number is not None
        and number < LIMIT
    ):
        return any(each < number for each in range(2))
    return False


class Thing:
    """A thing."""

    size = 1 + 1

    def grow(self) -> int:
        """Grow."""
        return self.size + 1
'''


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    return path


def mutant(module: Path, was: str, becomes: str) -> Mutant:
    assert MODULE.count(was) == 1
    first = MODULE.index(was)
    return Mutant(path=module, operator="x", first=first, last=first + len(was), text=becomes)


@pytest.mark.parametrize(
    ("was", "becomes", "functions"),
    [
        ("number < LIMIT", "number <= LIMIT", ["decide"]),
        ("each < number", "each > number", ["decide", "decide.<locals>.<genexpr>"]),
        ("self.size + 1", "self.size - 1", ["Thing.grow"]),
    ],
)
def test_a_mutant_inside_a_function_names_the_code_to_put_there(
    module: Path, was: str, becomes: str, functions: list[str]
) -> None:
    changed = changed_functions(mutant(module, was, becomes))
    assert not isinstance(changed, str)
    assert [before.co_qualname for before, _ in changed] == functions


@pytest.mark.parametrize(("was", "becomes"), [("3 - 1", "3 + 1"), ("1 + 1", "1 - 1"), ("class Thing", "class Other")])
def test_a_mutant_of_what_runs_at_import_is_told_apart(module: Path, was: str, becomes: str) -> None:
    assert changed_functions(mutant(module, was, becomes)) == "import"


def test_a_mutant_that_compiles_to_the_same_is_none(module: Path) -> None:
    assert changed_functions(mutant(module, "return False", "return (False)")) == "same"


def test_a_mutant_is_reached_by_the_lines_of_its_statement_without_the_body(module: Path) -> None:
    assert mutant(module, "number < LIMIT", "number > LIMIT").lines == range(8, 12)
    assert statement_lines(module, 12) == range(12, 13)


def test_mutants_of_annotations_are_left_out(module: Path, tmp_path: Path) -> None:
    rows = [mutant(module, " | ", " + "), mutant(module, "number < LIMIT", "number > LIMIT")]
    specs = tmp_path / "specs.jsonl"
    specs.write_text("".join(json.dumps(row.key) + "\n" for row in rows))
    (read,) = read_mutants(specs)
    assert read.text == "number > LIMIT"
    assert "number > LIMIT" in read.source
