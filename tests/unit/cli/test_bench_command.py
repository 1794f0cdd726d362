"""nodeseal bench model: the machine's figures, and which of them is the limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.cli import bench
from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput, Unavailable
from support.sealed import sealed_model


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_SECONDS", 0.01)


def test_it_measures_disk_cipher_and_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sealed_model(tmp_path)
    monkeypatch.setattr(bench, "agent_keys", lambda *_: sample.keys)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["bench", "model", str(sample.directory), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["limit"] in ("disk", "cipher")
    rates = told["gb_per_second"]
    assert {name.partition(",")[0] for name in rates} == {"disk", "cipher", "load"}
    assert all(rate > 0 for name, rate in rates.items() if not name.startswith("disk, past"))
    assert "The limit of a load is the" in CliRunner().invoke(app, ["bench", "model", str(sample.directory)]).stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_load_no_key_is_needed(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    arguments = ["bench", "model", str(sample.directory), "--socket", str(tmp_path / "none")]
    assert isinstance(CliRunner().invoke(app, arguments).exception, Unavailable)
    result = CliRunner().invoke(app, [*arguments, "--no-load", "--json"])
    assert not [name for name in json.loads(result.stdout)["gb_per_second"] if name.startswith("load")]


def test_a_folder_that_is_not_sealed_is_refused(tmp_path: Path) -> None:
    assert isinstance(CliRunner().invoke(app, ["bench", "model", str(tmp_path)]).exception, MalformedInput)


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        ({"disk, a": 1e9, "disk, b": 2e9, "cipher, 2": 5e9}, "disk"),
        ({"disk, a": 1e9, "disk, b": 6e9, "cipher, 2": 5e9}, "cipher"),
        ({"disk, a": 1e9, "disk, b": None, "cipher, 1": 5e8, "cipher, 2": 9e8}, "cipher"),
    ],
)
def test_the_limit_is_the_slower_of_both_at_its_best(rates: Mapping[str, float | None], limit: str) -> None:
    assert bench.limit_of(rates) == limit
