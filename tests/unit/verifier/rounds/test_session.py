"""One stream's order of challenges and answers, without gRPC, TPM or database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from nodeseal.appraisal.model import Appraisal
from nodeseal.causes import EndCause
from nodeseal.errors import MalformedInput, OutOfOrder, ProofFailed, Unavailable
from nodeseal.evidence.binding import Channel
from nodeseal.evidence.logs import MAX_LOG_PIECE, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.ids import NodeId
from nodeseal.verifier.clock import SYSTEM
from nodeseal.verifier.fleet.exchange import Asked, RoundOutcome, Verdict
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.rounds import session as session_module
from nodeseal.verifier.rounds.log_collector import MAX_ANSWER, LogBudget
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.rounds.session import Peer, Revoked, Session
from nodeseal.verifier.states import NodeState

CONNECTION = "ipv4:192.0.2.1:5000"
EVIDENCE = Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None)
STRETCH = Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, boot_log=b"stretch ")
VERDICT = Verdict(state=NodeState.UNTRUSTED, trusted_until=None, trusted_for_ms=0, findings=())


class SlowRounds:
    """Asks at once; judges when it is told to."""

    def __init__(
        self, interval_seconds: int, answer_within_seconds: float = 60, complete_within_seconds: float = 60
    ) -> None:
        self.clock = SYSTEM
        self.settings = SimpleNamespace(
            interval_seconds=interval_seconds,
            answer_within_seconds=answer_within_seconds,
            complete_within_seconds=complete_within_seconds,
        )
        self.budget = LogBudget(MAX_ANSWER)
        self.judging = asyncio.Event()
        self.asked = 0
        self.judged: list[Evidence] = []
        self.again = self.authentic = False

    def ask(self, *_: object, whole: bool = False, banks: tuple[int, ...] = ()) -> Asked:  # noqa: ARG002 - as Rounds.ask
        self.asked += 1
        return cast("Asked", SimpleNamespace(at=SYSTEM.steady(), whole=whole))

    async def conclude(self, _node: Node, evidence: Evidence, *_: object) -> RoundOutcome:
        self.judged.append(evidence)
        await self.judging.wait()
        appraisal = cast("Appraisal", SimpleNamespace(claims=None)) if self.authentic else None
        return RoundOutcome(verdict=VERDICT, appraisal=appraisal, again=self.again)


def a_session(
    rounds: SlowRounds,
    valid_for: timedelta = timedelta(days=1),
    cancel: Callable[[], object] = lambda: None,
    settle: Callable[[], object] = lambda: None,
) -> Session:
    node = cast("Node", SimpleNamespace(stream=None, state=NodeState.TRUSTED))
    channel = Channel(trust_domain="x", node_id=NodeId("n-" + "a" * 26), certificate_sha256=bytes(32))
    peer = Peer(channel=channel, not_after=datetime.now(UTC) + valid_for, connection=CONNECTION)
    return Session(node, peer, cast("Rounds", rounds), cancel, settle)


async def _challenged_while_judging(interval_seconds: int) -> tuple[int, bool]:
    """Return how many challenges went out, and whether the verdict did, when one was wanted during a judgement."""
    rounds = SlowRounds(interval_seconds)
    session = a_session(rounds)
    await session.instruction()
    answer = asyncio.create_task(session.answer(EVIDENCE))
    await asyncio.sleep(0)
    session.challenge_now()
    await session.instruction()
    rounds.judging.set()
    await answer
    last = await asyncio.wait_for(session.instruction(), 5)
    assert last is not None
    session.detach()
    return rounds.asked, last.verdict is VERDICT and last.asked is None


def test_a_challenge_that_went_out_while_an_answer_was_judged_is_not_followed_by_another() -> None:
    for interval_seconds in (0, 30):
        assert asyncio.run(_challenged_while_judging(interval_seconds)) == (2, True)


def test_an_answer_that_came_in_time_is_not_late_because_its_judgement_takes_long() -> None:
    async def case() -> None:
        rounds = SlowRounds(30, answer_within_seconds=0.01)
        session = a_session(rounds)
        await session.instruction()
        answer = asyncio.create_task(session.answer(EVIDENCE))
        await asyncio.sleep(0.05)
        assert session.failure is None
        rounds.judging.set()
        await answer
        session.detach()

    asyncio.run(case())


def test_silence_past_the_deadline_ends_the_stream() -> None:
    async def case() -> None:
        session = a_session(SlowRounds(30, answer_within_seconds=0.01))
        await session.instruction()
        assert await asyncio.wait_for(session.instruction(), 5) is None
        assert "quote.nonce" in str(session.failure)
        session.detach()

    asyncio.run(case())


def test_evidence_while_no_challenge_is_open_is_refused() -> None:
    async def case() -> None:
        session = a_session(SlowRounds(30))
        with pytest.raises(ProofFailed, match=r"quote\.nonce"):
            await session.answer(EVIDENCE)
        session.detach()

    asyncio.run(case())


def test_a_stream_ends_with_the_certificate_that_opened_it() -> None:
    async def case() -> None:
        session = a_session(SlowRounds(30), valid_for=timedelta(seconds=-1))
        first = await session.instruction()
        assert first is not None
        assert first.asked is None
        assert await session.instruction() is None
        assert "tls.certificate" in str(session.failure)
        session.detach()

    asyncio.run(case())


def test_d01_a_closed_stream_that_nobody_reads_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "DRAIN_SECONDS", 0.01)

    async def case() -> None:
        cancelled = asyncio.Event()
        session = a_session(SlowRounds(30), cancel=cancelled.set)
        await session.instruction()
        session.revoke((), EndCause.REVOCATION, "key revoked")  # waits, and is never taken
        session.close(OutOfOrder("enough"))
        await asyncio.wait_for(cancelled.wait(), 20)
        session.detach()

    asyncio.run(case())


def test_e12_a_stream_keeps_its_place_and_the_nodes_only_when_the_tpm_has_answered() -> None:
    async def case() -> None:
        rounds, settled = SlowRounds(30), list[bool]()
        session = a_session(rounds, settle=lambda: settled.append(True))
        rounds.judging.set()
        await session.instruction()
        await session.answer(EVIDENCE)
        assert (session.proved_on, settled) == ("", [])
        rounds.authentic = True
        session.challenge_now()
        await session.instruction()
        await session.answer(EVIDENCE)
        assert (session.proved_on, settled) == (CONNECTION, [True])
        session.detach()

    asyncio.run(case())


def test_what_is_waiting_is_sent_before_a_stream_ends() -> None:
    async def case() -> None:
        session = a_session(SlowRounds(30))
        await session.instruction()
        session.revoke((), EndCause.REVOCATION, "key revoked")
        session.close(OutOfOrder("enough"))
        last = await session.instruction()
        assert last is not None
        assert last.revoked == Revoked((), EndCause.REVOCATION, "key revoked")
        assert last.asked is None
        assert await session.instruction() is None
        session.detach()

    asyncio.run(case())


def test_stretches_of_logs_are_judged_with_the_quote_that_ends_them_and_then_forgotten() -> None:
    async def case() -> None:
        rounds = SlowRounds(30)
        rounds.judging.set()
        session = a_session(rounds)
        await session.instruction()
        for _ in range(3):
            await session.answer(STRETCH, more=True)
        assert (rounds.judged, rounds.budget.waiting) == ([], 24)
        await session.answer(EVIDENCE)
        assert [each.boot_log for each in rounds.judged] == [b"stretch stretch stretch "]
        assert rounds.budget.waiting == 0
        session.detach()

    asyncio.run(case())


def test_a_stretch_while_no_challenge_is_open_is_refused() -> None:
    async def case() -> None:
        rounds = SlowRounds(30)
        session = a_session(rounds)
        with pytest.raises(ProofFailed, match=r"quote\.nonce"):
            await session.answer(STRETCH, more=True)
        assert rounds.budget.waiting == 0
        session.detach()

    asyncio.run(case())


def test_an_answer_that_has_begun_has_longer_to_be_complete_and_not_for_ever() -> None:
    async def case() -> None:
        rounds = SlowRounds(30, answer_within_seconds=0.05, complete_within_seconds=0.3)
        session = a_session(rounds)
        await session.instruction()
        await session.answer(STRETCH, more=True)
        await asyncio.sleep(0.15)
        assert session.failure is None
        await session.answer(STRETCH, more=True)
        assert await asyncio.wait_for(session.instruction(), 5) is None
        assert "no answer within 0.3 seconds" in str(session.failure)
        session.detach()
        assert rounds.budget.waiting == 0

    asyncio.run(case())


@pytest.mark.parametrize(
    "piece",
    [
        Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, boot_log=bytes(MAX_LOG_PIECE + 1)),
        Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, ima=ImaDelta(offset=7, entries=b"x")),
        EVIDENCE,
    ],
    ids=["too large", "does not follow on", "no log"],
)
def test_a_stretch_out_of_bounds_is_refused_and_what_was_collected_is_forgotten(piece: Evidence) -> None:
    async def case() -> None:
        rounds = SlowRounds(30)
        session = a_session(rounds)
        await session.instruction()
        await session.answer(_ima_stretch(), more=True)
        with pytest.raises(MalformedInput):
            await session.answer(piece, more=True)
        session.detach()
        assert rounds.budget.waiting == 0

    asyncio.run(case())


def _ima_stretch() -> Evidence:
    ima = ImaDelta(offset=0, entries=b"entry")
    return Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, ima=ima)


def test_a_node_that_never_delivers_what_is_asked_for_at_once_waits_its_turn() -> None:
    async def case() -> None:
        rounds = SlowRounds(3600)
        rounds.again = True
        rounds.judging.set()
        session = a_session(rounds)
        for _ in range(4):
            await session.instruction()
            await session.answer(EVIDENCE)
        last = await session.instruction()
        assert last is not None
        assert (last.asked, rounds.asked) == (None, 4)
        session.detach()

    asyncio.run(case())


BANKS = Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, banks=(0x000B,))


@pytest.mark.parametrize("gave_up", [False, True], ids=["a person waits", "the person gave up"])
def test_q12_a_node_that_only_names_banks_is_not_asked_without_end_because_of_a_person(
    gave_up: bool,  # noqa: FBT001 - a case
) -> None:
    async def case() -> None:
        rounds = SlowRounds(3600)
        rounds.again = True
        rounds.judging.set()
        session = a_session(rounds)
        waiting = asyncio.create_task(session.whole_evidence())
        await asyncio.sleep(0)
        await session.instruction()
        if gave_up:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        for _ in range(4):
            await session.answer(BANKS)
            last = await session.instruction()
        assert last is not None
        assert (last.asked, rounds.asked) == (None, 4)
        if not gave_up:
            assert (await asyncio.wait_for(waiting, 5)).evidence is BANKS
        session.detach()

    asyncio.run(case())


def test_a_person_who_gave_up_hurries_no_node() -> None:
    async def case() -> None:
        rounds = SlowRounds(3600)
        rounds.again = True
        rounds.judging.set()
        session = a_session(rounds)
        waiting = asyncio.create_task(session.whole_evidence())
        await asyncio.sleep(0)
        await session.instruction()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await session.answer(BANKS)
        last = await session.instruction()
        assert last is not None
        assert last.asked is not None
        assert not last.asked.whole
        session.detach()

    asyncio.run(case())


def test_whole_evidence_is_asked_for_at_once_and_given_to_all_who_wait() -> None:
    async def case() -> None:
        rounds = SlowRounds(3600)
        rounds.judging.set()
        session = a_session(rounds)
        first = await session.instruction()
        assert first is not None
        assert first.asked is not None
        assert not first.asked.whole
        waiting = [asyncio.create_task(session.whole_evidence()) for _ in range(2)]
        await asyncio.sleep(0)
        await session.answer(EVIDENCE)  # to the challenge that was open
        second = await session.instruction()
        assert second is not None
        assert second.asked is not None
        assert second.asked.whole
        assert not any(task.done() for task in waiting)
        late = asyncio.create_task(session.whole_evidence())
        await asyncio.sleep(0)
        await session.answer(STRETCH, more=True)
        await session.answer(EVIDENCE)
        for task in waiting:
            answered = await task
            assert (answered.asked, answered.evidence.boot_log) == (second.asked, STRETCH.boot_log)
        assert not late.done()  # it was asked for after this challenge went out
        third = await session.instruction()
        assert third is not None
        assert third.asked is not None
        assert third.asked.whole
        session.detach()
        with pytest.raises(Unavailable, match="the node has gone"):
            await late

    asyncio.run(case())


def test_who_waits_for_evidence_is_told_why_the_stream_ended_or_the_answer_was_not_taken() -> None:
    async def case() -> None:
        session = a_session(SlowRounds(3600, answer_within_seconds=0.01))
        waiting = asyncio.create_task(session.whole_evidence())
        await asyncio.sleep(0)
        await session.instruction()
        assert await asyncio.wait_for(session.instruction(), 5) is None
        session.detach()
        with pytest.raises(ProofFailed, match=r"quote\.nonce"):
            await waiting
        rounds = RefusingRounds(3600)
        session = a_session(rounds)
        waiting = asyncio.create_task(session.whole_evidence())
        await asyncio.sleep(0)
        await session.instruction()
        with pytest.raises(Unavailable):
            await session.answer(EVIDENCE)
        with pytest.raises(Unavailable, match="no disk"):
            await waiting
        session.detach()

    asyncio.run(case())


class RefusingRounds(SlowRounds):
    """Cannot record any outcome."""

    async def conclude(self, *_: object) -> RoundOutcome:
        raise Unavailable("store: no disk")


def test_nobody_waits_for_evidence_any_more_when_it_comes() -> None:
    async def case() -> None:
        rounds = SlowRounds(3600)
        rounds.judging.set()
        session = a_session(rounds)
        waiting = asyncio.create_task(session.whole_evidence())
        await asyncio.sleep(0)
        await session.instruction()
        waiting.cancel()
        await asyncio.sleep(0)
        await session.answer(EVIDENCE)
        session.detach()
        assert waiting.cancelled()

    asyncio.run(case())
