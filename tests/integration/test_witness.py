"""The witness over HTTP: bounded, on loopback, and with a memory that a restart keeps."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nodeseal.cli.audit_witness import Witness, read_vkey
from nodeseal.cli.witness_client import WitnessPlace, cosigned_by, parse_url
from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.tlog.checkpoint import Checkpoint, SignedCheckpoint, log_key, sign_checkpoint
from nodeseal.tlog.proof_text import MAX_PROOF, AddCheckpoint
from nodeseal.tlog.tree import consistency_path, root_of
from support.trees import MemoryTiles
from support.witnesses import RunningWitness, a_witness

TILES = MemoryTiles(600)
SIGNER = Ed25519Signer(new_log_key(), "log")
LOG = log_key("a.example/log", SIGNER.public)


def signed(size: int) -> SignedCheckpoint:
    root = root_of(size, TILES.tree().subtree)
    return sign_checkpoint(Checkpoint(origin="a.example/log", size=size, root=root), SIGNER)


def path_to(size: int, old: int) -> tuple[bytes, ...]:
    return consistency_path(old, size, TILES.tree().subtree)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningWitness]:
    with a_witness(tmp_path / "w", LOG) as made:
        yield made


def post(running: RunningWitness, body: bytes, *, path: str = "/add-checkpoint", length: str = "") -> tuple[int, bytes]:
    place = urlsplit(running.url)
    connection = HTTPConnection(str(place.hostname), place.port, timeout=20)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", length or str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_cosigns_each_step_and_remembers_the_last_over_a_restart(tmp_path: Path) -> None:
    for size in (1, 300, 300, 600):
        with a_witness(tmp_path / "w", LOG) as running:
            place = WitnessPlace(running.url, read_vkey(running.key))
            now = cosigned_by(place, signed(size), lambda old, to=size: path_to(to, old))  # type: ignore[misc]
            assert len(now.note.signatures) == 2
    with a_witness(tmp_path / "w", LOG) as running:
        assert post(running, AddCheckpoint(old=300, path=path_to(600, 300), note=signed(600).raw).encode()) == (
            409,
            b"600\n",
        )
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / "w").glob("*.key")} == {0}


def test_a_witness_that_is_ahead_is_a_fork_for_who_asks(running: RunningWitness) -> None:
    place = WitnessPlace(running.url, read_vkey(running.key))
    cosigned_by(place, signed(600), lambda _: ())
    with pytest.raises(ProofFailed, match=r"log\.fork"):
        cosigned_by(place, signed(300), lambda _: ())


def test_a_witness_of_another_log_says_so(tmp_path: Path) -> None:
    with a_witness(tmp_path / "w") as running:
        place = WitnessPlace(running.url, read_vkey(running.key))
        with pytest.raises(Unavailable, match="status 404"):
            cosigned_by(place, signed(3), lambda _: ())


def test_a_cosignature_by_another_key_does_not_count(running: RunningWitness, tmp_path: Path) -> None:
    other = Witness(tmp_path / "other", "example.org/w1", {}).key
    with pytest.raises(ProofFailed, match=r"log\.signature"):
        cosigned_by(WitnessPlace(running.url, other), signed(3), lambda _: ())


def test_bodies_are_bounded_and_other_paths_are_not_there(running: RunningWitness) -> None:
    assert post(running, b"x")[0] == 400
    assert post(running, b"", length=str(MAX_PROOF + 1))[0] == 400
    assert post(running, b"", length="-1")[0] == 400
    assert post(running, b"", length="x")[0] == 400
    assert post(running, b"x", path="/")[0] == 404


def test_a_memory_that_cannot_be_written_cosigns_nothing(running: RunningWitness, tmp_path: Path) -> None:
    place = WitnessPlace(running.url, read_vkey(running.key))
    cosigned_by(place, signed(3), lambda _: ())
    (memory,) = (tmp_path / "w").glob("*.checkpoint")
    memory.write_bytes(b"garbage")
    with pytest.raises(Unavailable, match="status 500"):
        cosigned_by(place, signed(5), lambda _: ())


@pytest.mark.parametrize("text", ["", "file:///x", "http://", "ftp://a/b", "http://a/?q"])
def test_an_address_is_http(text: str) -> None:
    with pytest.raises(MalformedInput):
        parse_url(text)


def test_a_witness_that_is_not_there_is_named(tmp_path: Path) -> None:
    key = Witness(tmp_path / "w", "example.org/w1", {}).key
    with pytest.raises(Unavailable, match=r"witness http://127\.0\.0\.1:1"):
        cosigned_by(WitnessPlace("http://127.0.0.1:1", key), signed(3), lambda _: ())
