"""``golden activate --dry-run``: when its exit code lets a script go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from nodeseal.cli import golden_outlook
from nodeseal.v1.admin_pb2 import GoldenOutlook
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, NodeState


class Foreseeing:
    """A verifier with one node."""

    def __init__(self, state: NodeState.ValueType, foreseen: str) -> None:
        self.found = GoldenOutlook(node_id="n", state=state, foreseen=foreseen)

    def foresee_golden(self, _: bytes) -> list[GoldenOutlook]:
        return [self.found]


def fails(state: NodeState.ValueType, foreseen: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    @contextmanager
    def connect(_: Path) -> Iterator[Foreseeing]:
        yield Foreseeing(state, foreseen)

    monkeypatch.setattr(golden_outlook, "connect", connect)
    try:
        golden_outlook.show_outlook(b"", Path("client"), as_json=False)
    except typer.Exit as ended:
        return ended.exit_code == 1
    return False


@pytest.mark.parametrize("foreseen", ["differs", "not-for-it", "unknown"])
def test_a_trusted_node_that_may_lose_trust_fails_the_outlook(foreseen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails(NODE_STATE_TRUSTED, foreseen, monkeypatch)
    assert not fails(NODE_STATE_UNTRUSTED, foreseen, monkeypatch)


@pytest.mark.parametrize("foreseen", ["matches", "open"])
def test_a_trusted_node_that_nothing_speaks_against_does_not(foreseen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not fails(NODE_STATE_TRUSTED, foreseen, monkeypatch)
