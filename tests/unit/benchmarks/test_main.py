"""The command: all figures are there, whatever happens to one of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.harness import Result
from benchmarks.openssl import parse_speed

FIGURES = {
    "load_2t_over_1t": partial(divmod, 1, 0),
    "kib_per_node": partial(parse_speed, "nothing"),
    "first_tensor_ms": partial(Result.of, (3.0,), unit="ms", against="", note=""),
}
"""One that fails, one that is missing and one that is good; by names that other processes find as well."""


def test_a_figure_that_fails_is_null_with_its_reason_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_RESULTS", tmp_path)
    monkeypatch.setattr(command, "_benchmarks", lambda: FIGURES)
    assert command.main([]) == 1
    results = json.loads((tmp_path / "latest.json").read_text())["results"]
    assert {key: result["value"] for key, result in results.items()} == dict.fromkeys(FIGURES) | {"first_tensor_ms": 3}
    assert "ZeroDivisionError" in results["load_2t_over_1t"]["note"]
    assert "no figure" in results["kib_per_node"]["note"]


def test_a_figure_that_is_missing_is_no_failure_and_one_alone_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_RESULTS", tmp_path)
    monkeypatch.setattr(command, "_benchmarks", lambda: FIGURES)
    assert command.main(["kib_per_node"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_every_figure_has_a_benchmark() -> None:
    assert command._benchmarks().keys() == report.REACH.keys()
