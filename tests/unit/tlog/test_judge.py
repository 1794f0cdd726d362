"""Go's sumdb accepts our checkpoints and proofs, over tile borders, and refuses changed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.tlog.checkpoint import Checkpoint, log_key, sign_checkpoint
from nodeseal.tlog.tree import consistency_path, inclusion_path, root_of
from support.damage import flipped
from support.tlog_judge import Case, compiled, consistency_case, inclusion_case, note_case, verdicts
from support.trees import MemoryTiles, leaf

SIZES = (1, 2, 3, 7, 8, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 70_000)
TILES = MemoryTiles(70_000)
SIGNER = Ed25519Signer(new_log_key(), "key")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("judge"))


def cases() -> list[Case]:
    tree, made = TILES.tree(), list[Case]()
    roots = {size: root_of(size, tree.subtree) for size in SIZES}
    for size in SIZES:
        signed = sign_checkpoint(Checkpoint(origin="example.org/log", size=size, root=roots[size]), SIGNER)
        made.append(note_case(signed.raw, log_key("example.org/log", SIGNER.public).text, size, roots[size]))
        for index in {0, 1, size // 2, 254, 255, 256, 65_535, size - 1}:
            if index < size:
                path = inclusion_path(index, size, tree.subtree)
                made.append(inclusion_case(leaf(index), index, size, roots[size], path))
        for old in SIZES:
            if old < size:
                path = consistency_path(old, size, tree.subtree)
                made.append(consistency_case(old, roots[old], size, roots[size], path))
    return made


def test_go_accepts_every_checkpoint_and_proof(judge: Path) -> None:
    made = cases()
    assert len(made) == 14 + 71 + 91
    assert verdicts(judge, made) == ["ok"] * len(made)


def test_go_refuses_changed_ones(judge: Path) -> None:
    changed = [{**case, "Root": flipped(bytes(case["Root"]))} for case in cases()]  # type: ignore[call-overload]  # bytes
    assert "ok" not in verdicts(judge, changed)
