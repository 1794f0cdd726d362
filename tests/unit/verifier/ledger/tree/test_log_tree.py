"""The log's tree: one tree over the acts, signed in the transaction that numbers them, and compared at every start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.errors import MalformedInput, NotFound, Unavailable
from nodeseal.tlog.checkpoint import Checkpoint, log_key, open_checkpoint
from nodeseal.tlog.tree import consistency_path, root_of, verify_consistency
from nodeseal.verifier.ledger.leaf import leaf_hash
from nodeseal.verifier.ledger.log import check_log, check_tree, has_tree, open_tree
from nodeseal.verifier.ledger.tree.log_tree import (
    LOG_KEY_CREDENTIAL,
    LogTree,
    load_log_key,
    make_log_key,
    origin_of,
    read_checkpoint_file,
    tree_in,
)
from nodeseal.verifier.ledger.tree.proofs import prove_consistency, prove_record
from nodeseal.verifier.ledger.tree.sequencer import number_all
from nodeseal.verifier.store.acts import every_act
from nodeseal.verifier.store.database import run
from nodeseal.verifier.store.tree import newest_checkpoint
from support.damage import flip, flipped
from support.log_trees import KEY, SIGNER, LogBench, a_log


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LogBench]:
    with a_log(tmp_path) as made:
        yield made


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(MalformedInput) as refused:
        work()
    assert refused.value.remedy
    return str(refused.value)


def test_a_checkpoint_names_trust_domain_and_leaf_0_and_is_signed(bench: LogBench) -> None:
    signed = bench.number()
    (first, *_) = bench.read(lambda rows: list(every_act(rows)))
    origin = origin_of("example.org", bytes.fromhex(leaf_hash(first.envelope)))
    assert signed.checkpoint.origin == origin
    assert origin.startswith("example.org/nodeseal/")
    assert open_checkpoint(bench.file.read_bytes(), log_key(origin, SIGNER.public)) == signed


def test_every_step_of_the_sequencer_goes_on_from_the_one_before(bench: LogBench) -> None:
    earlier = [bench.number().checkpoint]
    for count in (1, 5, 249, 1, 1, 300):
        now = bench.grow(count).checkpoint
        assert bench.kept() == now
        goes_on(bench, earlier, now)
        earlier.append(now)
    assert bench.check() == (0, 558, earlier[-1].root)
    bench.restart()
    assert bench.number().checkpoint == earlier[-1]


def goes_on(bench: LogBench, earlier: list[Checkpoint], now: Checkpoint) -> None:
    """See to it that the stored tree has the root of a checkpoint, and goes on from earlier ones."""
    with bench.engine.connect() as rows:
        subtree = tree_in(rows, 0).subtree
        assert root_of(now.size, subtree) == now.root
        for before in earlier:
            path = consistency_path(before.size, now.size, subtree)
            verify_consistency(before.size, before.root, now.size, now.root, path)


def test_an_upgrade_builds_the_tree_of_acts_that_are_there_and_does_so_once(bench: LogBench) -> None:
    before = bench.grow(300)
    bench.change("DELETE FROM tiles")
    bench.change("DELETE FROM checkpoints")
    assert not has_tree(bench.engine)
    assert "the log has no tree" in refusal(bench.check)
    open_tree(bench.engine, KEY, bench.tree)
    open_tree(bench.engine, KEY, bench.tree)
    bench.check()
    assert bench.kept() == before.checkpoint


def test_an_upgrade_builds_no_second_tree_beside_the_checkpoint_of_another(bench: LogBench) -> None:
    bench.grow(3)
    kept = bench.file.read_bytes()
    bench.change("DELETE FROM tiles")
    bench.change("DELETE FROM checkpoints")
    bench.change("DELETE FROM acts WHERE id = 4")
    assert "it is behind" in refusal(lambda: open_tree(bench.engine, KEY, bench.tree))
    assert not has_tree(bench.engine)
    assert bench.file.read_bytes() == kept


def put_back(bench: LogBench) -> None:
    """Put the database back to an earlier state."""
    bench.replace_database((bench.folder / "copy.sqlite").read_bytes())


@pytest.fixture
def copied(bench: LogBench) -> LogBench:
    """A log of five acts, with a copy of its database when it had three."""
    bench.grow(2)
    (bench.folder / "copy.sqlite").write_bytes(bench.whole_database())
    bench.grow(2)
    return bench


def test_a_database_that_was_put_back_is_refused_at_start_and_signs_nothing(copied: LogBench) -> None:
    copied.check()
    put_back(copied)
    copied.restart()
    kept = copied.file.read_bytes()
    assert "the database has 3 acts of the log, and 5 were signed: it is behind" in refusal(copied.number)
    copied.tell(2)
    assert "it is behind" in refusal(copied.number)
    assert copied.file.read_bytes() == kept
    assert copied.read(newest_checkpoint) == (0, copied.read(newest_checkpoint)[1])  # type: ignore[index]


def test_a_database_with_other_acts_in_the_place_of_signed_ones_is_refused(copied: LogBench) -> None:
    put_back(copied)
    file = copied.file.read_bytes()
    copied.file.unlink()
    copied.file.write_bytes(copied.read(newest_checkpoint)[1])  # type: ignore[index]  # as if the file had been put back, too
    copied.restart()
    copied.grow(4)
    copied.file.write_bytes(file)
    copied.restart()
    assert "the first 5 acts are not those that were signed" in refusal(copied.number)


def test_a_database_that_is_put_back_under_a_running_verifier_is_not_signed(copied: LogBench) -> None:
    put_back(copied)
    copied.tell()
    assert "it is behind" in refusal(copied.number)
    assert copied.kept().size == 5


def test_a_start_goes_on_after_a_crash_between_database_and_file(bench: LogBench) -> None:
    bench.grow(2)
    before = bench.file.read_bytes()
    now = bench.grow(2)
    bench.file.write_bytes(before)
    bench.restart()
    assert bench.number() == now
    assert bench.file.read_bytes() == now.raw


def test_a_checkpoint_that_cannot_be_kept_outside_is_not_given_out(bench: LogBench) -> None:
    before = bench.number()
    bench.file.unlink()
    bench.file.mkdir()
    bench.tell()
    with pytest.raises(Unavailable):
        bench.number()
    assert bench.sequencer.published == before
    bench.file.rmdir()
    bench.file.write_bytes(before.raw)
    assert bench.number().checkpoint.size == before.checkpoint.size + 1


@pytest.mark.parametrize("statement", ["DELETE FROM tiles", "UPDATE tiles SET content = zeroblob(length(content))"])
def test_a_changed_tile_is_found_before_it_is_signed_over(bench: LogBench, statement: str) -> None:
    bench.grow(2)
    bench.change(statement)
    bench.tell()
    assert refusal(bench.number)
    assert bench.kept().size == 3


def test_a_checkpoint_of_somebody_else_is_refused(bench: LogBench) -> None:
    bench.number()
    other = LogTree(Ed25519Signer(new_log_key(), "other"), "example.org", bench.file)
    assert "the last checkpoint" in refusal(lambda: bench.read(other.head))
    assert "log.signature" in refusal(lambda: read_checkpoint_file(bench.file, other.public))
    flip(bench.file, 100)
    bench.restart()
    assert "checkpoint:" in refusal(bench.number)


def test_a_missing_file_is_refused(bench: LogBench) -> None:
    bench.number()
    bench.file.unlink()
    bench.restart()
    assert "not there" in refusal(bench.number)


def test_a_checkpoint_of_another_log_is_refused(bench: LogBench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with a_log(tmp_path / "other") as other:
        other.grow(5)
        bench.file.write_bytes(other.file.read_bytes())
    bench.restart()
    assert "the database holds the log" in refusal(bench.number)


def test_a_tree_that_is_not_over_the_acts_is_refused_at_start(bench: LogBench) -> None:
    bench.grow(3)
    shape = check_log(bench.engine, KEY)
    for changed in (shape._replace(size=3), shape._replace(root=flipped(shape.root)), shape._replace(first=1)):
        assert "is not the one over" in refusal(lambda of=changed: check_tree(bench.engine, of, SIGNER.public))  # type: ignore[misc]


def test_acts_that_were_numbered_without_the_tree_are_not_skipped(bench: LogBench) -> None:
    bench.grow(2)
    bench.tell(2)
    run(bench.engine.execution_options(writes=True), lambda rows: number_all(rows, KEY, None))
    bench.tell()
    assert "the tree ends at act 3, and act 6 comes next" in refusal(bench.number)


def test_an_act_that_is_not_the_leaf_that_was_signed_is_not_proved(bench: LogBench) -> None:
    signed = bench.grow(5)
    assert bench.read(lambda rows: prove_record(rows, signed, 3)).place == 2
    for changed in ("CAST(replace(envelope, 'node', 'nope') AS BLOB)", "CAST(envelope AS TEXT)"):
        bench.change(f"UPDATE acts SET envelope = {changed} WHERE id = 3")  # noqa: S608 - from the line above
        said = refusal(lambda: bench.read(lambda rows: prove_record(rows, signed, 3)))
        assert "act 3 is not the leaf that was signed" in said
    with pytest.raises(NotFound, match="there is no act 9"):
        bench.read(lambda rows: prove_record(rows, signed, 9))
    with pytest.raises(NotFound):
        bench.read(lambda rows: prove_consistency(rows, signed, 9))
    with pytest.raises(NotFound):
        bench.read(lambda rows: prove_consistency(rows, signed, 1, 7))


def test_the_key_is_made_once_and_a_credential_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.key"
    make_log_key(path)
    made = path.read_bytes()
    make_log_key(path)
    assert path.read_bytes() == made
    assert path.stat().st_mode & 0o077 == 0
    (tmp_path / LOG_KEY_CREDENTIAL).write_bytes(new_log_key())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_log_key(path).public != Ed25519Signer(made, "x").public
    path.unlink()
    make_log_key(path)
    assert not path.exists()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "keys.log" in refusal(lambda: load_log_key(path))
