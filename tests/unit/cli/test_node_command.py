"""``nodeseal node``: all nodes are listed, and what a node calls its files is no markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from nodeseal.cli import node
from nodeseal.cli.main import app
from nodeseal.ids import node_id_of
from nodeseal.v1 import admin_pb2, attestation_pb2

NODE = node_id_of(b"ek")


def answer(monkeypatch: pytest.MonkeyPatch, **calls: Callable[..., object]) -> None:
    """Let commands talk to a verifier that answers these calls."""

    @contextmanager
    def connect(_client: Path) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(**calls)

    monkeypatch.setattr(node, "connect", connect)


@pytest.mark.parametrize(
    "path",
    ["/opt/[/]x", "/opt/[black on black]x", "/opt/[link=https://x.example]y[/link]"],
    ids=["end", "style", "link"],
)
def test_a_files_name_is_no_markup(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = attestation_pb2.Finding(id="ima.unknown-file", where=path, expected=path, seen=path, event=path)
    found = admin_pb2.Node(node_id=NODE, findings=[finding])
    answer(monkeypatch, get_node=lambda _node_id: found)
    result = CliRunner().invoke(app, ["node", "show", NODE])
    assert result.exit_code == 0, result.exception
    assert result.stdout.replace("\n", "").count(path) == len(("where", "expected", "seen", "event"))


def test_what_holds_and_is_not_recorded_yet_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [f"Node {NODE} was quarantined: chassis opened.", f"Node {NODE} was retired: sold."]
    answer(monkeypatch, get_node=lambda _node_id: admin_pb2.Node(node_id=NODE, unrecorded=said))
    shown = CliRunner().invoke(app, ["node", "show", NODE], env={"COLUMNS": "200"}).stdout
    told = [line.removeprefix("in force, not recorded yet").strip() for line in shown.splitlines()[-2:]]
    assert told == said
