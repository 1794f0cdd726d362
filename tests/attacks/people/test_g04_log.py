"""Attacks on the history that the log tells: row g04. What an auditor is shown, and what a witness is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeseal.cli.audit_witness import read_vkey
from nodeseal.cli.witness_client import WitnessPlace, cosigned_by
from nodeseal.crypto.ed25519 import Ed25519Signer
from nodeseal.errors import ProofFailed
from nodeseal.findings import FindingId
from nodeseal.tlog.checkpoint import SignedCheckpoint, open_checkpoint, sign_checkpoint
from support import edited_exports as edited
from support.audits import Audit
from support.damage import flip, flipped
from support.witnesses import a_witness

Lines = list[dict[str, Any]]


def test_g04_the_unchanged_export_verifies(audit: Audit) -> None:
    assert audit.verify().startswith("complete: ")


def test_g04_a_changed_leaf_is_named(audit: Audit) -> None:
    number = edited.edit_act(audit.folder, "key.granted", lambda fields: fields.update(max_leases=99), hashes=False)
    said = audit.verify(exit_code=1)
    assert f"log.proof (act {number}): expected the leaf that was signed" in said


def test_g04_a_leaf_that_is_changed_together_with_its_hash_is_under_no_signed_tree(audit: Audit) -> None:
    edited.edit_act(audit.folder, "key.granted", lambda fields: fields.update(max_leases=99), hashes=True)
    assert "that was signed, seen another one" in audit.verify(exit_code=1)


def test_g04_a_body_that_is_changed_alone_is_named(audit: Audit) -> None:
    acts = edited.lines(audit.folder)
    acts[4]["body"] = acts[4]["body"].replace('"actor":"', '"actor":"x')
    edited.write(audit.folder, acts)
    assert "log.proof (act 5): expected the body that the leaf names" in audit.verify(exit_code=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda acts: acts[:-1],
        lambda acts: acts[:5] + acts[6:],
        lambda acts: [*acts[:5], acts[3], *acts[5:]],
        lambda acts: [*acts[:5], acts[6], acts[5], *acts[7:]],
    ],
    ids=["cut off", "one removed", "one inserted", "two swapped"],
)
def test_g04_acts_that_are_removed_inserted_or_reordered_are_under_no_signed_tree(
    audit: Audit, change: Callable[[Lines], Lines]
) -> None:
    edited.write(audit.folder, edited.renumber(change(edited.lines(audit.folder))))
    assert "log.proof" in audit.verify(exit_code=1)


def test_g04_acts_without_their_number_are_refused(audit: Audit) -> None:
    acts = edited.lines(audit.folder)
    edited.write(audit.folder, [*acts[:5], *acts[6:]])
    assert "log.proof (act 7): expected act 6 here" in audit.verify(exit_code=1)


def test_g04_a_checkpoint_of_somebody_else_is_refused(audit: Audit) -> None:
    flip(audit.folder / "checkpoint", -20)
    audit.verify(exit_code=1)


def test_g04_a_widening_body_may_not_be_withheld(audit: Audit) -> None:
    acts = edited.lines(audit.folder)
    act = next(each for each in acts if json.loads(each["envelope"])["kind"] == "key.granted")
    act["body"] = None
    edited.write(audit.folder, acts)
    assert f"log.export (act {act['sequence']}): expected the body of key.granted" in audit.verify(exit_code=1)


def test_g04_a_document_that_is_changed_or_missing_is_named(audit: Audit) -> None:
    path = min((audit.folder / "documents").iterdir())
    content = path.read_bytes()
    path.write_bytes(flipped(content))
    assert f"document {path.name}" in audit.verify(exit_code=1)


@pytest.mark.parametrize("edit", ["changed", "removed", "added"])
def test_g04_what_is_in_force_without_an_act_is_named(audit: Audit, edit: str) -> None:
    rows = edited.lines(audit.folder, "state.jsonl")
    grant = next(row for row in rows if row["table"] == "grants")
    place = f"grants: grant/{grant['row']['key_id']}/{grant['row']['node_id']}"
    if edit == "changed":
        grant["row"]["max_leases"] = 7
    elif edit == "removed":
        rows.remove(grant)
    else:
        rows.append({**grant, "row": {**grant["row"], "node_id": "n-" + "z" * 26}})
        place = f"grants: grant/{grant['row']['key_id']}/n-{'z' * 26}"
    edited.write(audit.folder, rows, "state.jsonl")
    assert f"log.export ({place})" in audit.verify(exit_code=1)


def forged(audit: Audit, size: int, root: bytes) -> SignedCheckpoint:
    """Return a checkpoint of another history, signed by the log's own key, as root on the verifier's host can."""
    signed = open_checkpoint((audit.folder / "checkpoint").read_bytes(), read_vkey(audit.key))
    signer = Ed25519Signer((audit.verifier.folder / "log.key").read_bytes(), "log.key")
    return sign_checkpoint(replace(signed.checkpoint, size=size, root=root), signer)


def test_g04_a_witness_cosigns_no_second_history(audit: Audit, tmp_path: Path) -> None:
    log = read_vkey(audit.key)
    good = open_checkpoint((audit.folder / "checkpoint").read_bytes(), log)
    size, root = good.checkpoint.size, good.checkpoint.root
    with a_witness(tmp_path / "w", log) as running:
        place = WitnessPlace(running.url, read_vkey(running.key))
        cosigned_by(place, good, lambda _: ())
        forgeries = [forged(audit, size, flipped(root)), forged(audit, size + 1, root), forged(audit, size - 1, root)]
    with a_witness(tmp_path / "w", log) as running:  # a restart forgets nothing
        place = WitnessPlace(running.url, read_vkey(running.key))
        for forgery in forgeries:
            with pytest.raises(ProofFailed) as refused:
                cosigned_by(place, forgery, lambda _: (bytes(32),))
            assert refused.value.findings[0].id is FindingId.LOG_FORK
        assert cosigned_by(place, good, lambda _: ()).checkpoint == good.checkpoint


def test_g04_who_follows_the_log_refuses_another_history_and_keeps_the_evidence(audit: Audit, tmp_path: Path) -> None:
    last = tmp_path / "last"
    for size, root, finding in ((3, bytes(32), "log.proof"), (10_000, bytes(32), "log.fork")):
        last.write_bytes(forged(audit, size, root).raw)
        kept = last.read_bytes()
        assert finding in audit.said("follow", str(last), exit_code=1)
        assert last.read_bytes() == kept


def test_g04_an_export_that_does_not_go_on_from_an_earlier_checkpoint_is_a_fork(audit: Audit, tmp_path: Path) -> None:
    audit.verify("--previous", str(audit.folder / "checkpoint"))
    (tmp_path / "before").write_bytes(forged(audit, 5, bytes(32)).raw)
    assert "log.fork" in audit.verify("--previous", str(tmp_path / "before"), exit_code=1)
