"""Every mutant that cosmic-ray makes of some modules, one JSON object a line: which characters become which.

A script for the environment of cosmic-ray (``.venv-mutants``), which shares nothing with ours.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

# These want to be told which variables; cosmic-ray leaves them out, too, where nobody does.
UNSET = ("core/VariableReplacer", "core/VariableInserter")


def main() -> int:
    """Print the mutants of each module named on the command line."""
    for path in sys.argv[1:]:
        source = Path(path).read_text(encoding="utf-8")
        for mutant in _mutants(source):
            sys.stdout.write(json.dumps({"path": path, **mutant}) + "\n")
    return 0


def _mutants(source: str) -> Iterator[dict[str, object]]:
    nodes = list(ast_nodes(get_ast(source)))
    for name in (name for name in operator_names() if name not in UNSET):
        operator = get_operator(name)()
        places = [
            (number, index)
            for number, node in enumerate(nodes)
            for index, _ in enumerate(operator.mutation_positions(node))
        ]
        for number, index in places:
            try:
                mutated = _mutate(source, operator, number, index)
            except AttributeError:  # ExceptionReplacer knows no dotted names
                continue
            if mutated != source:
                yield {"operator": name, **_difference(source, mutated)}


def _mutate(source: str, operator: Operator, number: int, index: int) -> str:
    """Do as cosmic-ray's visitor does, without asking every node before this one again."""
    tree = get_ast(source)
    node = next(islice(ast_nodes(tree), number, None))
    parent = node.parent
    mutated = operator.mutate(node, index)
    if mutated is not node and parent is not None:
        place = next(place for place, child in enumerate(parent.children) if child is node)
        parent.children[place : place + 1] = [] if mutated is None else [mutated]
    return str(tree.get_code())


def _difference(before: str, after: str) -> dict[str, object]:
    first = _equal(before, after)
    tail = min(_equal(before[::-1], after[::-1]), len(before) - first, len(after) - first)
    return {"first": first, "last": len(before) - tail, "text": after[first : len(after) - tail]}


def _equal(one: str, other: str) -> int:
    """Return how many letters two texts begin with in common."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


if __name__ == "__main__":
    raise SystemExit(main())
