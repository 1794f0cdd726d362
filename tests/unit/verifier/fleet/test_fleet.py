"""The fleet with clocks and a store that tests stop: what restricts holds at once, what widens is recorded first."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from nodeseal.appraisal.appraise import appraise
from nodeseal.appraisal.model import Appraisal
from nodeseal.causes import EndCause
from nodeseal.errors import MalformedInput, ProofFailed, TooManyRequests, Unavailable
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ids import Digest, KeyId, LeaseId, ModelId, NodeId
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.config import AttestationSettings
from nodeseal.verifier.fleet.admin import NodeAdmin
from nodeseal.verifier.fleet.exchange import Asked, RoundOutcome
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import EvidenceExported, ModelRetired, NodeAdmitted
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.limits import Turns
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import Store, made_engine
from nodeseal.verifier.store.leases import LeaseRecord, add_lease
from nodeseal.verifier.store.migrate import migrate
from nodeseal.verifier.store.nodes import NodeFacts, NodeRecord, NodeStanding, put_node
from nodeseal.verifier.store.policy import KeyRecord, ModelRecord, add_key, add_model, find_key
from nodeseal.verifier.trust.goldens import Goldens
from support.ledgers import NoTree
from support.log import read_log
from support.mandates import KIM

T = TypeVar("T")
SELECTION = PcrSelection.of({HashAlg.SHA256: [*range(10), 15, 23]})
SETTINGS = AttestationSettings(interval_seconds=30, trust_seconds=120, answer_within_seconds=15, selection=SELECTION)
CHANGED = {HashAlg.SHA256: hashlib.sha256(b"something else").digest()}
LEASE = LeaseId("l-" + "a" * 26)
KEY = KeyRecord(
    key_id=KeyId("k"), version=1, suite="x", public=b"p", created=datetime(2026, 1, 1, tzinfo=UTC), place="file"
)
MODEL = ModelRecord(
    digest=Digest("0" * 64),
    model_id=ModelId("m"),
    version=1,
    size=1,
    files=1,
    content=b"{}",
    registered=datetime(2026, 1, 1, tzinfo=UTC),
)
ACT = EvidenceExported(node_id=NodeId("n-" + "a" * 26), quote_sha256=bytes(32), codes=(), findings=Digest(""))


class FlakyStore(Store):
    """A store whose disk a test can take away; counts what was written."""

    gone = False
    writes = 0

    async def write(self, change: Callable[[sa.Connection], T]) -> T:
        if self.gone:
            raise Unavailable("store: no disk")
        self.writes += 1
        return await super().write(change)


class Times:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.steady = 1000.0

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.steady += seconds

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now, steady=lambda: self.steady)


@dataclass(frozen=True)
class Scene:
    """A fleet with one admitted node that no round has judged yet."""

    store: FlakyStore
    times: Times
    fleet: Fleet
    rounds: Rounds
    tpm: SyntheticTpm
    path: Path

    @property
    def node(self) -> Node:
        (node,) = self.fleet
        return node

    def ask(self) -> Asked:
        channel = Channel(trust_domain="x", node_id=self.node.record.node_id, certificate_sha256=bytes(32))
        return self.rounds.ask(self.node, Purpose.ATTEST, channel)

    def evidence(self, asked: Asked, leases: tuple[LeaseId, ...] = (), boot_id: str = "boot") -> Evidence:
        claims = encode_claims(Claims(boot_id=boot_id, kernel="k", agent_version="1", leases=leases))
        challenge = asked.challenge
        binding = qualifying_data(challenge.purpose, challenge.nonce, challenge.channel, claims)
        quote = self.tpm.quote(binding, SELECTION)
        values = self.tpm.read_pcrs(SELECTION)
        return Evidence(claims=claims, attest=quote.attest, signature=quote.signature, pcr_values=values)

    async def round(self, leases: tuple[LeaseId, ...] = (), boot_id: str = "boot") -> RoundOutcome:
        asked = self.ask()
        self.times.pass_seconds(1)
        return await self.rounds.conclude(self.node, self.evidence(asked, leases, boot_id), asked)

    def actions(self) -> list[str]:
        return [act.plain["details"].get("state", "-") for act in read_log(self.path)]

    async def lend(self) -> None:
        """Give the node a lease, as if it had got it yesterday."""
        at = self.times.now - timedelta(days=1)
        lease = LeaseRecord(
            lease_id=LEASE, node_id=self.node.record.node_id, key_id=KEY.key_id, model_digest=MODEL.digest, issued=at
        )

        def work(connection: sa.Connection) -> None:
            if find_key(connection, KEY.key_id) is None:
                add_key(connection, KEY)
                add_model(connection, MODEL)
            add_lease(connection, lease)

        await self.store.write(work)
        self.node.leases[LEASE] = lease

    def use_golden(self, golden: Golden) -> None:
        """Hold nodes against this golden alone."""
        for active in self.fleet.policy.goldens:
            self.fleet.memory.retire(active.digest)
        self.fleet.memory.load_golden(golden, 0)

    async def settle(self) -> None:
        """Let what waits be recorded."""
        self.fleet.ledger.wake()
        await self.fleet.ledger.settle()


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> TpmVendor:
    return TpmVendor.create(tmp_path_factory.mktemp("vendor") / "vendor")


@pytest.fixture
def play(tmp_path: Path, vendor: TpmVendor) -> Callable[[Callable[[Scene], Coroutine[Any, Any, None]]], None]:
    """Run a case with a fresh scene."""

    def run(case: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(_played(tmp_path / "db.sqlite", vendor, case))

    return run


Play = Callable[[Callable[[Scene], Coroutine[Any, Any, None]]], None]


async def _played(path: Path, vendor: TpmVendor, case: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    tpm, times = SyntheticTpm(vendor, milliseconds=lambda: int(times.steady * 1000)), Times()
    for pcr in range(10):
        tpm.extend(pcr, {HashAlg.SHA256: bytes([pcr + 1]) * 32})
    with made_engine(path) as engine:
        migrate(engine)
        with closing(FlakyStore(engine)) as store:
            await _played_on(store, times, tpm, path, case)


async def _played_on(
    store: FlakyStore, times: Times, tpm: SyntheticTpm, path: Path, case: Callable[[Scene], Coroutine[Any, Any, None]]
) -> None:
    record = NodeRecord(
        node_id=NodeId("n-" + "a" * 26),
        ek_name=tpm.ek.name(),
        ak_name=tpm.ak.name(),
        ak_public=tpm.ak.encode(),
        certificate_sha256=bytes(32),
        next_certificate_sha256=None,
        facts=NodeFacts(hostname="h", boot_id="b", tpm_manufacturer="m", tpm_firmware="f"),
        enrolled=times.now,
    )
    await store.write(lambda connection: put_node(connection, record, NodeStanding(state=NodeState.STALE)))
    fleet = await restarted(store, times, tpm, path.parent)
    try:
        await case(Scene(store, times, fleet, Rounds(fleet), tpm, path))
    finally:
        await fleet.ledger.close()


async def restarted(store: Store, times: Times, tpm: SyntheticTpm, folder: Path) -> Fleet:
    """Return a fleet that starts from database and journal, with a golden that the node matches."""
    fleet = Fleet(Ledger(store, MacKey(raw=bytes(32)), Journal(folder / "journal"), times.clock, NoTree()), SETTINGS)
    pcrs = {pcr: frozenset({value}) for pcr, value in zip(range(8), tpm.read_pcrs(SELECTION), strict=False)}
    await fleet.load([Golden(name="g", pcrs={HashAlg.SHA256: pcrs})])
    return fleet


def test_steady_rounds_write_nothing(play: Play) -> None:
    async def case(scene: Scene) -> None:
        assert (await scene.round()).verdict.state is NodeState.TRUSTED
        written = scene.store.writes
        for _ in range(5):
            assert (await scene.round()).verdict.state is NodeState.TRUSTED
        assert scene.store.writes == written

    play(case)


def test_rounds_with_the_same_warning_are_steady_and_need_no_store(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firmware with a known deviation brings its warning with every round."""

    def warned(*args: Any) -> Appraisal:
        return appraise(*args)._replace(findings=tuple(warnings))

    async def case(scene: Scene) -> None:
        monkeypatch.setattr("nodeseal.verifier.rounds.rounds.appraise", warned)
        warnings.append(Finding(id=FindingId.UEFI_QUIRK, expected="a", seen="b" * 1000, where="c"))
        assert (await scene.round()).verdict.state is NodeState.TRUSTED
        scene.store.gone = True
        warnings[:] = [replace(warnings[0], seen="d")]
        until = scene.node.trusted_until_steady
        assert (await scene.round()).verdict.state is NodeState.TRUSTED
        assert scene.node.trusted_until_steady > until
        scene.store.gone = False
        warnings.clear()
        await scene.round()
        assert scene.node.findings == ()

    warnings: list[Finding] = []
    play(case)


def test_a_round_in_a_new_lease_epoch_is_as_steady_as_any_other(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        written = scene.store.writes
        for _ in range(3):
            scene.tpm.begin_epoch()
            outcome = await scene.round((LEASE,))
            assert (outcome.verdict.state, outcome.again) == (NodeState.TRUSTED, False)
        assert (scene.store.writes, list(scene.node.leases)) == (written, [LEASE])

    play(case)


class Hears:
    """The stream of a node that hears of the ends of its leases."""

    def __init__(self) -> None:
        self.heard: list[tuple[tuple[LeaseId, ...], EndCause]] = []

    def revoke(self, leases: tuple[LeaseId, ...], cause: EndCause, _reason: str) -> None:
        self.heard.append((leases, cause))


async def _found_changed(scene: Scene) -> None:
    scene.tpm.extend(4, CHANGED)
    await scene.round((LEASE,))


async def _not_heard_from(scene: Scene) -> None:
    scene.times.pass_seconds(200)
    await scene.fleet.sweep()


async def _quarantined(scene: Scene) -> None:
    await NodeAdmin(scene.fleet).quarantine(scene.node.record.node_id, "odd", "person/kim")


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        pytest.param(_found_changed, EndCause.DISTRUST, id="evidence that speaks against the node"),
        pytest.param(_quarantined, EndCause.DISTRUST, id="a person who quarantines it"),
        pytest.param(_not_heard_from, EndCause.SILENCE, id="no good round in time"),
    ],
)
def test_a_node_hears_why_its_leases_end(
    play: Play, event: Callable[[Scene], Coroutine[Any, Any, None]], cause: EndCause
) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        stream: Any = Hears()
        scene.node.stream = stream
        await event(scene)
        assert stream.heard == [((LEASE,), cause)]

    play(case)


def test_trust_ends_at_its_time_on_the_steady_clock_whatever_the_wall_clock_says(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        scene.times.now -= timedelta(days=1)
        scene.times.steady += 118.9
        await scene.fleet.sweep()
        assert scene.node.trusted(scene.times.steady)
        scene.times.steady += 0.1
        assert not scene.node.trusted(scene.times.steady)  # at once, swept or not
        await scene.fleet.sweep()
        assert scene.node.state is NodeState.STALE
        assert scene.actions()[-1] == "stale"

    play(case)


def test_without_a_store_no_node_becomes_trusted(play: Play) -> None:
    async def case(scene: Scene) -> None:
        scene.store.gone = True
        with pytest.raises(Unavailable):
            await scene.round()
        assert scene.node.state is NodeState.STALE
        assert not scene.node.trusted(scene.times.steady)
        scene.store.gone = False
        assert (await scene.round()).verdict.state is NodeState.TRUSTED

    play(case)


def test_without_a_store_distrust_holds_at_once_and_is_recorded_later(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        scene.store.gone = True
        scene.tpm.extend(4, CHANGED)
        outcome = await scene.round()
        assert (outcome.verdict.state, outcome.verdict.trusted_for_ms) == (NodeState.UNTRUSTED, 0)
        assert not scene.node.trusted(scene.times.steady)
        await scene.settle()
        assert scene.actions()[-1] == "trusted"
        scene.store.gone = False
        await scene.settle()
        assert scene.actions()[-2:] == ["untrusted", "-"]
        assert (scene.node.leases, scene.node.overlay, scene.node.ending) == ({}, (), frozenset())

    play(case)


def test_a_late_answer_speaks_neither_for_nor_against_the_node(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        ends = scene.node.trusted_until_steady
        asked = scene.ask()
        evidence = scene.evidence(asked)
        scene.times.pass_seconds(15.1)
        with pytest.raises(ProofFailed, match=r"quote\.nonce"):
            await scene.rounds.conclude(scene.node, evidence, asked)
        assert (scene.node.state, scene.node.trusted_until_steady) == (NodeState.TRUSTED, ends)

    play(case)


def test_an_answer_that_began_in_time_may_bring_its_logs_until_half_of_the_trust_time(play: Play) -> None:
    async def case(scene: Scene) -> None:
        for seconds, in_time in ((60, True), (60.1, False)):
            asked = scene.ask()
            evidence, began = scene.evidence(asked), scene.times.steady + 15
            scene.times.pass_seconds(seconds)
            if in_time:
                outcome = await scene.rounds.conclude(scene.node, evidence, asked, began)
                assert outcome.verdict.trusted_for_ms == 105_000  # no longer than if it had come at once
                assert scene.node.trusted_until_steady == asked.at + 120
            else:
                with pytest.raises(ProofFailed, match=r"quote\.nonce"):
                    await scene.rounds.conclude(scene.node, evidence, asked, began)

    play(case)


def test_an_answer_that_began_late_is_late(play: Play) -> None:
    async def case(scene: Scene) -> None:
        asked = scene.ask()
        evidence, began = scene.evidence(asked), scene.times.steady + 15.1
        scene.times.pass_seconds(16)
        with pytest.raises(ProofFailed, match=r"quote\.nonce"):
            await scene.rounds.conclude(scene.node, evidence, asked, began)

    play(case)


def test_a_long_log_is_judged_in_a_thread_while_others_go_on(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    started, finish, judged = threading.Event(), threading.Event(), list[bool]()

    def slow(evidence: Evidence, *rest: Any) -> Appraisal:
        judged.append(evidence.boot_log is None)
        if evidence.boot_log is not None:
            started.set()
            assert finish.wait(10)
        return appraise(evidence._replace(boot_log=None), *rest)

    async def case(scene: Scene) -> None:
        monkeypatch.setattr("nodeseal.verifier.rounds.rounds.appraise", slow)
        first = scene.ask()
        long = scene.evidence(first)._replace(boot_log=bytes(64 * 1024))
        long_round = asyncio.create_task(scene.rounds.conclude(scene.node, long, first))
        await asyncio.to_thread(started.wait, 10)
        short_round = asyncio.create_task(scene.round())
        await asyncio.sleep(0.01)
        assert (long_round.done(), short_round.done(), judged) == (False, False, [False])  # one node: in order
        finish.set()
        assert (await long_round).verdict.state is NodeState.TRUSTED
        assert (await short_round).verdict.state is NodeState.TRUSTED
        assert judged == [False, True]

    play(case)


def test_a_node_that_hangs_up_holds_its_logs_until_the_thread_is_done(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, finish = threading.Event(), threading.Event()

    def slow(evidence: Evidence, *rest: Any) -> Appraisal:
        started.set()
        assert finish.wait(10)
        return appraise(evidence._replace(boot_log=None), *rest)

    async def case(scene: Scene) -> None:
        monkeypatch.setattr("nodeseal.verifier.rounds.rounds.appraise", slow)
        asked = scene.ask()
        long = scene.evidence(asked)._replace(boot_log=bytes(64 * 1024))
        task = asyncio.create_task(scene.rounds.conclude(scene.node, long, asked))
        await asyncio.to_thread(started.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scene.node.state is NodeState.STALE

    play(case)


def without_logs(evidence: Evidence, *rest: Any) -> Appraisal:
    """Appraise a round as if it had brought no log."""
    return appraise(evidence._replace(boot_log=None), *rest)


async def long_round(scene: Scene) -> RoundOutcome:
    asked = scene.ask()
    return await scene.rounds.conclude(scene.node, scene.evidence(asked)._replace(boot_log=bytes(16 * 1024)), asked)


def test_long_logs_that_come_too_often_are_refused_and_say_nothing_about_the_node(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(scene: Scene) -> None:
        monkeypatch.setattr("nodeseal.verifier.rounds.rounds.appraise", without_logs)
        regular = 60 // SETTINGS.interval_seconds
        for _ in range(12 + regular):
            assert (await long_round(scene)).verdict.state is NodeState.TRUSTED
        node = scene.node
        before = (node.standing, node.trusted_until_steady, node.refused_at, node.answered)
        with pytest.raises(TooManyRequests, match="too many rounds with long logs of n-") as caught:
            await long_round(scene)
        assert "try again in" in caught.value.remedy
        assert (node.standing, node.trusted_until_steady, node.refused_at, node.answered) == before
        assert (await scene.round()).verdict.state is NodeState.TRUSTED
        scene.times.pass_seconds(60)
        assert (await long_round(scene)).verdict.state is NodeState.TRUSTED

    play(case)


class NotedTurns(Turns):
    """Turns that know who asked for them."""

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.asked = list[tuple[float, int]]()

    async def _wait(self, last: float, size: int) -> None:
        self.asked.append((last, size))
        await super()._wait(last, size)


def test_whoever_waits_for_a_thread_is_known_by_the_time_of_the_last_long_log_and_the_size_of_this_one(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeseal.verifier.rounds.rounds.appraise", without_logs)
    monkeypatch.setattr("nodeseal.verifier.rounds.rounds.Turns", NotedTurns)

    async def case(scene: Scene) -> None:
        await scene.round()
        await long_round(scene)
        first = scene.times.steady
        scene.times.pass_seconds(5)
        await long_round(scene)
        turns = scene.rounds._threads
        assert isinstance(turns, NotedTurns)
        assert turns.asked == [(-math.inf, 16 * 1024), (first, 16 * 1024)]

    play(case)


def test_another_golden_that_matches_alone_is_taken_note_of_by_a_round_that_is_steady_otherwise(play: Play) -> None:
    """Releases ask which goldens matched last."""

    async def case(scene: Scene) -> None:
        await scene.round()
        (golden,) = scene.node.goldens
        scene.use_golden(replace(golden, name="renamed"))
        assert (await scene.round()).verdict.state is NodeState.TRUSTED
        assert [each.name for each in scene.node.goldens] == ["renamed"]

    play(case)


def test_rounds_that_overtake_each_other_are_no_clock_that_ran_backwards(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        first, second = scene.ask(), scene.ask()
        earlier = scene.evidence(first)
        scene.times.pass_seconds(1)
        later = scene.evidence(second)
        assert (await scene.rounds.conclude(scene.node, later, second)).verdict.state is NodeState.TRUSTED
        assert (await scene.rounds.conclude(scene.node, earlier, first)).verdict.state is NodeState.TRUSTED
        assert scene.node.baseline is not None
        assert scene.node.baseline.clock_info.clock == scene.tpm.clock_info().clock

    play(case)


def test_a_node_whose_trust_ran_out_a_moment_ago_is_stale_and_not_distrusted(play: Play) -> None:
    """Leases that survive silence would end if the verdict were distrust."""

    async def case(scene: Scene) -> None:
        first, second = scene.ask(), scene.ask()
        earlier = scene.evidence(first)
        scene.times.pass_seconds(1)
        await scene.rounds.conclude(scene.node, scene.evidence(second), second)
        scene.node.trusted_until_steady = scene.times.steady
        verdict = (await scene.rounds.conclude(scene.node, earlier, first)).verdict
        assert (verdict.state, verdict.trusted_for_ms) == (NodeState.STALE, 0)

    play(case)


@pytest.mark.parametrize("store_gone", [False, True], ids=["recorded", "not-yet-recorded"])
def test_a_good_quote_that_was_held_back_brings_no_trust_back(play: Play, *, store_gone: bool) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        first, second = scene.ask(), scene.ask()
        held_back = scene.evidence(first)
        scene.times.pass_seconds(1)
        scene.tpm.extend(0, CHANGED)
        scene.store.gone = store_gone
        await scene.rounds.conclude(scene.node, scene.evidence(second), second)
        outcome = await scene.rounds.conclude(scene.node, held_back, first)
        assert outcome.appraisal is not None
        assert outcome.appraisal.trusted
        assert not outcome.verdict.trusted_for_ms
        assert not scene.node.trusted(scene.times.steady)
        scene.store.gone = False
        await scene.settle()
        assert scene.node.state is NodeState.UNTRUSTED

    play(case)


@pytest.mark.parametrize("resets", [8, 6], ids=["more-resets", "fewer-resets"])
def test_a_quote_of_the_boot_before_that_was_held_back_changes_nothing(play: Play, resets: int) -> None:
    async def case(scene: Scene) -> None:
        scene.tpm._reset_count = 7
        await scene.round()
        first, second = scene.ask(), scene.ask()
        held_back = scene.evidence(first)
        scene.times.pass_seconds(1)
        scene.tpm._reset_count = resets
        outcome = await scene.rounds.conclude(scene.node, scene.evidence(second, boot_id="another boot"), second)
        assert outcome.verdict.state is NodeState.TRUSTED
        await scene.lend()
        await scene.rounds.conclude(scene.node, held_back, first)
        assert scene.node.leases.keys() == {LEASE}
        assert scene.node.baseline is not None
        assert scene.node.baseline.clock_info.reset_count == resets

    play(case)


def test_a_good_quote_from_before_a_reset_of_the_tpm_brings_no_trust_back(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        first, second = scene.ask(), scene.ask()
        held_back = scene.evidence(first)
        scene.times.pass_seconds(1)
        scene.tpm.reset()
        await scene.rounds.conclude(scene.node, scene.evidence(second), second)
        await scene.rounds.conclude(scene.node, held_back, first)
        assert scene.node.state is NodeState.UNTRUSTED

    play(case)


def test_a_good_answer_brings_no_trust_back_after_one_that_was_not_authentic(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        first, second = scene.ask(), scene.ask()
        held_back = scene.evidence(first)
        scene.times.pass_seconds(1)
        await scene.rounds.conclude(scene.node, held_back, second)
        assert (await scene.rounds.conclude(scene.node, held_back, first)).verdict.state is NodeState.UNTRUSTED
        assert (await scene.round()).verdict.state is NodeState.TRUSTED

    play(case)


def test_a_reset_of_the_tpm_ends_the_leases_of_a_trusted_node(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        before = dict(zip(range(10), scene.tpm.read_pcrs(SELECTION), strict=False))
        scene.tpm.reset()
        for pcr in range(10):
            scene.tpm.extend(pcr, {HashAlg.SHA256: bytes([pcr + 1]) * 32})
        assert dict(zip(range(10), scene.tpm.read_pcrs(SELECTION), strict=False)) == before
        outcome = await scene.round(leases=(LEASE,))
        assert outcome.verdict.state is not NodeState.TRUSTED  # it claims the same boot
        assert scene.node.leases == {}
        assert outcome.unknown == (LEASE,)

    play(case)


def test_an_honest_reboot_keeps_trust_and_ends_leases(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        scene.tpm.reset()
        for pcr in range(10):
            scene.tpm.extend(pcr, {HashAlg.SHA256: bytes([pcr + 1]) * 32})
        outcome = await scene.round(leases=(LEASE,), boot_id="another boot")
        assert outcome.verdict.state is NodeState.TRUSTED
        assert outcome.unknown == (LEASE,)
        assert scene.node.leases == {}

    play(case)


def test_a_lease_that_the_node_stopped_claiming_ends(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        assert (await scene.round(leases=(LEASE,))).unknown == ()
        assert LEASE in scene.node.leases
        await scene.round()
        assert scene.node.leases == {}

    play(case)


def test_without_a_store_a_node_that_gave_a_lease_up_stays_trusted(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        await scene.round(leases=(LEASE,))
        scene.store.gone = True
        until = scene.node.trusted_until_steady
        assert (await scene.round()).verdict.state is NodeState.TRUSTED
        assert scene.node.trusted_until_steady > until
        assert LEASE in scene.node.leases
        scene.store.gone = False
        await scene.round()
        assert not scene.node.leases

    play(case)


@pytest.mark.parametrize("retired", [True, False])
def test_leases_of_a_model_that_an_older_release_retired_end_at_the_start(play: Play, *, retired: bool) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.lend()
        act = ModelRetired(digest=MODEL.digest, model_id=MODEL.model_id, model_version=1, reason="old")
        if retired:
            await scene.fleet.ledger.commit("person/kim", lambda _: Decided(None, (act,)))
        await scene.fleet.sweep_retired()
        assert (LEASE in scene.node.leases) is not retired
        ends = [record.plain for record in read_log(scene.path) if record.plain["action"] == "lease.ended"]
        assert [end["details"]["cause"] for end in ends] == (["revocation"] if retired else [])

    play(case)


def test_a_restarted_fleet_trusts_for_what_is_left_and_no_longer_than_a_round(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.fleet.flush()
        scene.times.pass_seconds(100)
        (node,) = await restarted(scene.store, scene.times, scene.tpm, scene.path.parent)
        assert node.trusted(scene.times.steady)
        assert node.trusted_until_steady - scene.times.steady == pytest.approx(19)
        scene.times.now -= timedelta(days=1)
        (node,) = await restarted(scene.store, scene.times, scene.tpm, scene.path.parent)
        assert node.trusted_until_steady - scene.times.steady == pytest.approx(120)

    play(case)


def test_clocks_that_could_not_be_stored_are_stored_later(play: Play) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.fleet.flush()
        await scene.round()
        scene.store.gone = True
        with pytest.raises(Unavailable):
            await scene.fleet.flush()
        scene.store.gone = False
        await scene.fleet.flush()
        (node,) = await restarted(scene.store, scene.times, scene.tpm, scene.path.parent)
        assert node.baseline is not None
        assert node.baseline.clock_info == scene.tpm.clock_info()

    play(case)


def test_clocks_that_a_cancelled_flush_took_along_are_stored_later(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(scene: Scene) -> None:
        await scene.round()
        await scene.round()
        with monkeypatch.context() as patch:
            patch.setattr(FlakyStore, "write", lambda *_: asyncio.Event().wait())
            flushing = asyncio.create_task(scene.fleet.flush())
            await asyncio.sleep(0)
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
        await scene.fleet.flush()
        (node,) = await restarted(scene.store, scene.times, scene.tpm, scene.path.parent)
        assert node.baseline is not None
        assert node.baseline.clock_info == scene.tpm.clock_info()

    play(case)


def test_a_decision_of_a_person_is_not_undone_by_a_round_that_was_under_way(play: Play) -> None:
    async def case(scene: Scene) -> None:
        admin = NodeAdmin(scene.fleet)
        quarantined, _ = await asyncio.gather(
            admin.quarantine(scene.node.record.node_id, "odd", "person/kim"), scene.round()
        )
        assert quarantined.state is NodeState.QUARANTINED
        assert scene.node.state is NodeState.QUARANTINED
        assert (await scene.round()).verdict.state is NodeState.QUARANTINED

    play(case)


def test_labels_are_recorded_merged_and_judged_from_the_next_answer_on(play: Play) -> None:
    async def case(scene: Scene) -> None:
        admin, node_id = NodeAdmin(scene.fleet), scene.node.record.node_id
        asked = scene.ask()
        await admin.label(node_id, {"rack": "a", "role": "gpu"}, KIM)
        await admin.label(node_id, {"rack": "b", "role": ""}, KIM)
        assert dict(scene.node.record.labels) == {"rack": "b"}
        assert scene.node.known.labels == {"rack": "b"}
        (after,) = await restarted(scene.store, scene.times, scene.tpm, scene.path.parent)
        assert after.record == scene.node.record
        golden = replace(scene.fleet.policy.goldens[0], nodes={"rack": "b"})
        scene.use_golden(golden)
        outcome = await scene.rounds.conclude(scene.node, scene.evidence(asked), asked)
        assert outcome.verdict.state is NodeState.TRUSTED  # although it was asked before it had the label

    play(case)


@pytest.mark.parametrize("changes", [{"Rack": "a"}, {"rack": "a b"}, {"": ""}, {f"k{n}": "v" for n in range(65)}])
def test_labels_that_are_no_names_or_too_many_change_nothing(play: Play, changes: dict[str, str]) -> None:
    async def case(scene: Scene) -> None:
        with pytest.raises(MalformedInput):
            await NodeAdmin(scene.fleet).label(scene.node.record.node_id, changes, KIM)
        assert (dict(scene.node.record.labels), read_log(scene.path)) == ({}, [])

    play(case)


def test_a_golden_that_judges_what_is_not_quoted_is_refused_with_a_remedy(play: Play) -> None:
    async def case(scene: Scene) -> None:
        values = {4: frozenset({bytes(32)})}
        runtime = RuntimeRules(files={"/usr/bin/agent": (FileDigest(digest=bytes(32)),)})
        for golden, missing in (
            (Golden(name="h", pcrs={HashAlg.SHA256: {**values, 12: frozenset({bytes(32)})}}), "not quoted: sha256:12"),
            (Golden(name="h", pcrs={HashAlg.SHA256: values}, runtime=runtime), "not quoted: 10"),
        ):
            with pytest.raises(MalformedInput, match=missing) as caught:
                await Goldens(scene.fleet).activate(dump_golden(golden), KIM)
            assert "attestation.pcrs" in caught.value.remedy
        await Goldens(scene.fleet).activate(dump_golden(Golden(name="h", pcrs={HashAlg.SHA256: values})), KIM)

    play(case)


def test_an_answer_by_a_key_that_was_replaced_while_a_thread_judged_it_does_not_count(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, finish = threading.Event(), threading.Event()

    def slow(evidence: Evidence, *rest: Any) -> Appraisal:
        started.set()
        assert finish.wait(10)
        return appraise(evidence._replace(boot_log=None), *rest)

    async def case(scene: Scene) -> None:
        monkeypatch.setattr("nodeseal.verifier.rounds.rounds.appraise", slow)
        asked = scene.ask()
        long = scene.evidence(asked)._replace(boot_log=bytes(64 * 1024))
        task = asyncio.create_task(scene.rounds.conclude(scene.node, long, asked))
        await asyncio.to_thread(started.wait, 10)
        scene.node.enrol(scene.node.record)
        finish.set()
        with pytest.raises(ProofFailed, match=r"quote\.nonce"):
            await task
        assert (scene.node.state, scene.node.baseline) == (NodeState.STALE, None)

    play(case)


def test_a_caller_that_goes_away_interrupts_no_transaction(play: Play) -> None:
    async def case(scene: Scene) -> None:
        task = asyncio.create_task(scene.fleet.ledger.commit("person/kim", lambda _: Decided(None, (ACT,))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await scene.fleet.ledger.settle()
        assert [act.plain["action"] for act in read_log(scene.path)] == [ACT.kind]

    play(case)


def test_a_decision_that_cannot_be_recorded_has_no_effect(play: Play) -> None:
    async def case(scene: Scene) -> None:
        scene.store.gone = True
        admit = NodeAdmitted(node_id=scene.node.record.node_id, before=NodeState.PENDING, forget_clock=True)
        before = scene.node.standing
        with pytest.raises(Unavailable):
            await scene.fleet.ledger.commit("person/kim", lambda _: Decided(None, (admit,)))
        assert (scene.node.standing, read_log(scene.path)) == (before, [])

    play(case)
