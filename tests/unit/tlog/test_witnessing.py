"""A witness cosigns what goes on from its last checkpoint, and answers everything else as C2SP tlog-witness says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.tlog.checkpoint import Checkpoint, SignedCheckpoint, log_key, sign_checkpoint
from nodeseal.tlog.proof_text import AddCheckpoint
from nodeseal.tlog.tree import consistency_path, root_of
from nodeseal.tlog.witnessing import WitnessStatus, asked_origin, witness
from support.damage import flipped
from support.trees import MemoryTiles

TILES = MemoryTiles(600)
SIGNER, STRANGER = Ed25519Signer(new_log_key(), "log"), Ed25519Signer(new_log_key(), "stranger")
KEYS = {"a.example/log": log_key("a.example/log", SIGNER.public)}


def signed(size: int, signer: Ed25519Signer = SIGNER, origin: str = "a.example/log") -> SignedCheckpoint:
    root = root_of(size, TILES.tree().subtree)
    return sign_checkpoint(Checkpoint(origin=origin, size=size, root=root), signer)


def request(old: int, size: int, **changed: object) -> bytes:
    path = consistency_path(old, size, TILES.tree().subtree)
    good = AddCheckpoint(old=old, path=path, note=signed(size).raw)
    return replace(good, **changed).encode()  # type: ignore[arg-type]  # fields of the request


@pytest.mark.parametrize(("old", "size"), [(0, 1), (0, 600), (1, 600), (256, 257), (600, 600)])
def test_what_goes_on_is_cosigned(old: int, size: int) -> None:
    answer = witness(request(old, size), KEYS, signed(old).checkpoint if old else None)
    assert (answer.status, answer.known) == (WitnessStatus.COSIGNED, size)
    assert answer.signed == signed(size)


KNOWN = signed(300).checkpoint


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(0, 400), WitnessStatus.CONFLICT),
        (request(299, 400), WitnessStatus.CONFLICT),
        (request(301, 400), WitnessStatus.CONFLICT),
        (AddCheckpoint(old=401, path=(), note=signed(400).raw).encode(), WitnessStatus.MALFORMED),
        (request(300, 400, path=()), WitnessStatus.INCONSISTENT),
        (request(300, 400, path=(bytes(32),)), WitnessStatus.INCONSISTENT),
        (request(300, 400, note=signed(400, STRANGER).raw), WitnessStatus.UNSIGNED),
        (request(300, 400, note=signed(400, origin="b.example/log").raw), WitnessStatus.UNKNOWN_LOG),
        (request(300, 400, note=b"x"), WitnessStatus.MALFORMED),
        (b"", WitnessStatus.MALFORMED),
        (request(300, 300, path=(bytes(32),)), WitnessStatus.INCONSISTENT),
        (flipped(request(300, 400), -30), WitnessStatus.UNSIGNED),
    ],
)
def test_what_does_not_go_on_is_refused_by_its_status(raw: bytes, status: WitnessStatus) -> None:
    answer = witness(raw, KEYS, KNOWN)
    assert (answer.status, answer.signed) == (status, None)
    assert answer.reason
    if status is WitnessStatus.CONFLICT:
        assert answer.known == 300


def test_another_tree_of_the_size_that_was_cosigned_is_a_conflict() -> None:
    fork = sign_checkpoint(replace(KNOWN, root=bytes(32)), SIGNER)
    answer = witness(request(300, 300, note=fork.raw), KEYS, KNOWN)
    assert (answer.status, answer.known, answer.signed) == (WitnessStatus.CONFLICT, 300, None)


def test_a_first_checkpoint_needs_no_proof_and_takes_none() -> None:
    assert witness(request(0, 5), KEYS, None).status is WitnessStatus.COSIGNED
    assert witness(request(0, 5, path=(bytes(32),)), KEYS, None).status is WitnessStatus.INCONSISTENT


def test_the_origin_of_a_request_is_read_without_a_proof() -> None:
    assert asked_origin(request(0, 5)) == "a.example/log"
