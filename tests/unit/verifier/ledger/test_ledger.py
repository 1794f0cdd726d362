"""The ledger: decisions share transactions and nothing else, restrictions come first, whatever fails and when."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nodeseal.errors import (
    MalformedInput,
    NotFound,
    NotRecorded,
    OutOfOrder,
    TooManyRequests,
    Unavailable,
)
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest
from nodeseal.verifier.ledger import ledger as ledger_module
from nodeseal.verifier.ledger.acts import (
    VERIFIER,
    EvidenceExported,
    NodeAdmitted,
    NodeJudged,
    NodeQuarantined,
    NodeRetired,
)
from nodeseal.verifier.ledger.decided import Committed, Decided
from nodeseal.verifier.ledger.documents import document_of, findings_document
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.ledger import RESERVED_BYTES, Ledger
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.ledger.shares import BYTES_PER_DAY
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.nodes import save_labels
from support.acts import AT, NODE, OTHER_NODE
from support.damage import flipped
from support.ledgers import TELLING, Bench, NoTree, on_ledger, quarantine_of

Play = Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]
ADMITTED = NodeAdmitted(node_id=NODE, before=NodeState.QUARANTINED, forget_clock=False)
STALE = NodeJudged(
    node_id=NODE,
    before=NodeState.TRUSTED,
    state=NodeState.STALE,
    reason="late",
    codes=(),
    findings=Digest(""),
    goldens=(),
    trusted_until=None,
)


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return lambda case: on_ledger(tmp_path, case)


def exported(number: int) -> EvidenceExported:
    return replace(TELLING, quote_sha256=number.to_bytes(32, "big"))


def refuse(_: sa.Connection) -> Decided[None]:
    raise OutOfOrder("no")


def no_disk(*_: object) -> None:
    raise Unavailable("no disk")


# Decisions that wait together


def test_decisions_that_wait_together_share_one_transaction(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await asyncio.gather(*(bench.tell(exported(number)) for number in range(200)))
        assert bench.store.writes == 1
        assert len(bench.kinds()) == 200

    play(case)


def test_more_decisions_than_one_transaction_takes_are_all_recorded(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await asyncio.gather(*(bench.tell(exported(number)) for number in range(600)))
        assert bench.store.writes == 3
        assert len(bench.kinds()) == 600

    play(case)


def test_an_act_is_not_dated_after_its_decision(play: Play) -> None:
    """Approvals are decided again at the time of the act, and must not have ended between decision and record."""

    async def case(bench: Bench) -> None:
        def decide(_: sa.Connection) -> Decided[None]:
            bench.steady += 60
            return Decided(None, (TELLING,))

        (recorded,) = (await bench.ledger.commit("person/kim", decide)).recorded
        assert recorded.entry.at == AT

    play(case)


def test_acts_are_folded_in_the_order_in_which_they_were_written(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await asyncio.gather(*(bench.tell(exported(number)) for number in range(300)))
        await asyncio.gather(*(bench.tell(exported(number)) for number in range(300, 350)))
        written = [salt for (salt,) in bench.rows("SELECT salt FROM acts ORDER BY id")]
        assert [recorded.entry.salt for recorded in bench.diary.folded] == written
        assert [recorded.entry.act for recorded in bench.diary.folded] == [exported(number) for number in range(350)]

    play(case)


@pytest.mark.parametrize("error", [OutOfOrder("no"), ValueError("a fault"), KeyError("a fault")], ids=repr)
def test_a_decision_that_refuses_or_fails_does_not_touch_the_others(play: Play, error: Exception) -> None:
    async def case(bench: Bench) -> None:
        def fail(connection: sa.Connection) -> Decided[None]:
            save_labels(connection, NODE, {"rack": "wrong"})
            raise error

        first, failed, last = await asyncio.gather(
            bench.tell(exported(1)), bench.ledger.commit("x", fail), bench.tell(exported(2)), return_exceptions=True
        )
        assert failed is error
        assert isinstance(first, Committed)
        assert isinstance(last, Committed)
        assert bench.store.writes == 1
        assert bench.kinds() == ["node.evidence-exported"] * 2
        assert bench.rows("SELECT labels FROM nodes") == [("{}",)]

    play(case)


def test_acts_of_a_decision_whose_last_act_fails_leave_nothing(play: Play) -> None:
    async def case(bench: Bench) -> None:
        too_long = replace(TELLING, codes=("x" * 5000,))
        with pytest.raises(MalformedInput, match="a body of"):
            await bench.ledger.commit("x", lambda _: Decided(None, (TELLING, too_long), (document_of(b"document"),)))
        assert (bench.kinds(), bench.rows("SELECT * FROM documents"), bench.rows("SELECT * FROM versions")) == (
            [],
            [],
            [],
        )
        assert bench.diary.events == []

    play(case)


@pytest.mark.parametrize(
    "error",
    [
        sa.exc.OperationalError("x", None, sqlite3.OperationalError("disk I/O error")),
        sa.exc.DatabaseError("x", None, sqlite3.DatabaseError("database disk image is malformed")),
    ],
    ids=["the disk", "the file"],
)
def test_a_failure_of_the_store_itself_fails_all_and_leaves_nothing(play: Play, error: Exception) -> None:
    async def case(bench: Bench) -> None:
        def locked(_: sa.Connection) -> Decided[None]:
            raise error

        outcomes = await asyncio.gather(
            bench.tell(exported(1)), bench.ledger.commit("x", locked), bench.tell(exported(2)), return_exceptions=True
        )
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes), outcomes
        assert bench.kinds() == []
        assert bench.diary.events == []
        await bench.tell()
        assert bench.kinds() == ["node.evidence-exported"]

    play(case)


@pytest.mark.parametrize("free", [None, 0], ids=["no disk", "a full disk"])
@pytest.mark.timeout(30)
def test_every_decision_is_answered_when_the_store_fails_however_many_wait(play: Play, free: int | None) -> None:
    async def case(bench: Bench) -> None:
        bench.store.gone, bench.store.free = free is None, free
        many = [bench.tell(exported(number)) for number in range(600)]
        outcomes = await asyncio.wait_for(asyncio.gather(*many, return_exceptions=True), 10)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        bench.store.gone, bench.store.free = False, None
        await bench.tell()
        assert len(bench.kinds()) == 1

    play(case)


def test_a_decision_that_comes_while_a_restriction_is_tried_again_is_answered(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.store.gone = True
        with pytest.raises(NotRecorded):
            await bench.quarantine()
        bench.store.gone = False
        bench.ledger.wake()
        await asyncio.sleep(0)  # the transaction with the restriction has begun
        await asyncio.wait_for(bench.tell(), 10)
        assert bench.kinds() == ["node.quarantined", "node.evidence-exported"]

    play(case)


def test_a_decision_whose_caller_has_gone_takes_effect(play: Play) -> None:
    async def case(bench: Bench) -> None:
        caller = asyncio.create_task(bench.tell())
        await asyncio.sleep(0)
        caller.cancel()
        await bench.ledger.settle()
        assert bench.diary.events == ["fold node.evidence-exported"]

    play(case)


def test_a_decision_that_changes_nothing_records_nothing(play: Play) -> None:
    async def case(bench: Bench) -> None:
        committed = await bench.ledger.commit("x", lambda _: Decided(7))
        assert (committed.result, committed.recorded, committed.size) == (7, (), 0)
        assert bench.kinds() == []

    play(case)


def test_nobody_acts_on_a_ledger_that_nobody_follows(play: Play) -> None:
    async def case(bench: Bench) -> None:
        journal = Journal(bench.folder / "other")
        lonely = Ledger(bench.store, bench.ledger._mac_key, journal, bench.ledger.clock, NoTree())
        with pytest.raises(RuntimeError):
            await lonely.restrict(quarantine_of())

    play(case)


# Restrictions


def test_a_restriction_is_in_force_before_anything_is_written(play: Play) -> None:
    async def case(bench: Bench) -> None:
        asking = asyncio.create_task(bench.quarantine())
        await asyncio.sleep(0)
        assert bench.diary.events == ["in force node.quarantined"]
        assert bench.kinds() == []
        await asking
        assert bench.diary.events == ["in force node.quarantined", "fold node.quarantined", "lift node.quarantined"]
        await bench.ledger.settle()
        assert (bench.kinds(), bench.journal_files()) == (["node.quarantined"], [])

    play(case)


def test_a_restriction_is_in_the_journal_before_it_is_recorded(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(bench: Bench) -> None:
        def watched(journal: Journal, restriction: Restriction) -> None:
            write(journal, restriction)
            seen.append(bench.kinds())

        monkeypatch.setattr(Journal, "write", watched)
        await bench.quarantine()

    write, seen = Journal.write, list[list[str]]()
    play(case)
    assert seen == [[]]


def test_restrictions_come_first_in_every_batch(play: Play) -> None:
    async def case(bench: Bench) -> None:
        widening = [asyncio.create_task(bench.tell(exported(number))) for number in range(3)]
        restricting = asyncio.create_task(bench.quarantine())
        await asyncio.gather(*widening, restricting)
        assert bench.kinds() == ["node.quarantined", *["node.evidence-exported"] * 3]
        assert bench.store.writes == 1

    play(case)


def test_nothing_is_recorded_while_a_restriction_waits(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.store.gone = True
        with pytest.raises(NotRecorded, match="a restart of the verifier keeps it") as caught:
            await bench.quarantine()
        assert caught.value.remedy
        for _ in range(3):
            with pytest.raises(Unavailable):
                await bench.tell(ADMITTED)
        assert len(bench.ledger.waiting) == len(bench.diary.in_force) == len(bench.journal_files()) == 1
        bench.store.gone = False
        await bench.tell(ADMITTED)
        assert bench.kinds() == ["node.quarantined", "node.admitted"]
        assert bench.diary.in_force == []
        await bench.ledger.settle()
        assert bench.journal_files() == []

    play(case)


def test_a_restriction_that_no_row_takes_stops_what_would_overtake_it(play: Play) -> None:
    """Not the store fails here but the record of this one restriction: it must not be left behind silently."""

    async def case(bench: Bench) -> None:
        unfit = replace(quarantine_of(), act=NodeQuarantined(node_id=NODE, reason="x" * 501))
        with pytest.raises(NotRecorded, match=r"a restriction cannot be recorded: .*501, at most 500"):
            await bench.ledger.restrict(unfit)
        assert len(bench.diary.in_force) == 1
        with pytest.raises(Unavailable, match="a restriction"):
            await bench.tell(ADMITTED)
        assert bench.kinds() == []
        await bench.quarantine(salt=2)  # other restrictions are recorded
        assert bench.kinds() == ["node.quarantined"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "write", no_disk)
        play(case)


def test_a_restriction_that_was_not_kept_says_so(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(bench: Bench) -> None:
        monkeypatch.setattr(Journal, "write", no_disk)
        bench.store.gone = True
        with pytest.raises(NotRecorded, match="a restart of the verifier would lose it"):
            await bench.quarantine()
        assert len(bench.diary.in_force) == 1
        bench.store.gone = False
        await bench.settle()
        assert bench.kinds() == ["node.quarantined"]

    play(case)


def test_a_restriction_that_finds_nothing_to_restrict_is_lifted(play: Play) -> None:
    async def case(bench: Bench) -> None:
        with pytest.raises(NotFound):
            await bench.quarantine(node_id=OTHER_NODE)
        await bench.tell(NodeRetired(node_id=NODE, reason=""))
        with pytest.raises(OutOfOrder):
            await bench.quarantine()
        await bench.ledger.settle()
        assert (bench.diary.in_force, bench.ledger.waiting, bench.journal_files()) == ([], (), [])
        assert bench.kinds() == ["node.retired"]

    play(case)


def test_what_time_alone_decides_is_not_in_the_journal(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await bench.tell(replace(STALE, state=NodeState.TRUSTED))
        bench.store.gone = True
        with pytest.raises(NotRecorded, match="keeps it"):
            await bench.ledger.restrict(Restriction(act=STALE, actor=VERIFIER, at=AT, salt=bytes(16)))
        assert bench.journal_files() == []
        assert len(bench.diary.in_force) == 1

    play(case)


def test_a_start_finds_restrictions_that_were_not_recorded(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.store.gone = True
        for salt in (1, 2):
            with pytest.raises(NotRecorded):
                await bench.quarantine(salt)
        bench.restart()
        await bench.ledger.resume()  # the store is gone still
        assert bench.diary.events == ["in force node.quarantined"] * 2
        assert len(bench.ledger.waiting) == 2
        bench.store.gone = False
        bench.restart()
        await bench.ledger.resume()
        assert bench.diary.events[:2] == ["in force node.quarantined"] * 2
        assert bench.kinds() == ["node.quarantined"] * 2
        assert not bench.diary.in_force
        assert not bench.ledger.waiting
        await bench.ledger.settle()
        assert bench.journal_files() == []

    play(case)


def test_a_restriction_is_recorded_once_though_its_file_stayed(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await bench.quarantine()
        await bench.ledger.settle()
        Journal(bench.folder / "journal").write(quarantine_of())
        bench.restart()
        await bench.ledger.resume()
        await bench.ledger.settle()
        assert (bench.kinds(), bench.journal_files(), bench.diary.events) == (["node.quarantined"], [], [])

    play(case)


def test_a_restriction_keeps_its_time_and_its_salt(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.store.gone = True
        with pytest.raises(NotRecorded):
            await bench.quarantine(salt=9)
        bench.store.gone, bench.steady = False, 1000.0
        await bench.settle()
        (recorded,) = bench.diary.folded
        assert (recorded.entry.at, recorded.entry.salt, recorded.entry.actor) == (AT, bytes([9]) * 16, "person/kim")

    play(case)


def test_a_restriction_whose_caller_has_gone_is_recorded(play: Play) -> None:
    async def case(bench: Bench) -> None:
        asking = asyncio.create_task(bench.quarantine())
        await asyncio.sleep(0)
        asking.cancel()
        keeping = asyncio.create_task(bench.ledger.keep_recording())
        for _ in range(200):
            await asyncio.sleep(0.05)
            if bench.kinds():
                break
        keeping.cancel()
        assert bench.kinds() == ["node.quarantined"]

    play(case)


def test_a_restriction_whose_caller_has_gone_is_in_the_journal(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may hang up as soon as its bad evidence is sent, while the journal's disk is busy with others."""

    async def case(bench: Bench) -> None:
        def slow(journal: Journal, restriction: Restriction) -> None:
            busy.wait(10)
            write(journal, restriction)

        monkeypatch.setattr(Journal, "write", slow)
        bench.store.gone = True
        asking = [asyncio.create_task(bench.quarantine(salt)) for salt in (1, 2)]
        await asyncio.sleep(0.05)
        asking[1].cancel()
        await asyncio.sleep(0.05)
        busy.set()
        with pytest.raises(NotRecorded):
            await asking[0]
        await bench.ledger.settle()
        assert len(bench.journal_files()) == 2

    busy, write = threading.Event(), Journal.write
    play(case)


def test_recording_is_tried_again_until_the_store_takes_it(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.store.gone = True
        with pytest.raises(NotRecorded):
            await bench.quarantine()
        keeping = asyncio.create_task(bench.ledger.keep_recording())
        bench.store.gone = False
        for _ in range(200):
            await asyncio.sleep(0.05)
            if not bench.ledger.waiting:
                break
        keeping.cancel()
        assert bench.kinds() == ["node.quarantined"]

    play(case)


@pytest.mark.timeout(30)
def test_a_fault_in_a_fold_ends_the_verifier_which_then_starts_from_rows(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(bench: Bench) -> None:
        def fail(*_: object) -> None:
            raise KeyError("no such node")

        monkeypatch.setattr(bench.diary, "fold", fail)
        asking = asyncio.create_task(bench.tell())
        with pytest.raises(RuntimeError, match="memory does not follow the log"):
            await bench.ledger.keep_recording()
        asking.cancel()

    play(case)


# A disk that is nearly full


def test_on_a_nearly_full_disk_only_people_who_restrict_get_through(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.store.free = RESERVED_BYTES - 1
        with pytest.raises(Unavailable, match="64 MiB") as caught:
            await bench.tell()
        assert caught.value.remedy == "make room on that disk"
        with pytest.raises(NotRecorded, match="64 MiB"):
            await bench.quarantine(salt=1, actor=VERIFIER)
        assert bench.kinds() == []
        await bench.quarantine(salt=2)
        assert bench.kinds() == ["node.quarantined"]
        with pytest.raises(Unavailable):
            await bench.tell(ADMITTED)
        bench.store.free = RESERVED_BYTES
        await bench.tell()
        assert bench.kinds() == ["node.quarantined", "node.quarantined", "node.evidence-exported"]

    play(case)


def test_a_disk_that_does_not_say_how_full_it_is_takes_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(bench: Bench) -> None:
        def gone(_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("nodeseal.verifier.store.database.disk_usage", gone)
        with pytest.raises(Unavailable, match="Input/output error"):
            await bench.tell()
        with pytest.raises(NotRecorded, match="Input/output error"):
            await bench.quarantine()
        monkeypatch.undo()
        await bench.settle()
        assert bench.kinds() == ["node.quarantined"]

    play(case)


# Shares


def test_a_node_that_has_used_up_its_share_is_refused_until_it_fills_again(play: Play) -> None:
    async def case(bench: Bench) -> None:
        noise = document_of(b"x" * BYTES_PER_DAY)
        loud = Decided(None, (TELLING,), (noise,))
        await bench.ledger.commit("x", lambda _: loud, share=NODE)
        with pytest.raises(TooManyRequests, match=NODE):
            await bench.tell(share=NODE)
        await bench.tell(share=OTHER_NODE)
        await bench.tell()
        bench.steady += 600
        await bench.tell(share=NODE)

    play(case)


def test_what_a_node_does_to_lose_trust_needs_no_share_and_counts(play: Play) -> None:
    """Or a node that takes turns between bad evidence, whose texts it chooses, and good would fill the disk."""

    async def case(bench: Bench) -> None:
        noise = Finding(id=FindingId.PCR_MISMATCH, expected="x" * 256, seen="y" * 256)
        codes, document = findings_document([replace(noise, where=str(each)) for each in range(64)])
        act = replace(STALE, state=NodeState.UNTRUSTED, codes=codes, findings=document.digest)
        bad = Restriction(act=act, actor=VERIFIER, at=AT, salt=bytes(16), documents=(document,))
        bench.ledger.shares.charge(NODE, BYTES_PER_DAY - 1, bench.steady)
        await bench.ledger.restrict(bad)
        assert bench.kinds() == ["node.judged"]
        bench.steady += 60  # some 700 bytes of a day
        with pytest.raises(TooManyRequests):
            await bench.tell(share=NODE)

    play(case)


def test_a_refused_decision_costs_no_share(play: Play) -> None:
    async def case(bench: Bench) -> None:
        bench.ledger.shares.charge(NODE, BYTES_PER_DAY - 1, bench.steady)
        for _ in range(5):
            with pytest.raises(OutOfOrder):
                await bench.ledger.commit("x", refuse, share=NODE)
        await bench.tell(share=NODE)

    play(case)


def test_a_share_pays_for_envelope_body_and_new_documents(play: Play) -> None:
    async def case(bench: Bench) -> None:
        document = document_of(b"x" * 1000)
        first = await bench.ledger.commit("x", lambda _: Decided(None, (TELLING,), (document,)), share=NODE)
        again = await bench.ledger.commit("x", lambda _: Decided(None, (TELLING,), (document,)), share=NODE)
        ((size,),) = bench.rows("SELECT length(envelope) + length(body) FROM acts WHERE id = 1")
        assert (first.size, again.size) == (size + 1000, size)
        left = BYTES_PER_DAY - first.size - again.size
        bench.ledger.shares.charge(NODE, left - 1, bench.steady)
        bench.ledger.shares.require(NODE, bench.steady)
        bench.ledger.shares.charge(NODE, 1, bench.steady)
        with pytest.raises(TooManyRequests):
            bench.ledger.shares.require(NODE, bench.steady)

    play(case)


# The sequencer


def numbers(bench: Bench) -> list[int | None]:
    return [index for (index,) in bench.rows("SELECT leaf_index FROM acts ORDER BY id")]


def test_the_sequencer_numbers_without_gaps_in_the_order_of_writing(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await asyncio.gather(*(bench.tell() for _ in range(30)))
        assert numbers(bench) == [None] * 30
        await bench.ledger.sequence()
        await bench.tell()
        await bench.ledger.sequence()
        await bench.ledger.sequence()
        assert numbers(bench) == list(range(31))

    play(case)


def test_the_sequencer_numbers_again_and_again_by_itself(play: Play) -> None:
    async def case(bench: Bench) -> None:
        numbering = asyncio.create_task(bench.ledger.keep_sequencing())
        for count in range(1, 4):
            await bench.tell()
            for _ in range(200):
                await asyncio.sleep(0.02)
                if None not in numbers(bench):
                    break
            assert numbers(bench) == list(range(count))
        numbering.cancel()

    play(case)


def test_a_sequencer_that_fails_waits_before_it_says_so_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may be gone for an hour, and an act that somebody inserted stays until a person has looked at it."""

    async def case(bench: Bench) -> None:
        async def fail(_: Ledger) -> None:
            tries.append(bench.steady)
            raise Unavailable("no disk")

        monkeypatch.setattr(Ledger, "sequence", fail)
        monkeypatch.setattr(ledger_module, "_SEQUENCE_SECONDS", 0)
        monkeypatch.setattr(ledger_module, "_RETRY_SECONDS", 3600)
        numbering = asyncio.create_task(bench.ledger.keep_sequencing())
        for _ in range(20):
            await asyncio.sleep(0)
        numbering.cancel()
        monkeypatch.undo()
        assert len(tries) == 1

    tries: list[float] = []
    play(case)


def test_the_sequencer_tries_again_when_the_store_is_back(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await bench.tell()
        bench.store.gone = True
        with pytest.raises(Unavailable):
            await bench.ledger.sequence()
        bench.store.gone = False
        await bench.tell()
        await bench.ledger.sequence()
        assert numbers(bench) == [0, 1]

    play(case)


def copied(bench: Bench, **changes: object) -> None:
    """Insert a copy of the first act, with some columns changed."""
    columns = ("salt", "kind", "actor", "envelope", "body", "mac")
    with closing(sqlite3.connect(bench.path)) as database:
        row = dict(
            zip(columns, database.execute(f"SELECT {', '.join(columns)} FROM acts LIMIT 1").fetchone(), strict=True)  # noqa: S608
        )
        row |= {"salt": bytes([77]) * 16, **changes}
        database.execute(
            f"INSERT INTO acts ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608
            tuple(row.values()),
        )
        database.commit()


INSERTED: dict[str, dict[str, object]] = {
    "a copy with another salt": {},
    "an act without a MAC": {"mac": bytes(32)},
    "a forged body": {"body": b"{}"},
    "another kind in its column": {"kind": "node.admitted"},
}


@pytest.mark.parametrize("changes", INSERTED.values(), ids=INSERTED)
def test_an_inserted_row_stops_all_that_widens_and_is_named(play: Play, changes: dict[str, object]) -> None:
    async def case(bench: Bench) -> None:
        await bench.tell()
        await bench.ledger.sequence()
        copied(bench, **changes)
        await bench.tell()
        with pytest.raises(MalformedInput, match="act 2 ") as caught:
            await bench.ledger.sequence()
        assert "changed by hand" in (caught.value.remedy or "")
        assert numbers(bench) == [0, None, None]
        for _ in range(2):
            with pytest.raises(Unavailable, match="act 2 "):
                await bench.tell()
        await bench.quarantine()
        assert bench.kinds()[-1] == "node.quarantined"
        bench.tamper("DELETE FROM acts WHERE id = 2")  # a person must look at it; nothing heals by itself
        with pytest.raises(Unavailable, match="act 2 "):
            await bench.tell()

    play(case)


@pytest.mark.parametrize("column", ["envelope", "body", "mac", "salt"])
def test_a_flipped_bit_is_found_by_the_sequencer(play: Play, column: str) -> None:
    async def case(bench: Bench) -> None:
        await bench.tell()
        ((raw,),) = bench.rows(f"SELECT {column} FROM acts")  # noqa: S608 - names of our own
        bench.tamper(f"UPDATE acts SET {column} = ?", flipped(raw, len(raw) // 2))  # noqa: S608
        with pytest.raises(MalformedInput, match="act 1 "):
            await bench.ledger.sequence()

    play(case)


def test_closing_numbers_what_is_left_and_survives_a_fault(play: Play) -> None:
    async def case(bench: Bench) -> None:
        await bench.tell()
        await bench.ledger.close()
        assert numbers(bench) == [0]
        bench.restart()
        await bench.tell()
        bench.tamper("UPDATE acts SET actor = 'somebody' WHERE id = 2")
        await bench.ledger.close()
        assert numbers(bench) == [0, None]
        bench.restart()

    play(case)
