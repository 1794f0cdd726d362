"""The log as something that can be proved: prove, export, verify, follow and witness, through the command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nodeseal.tlog.note import parse_vkey
from nodeseal.v1.admin_pb2 import QuarantineNodeRequest
from nodeseal.verifier.main import app
from nodeseal.verifier.states import PEOPLE
from support.admin import entitled
from support.damage import flipped
from support.fake_node import a_node
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier
from support.witnesses import a_witness


@dataclass(frozen=True, slots=True)
class Audited:
    """A verifier whose log has something of every kind.

    Attributes:
        verifier: it.
        terminal: of an auditor.
        key: file with the key of the log.
        folder: for a test.
    """

    verifier: RunningVerifier
    terminal: Terminal
    key: Path
    folder: Path

    def audit(self, *words: str, exit_code: int = 0) -> str:
        done = self.terminal.type("audit", *words, "--key", str(self.key), exit_code=exit_code)
        return done.stdout + done.stderr

    def verified(self, path: Path) -> Any:
        return self.terminal.json("audit", "verify", str(path), "--key", str(self.key))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("audited")) as verifier:
        verifier.add_person("kim", *PEOPLE)
        asyncio.run(_live(verifier))
        yield verifier


async def _live(verifier: RunningVerifier) -> None:
    """Let a node be admitted and hold a lease, and quarantine another."""
    async with entitled(verifier):
        pass
    other = a_node(verifier)
    await other.enrol()
    async with verifier.person() as person:
        await person.nodes.QuarantineNode(QuarantineNodeRequest(node_id=other.node_id, reason="strange smell"))


@pytest.fixture
def audited(running: RunningVerifier, tmp_path: Path) -> Audited:
    shown = CliRunner().invoke(app, ["log-key", "--config", str(running.folder / "verifier.yaml")])
    (tmp_path / "log.vkey").write_text(shown.output)
    terminal = Terminal(running.folder / "persons" / "kim", tmp_path)
    return Audited(running, terminal, tmp_path / "log.vkey", tmp_path)


def test_an_act_is_proved_in_one_file_that_verifies_offline(audited: Audited) -> None:
    proof = audited.folder / "act.tlog-proof"
    audited.audit("prove", "3", "-o", str(proof))
    shown = audited.verified(proof)
    record = audited.terminal.json("audit", "show", "3")
    assert shown["leaf"] == 2
    assert shown["envelope"] == record["content"]
    for changed in (flipped(proof.read_bytes(), 40), proof.read_bytes().replace(b"index 2", b"index 1")):
        proof.write_bytes(changed)
        assert audited.audit("verify", str(proof), exit_code=1)


def test_an_act_that_is_not_there_is_not_proved(audited: Audited) -> None:
    said = audited.audit("prove", "100000", "-o", str(audited.folder / "x"), exit_code=1)
    assert "there is no act 100000" in said
    assert not (audited.folder / "x").exists()


def test_an_export_verifies_whole_and_says_so(audited: Audited) -> None:
    folder = audited.folder / "export"
    audited.audit("export", str(folder))
    report = audited.verified(folder)
    assert report["complete"]
    assert report["acts"] == report["size"] > 10
    assert report["rows"]["compared"] >= 7
    assert report["withheld"] == {}
    assert audited.audit("verify", str(folder)).startswith("complete: ")


def test_an_export_with_bodies_withheld_is_incomplete_and_counts_them(audited: Audited) -> None:
    folder = audited.folder / "export"
    audited.audit("export", str(folder), "--withhold")
    said = audited.audit("verify", str(folder))
    assert said.startswith("INCOMPLETE: ")
    report = audited.verified(folder)
    assert report["withheld"]["node.quarantined"] == 1
    assert report["rows"]["unknown"] >= 1
    assert not report["complete"]
    assert "strange smell" not in (folder / "acts.jsonl").read_text()


def test_a_witness_cosigns_what_follows_and_its_key_is_demanded(audited: Audited) -> None:
    log = parse_vkey(audited.key.read_text().strip())
    with a_witness(audited.folder / "w", log) as witness:
        audited.audit("export", str(audited.folder / "one"), *witness.options)
        audited.audit("follow", str(audited.folder / "last"), *witness.options)
        audited.terminal.type("key", "create", "another")
        audited.audit("follow", str(audited.folder / "last"), *witness.options)
        audited.audit("prove", "1", "-o", str(audited.folder / "p"), *witness.options)
    for path in ("one", "p"):
        said = audited.audit("verify", str(audited.folder / path), "--witness-key", str(witness.key))
        assert "example.org/w1 at 20" in said
    audited.audit("export", str(audited.folder / "two"), "--withhold")
    refused = audited.audit("verify", str(audited.folder / "two"), "--witness-key", str(witness.key), exit_code=1)
    assert "log.signature" in refused
    before = audited.folder / "one" / "checkpoint"
    audited.audit("verify", str(audited.folder / "two"), "--previous", str(before))


def test_witnesses_and_their_keys_go_together(audited: Audited) -> None:
    audited.audit("follow", str(audited.folder / "last"), "--witness", "http://127.0.0.1:1", exit_code=2)
    audited.audit(
        "follow",
        str(audited.folder / "last"),
        "--witness",
        "file:///etc/passwd",
        "--witness-key",
        str(audited.key),
        exit_code=1,
    )
