"""A release is approved only by the very appraisal of its own evidence, whatever is thought of the node besides."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from nodeseal.appraisal.model import Appraisal, Baseline, KnownNode
from nodeseal.appraisal.release import Certification
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, TooManyRequests, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import LeaseId
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.verifier.fleet.exchange import RoundOutcome, Verdict
from nodeseal.verifier.ledger.acts import Act
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.release.approval import ReleaseProof, Request
from nodeseal.verifier.release.entitlement import Entitlement
from nodeseal.verifier.release.lease_start import LeaseStart
from nodeseal.verifier.release.releases import Releases
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord, add_lease
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT, KEY, MODEL, NODE
from support.rounds import CHALLENGE, GOLDEN, PCRS, SHA256, Round

POLICY = PcrSelection.of({SHA256: [*range(8), 15]})
REBOOTED = "3f0c7c9e-0000-4000-8000-000000000002"


class TrustedNode:
    """A node that the fleet trusts at this moment."""

    findings = ()

    def trusted(self, _now: float) -> bool:
        return True


class Rounds:
    """Judges every round with one appraisal."""

    def __init__(self, appraisal: Appraisal) -> None:
        self._appraisal = appraisal

    async def conclude(self, *_: object) -> RoundOutcome:
        verdict = Verdict(state=NodeState.TRUSTED, trusted_until=None, trusted_for_ms=0, findings=())
        return RoundOutcome(verdict=verdict, appraisal=self._appraisal)


def approve(appraisal: Appraisal) -> NodesealError:
    """Try to approve a release on ``appraisal`` and return why it is refused."""
    steps = Round()
    node: Any = TrustedNode()
    fleet: Any = SimpleNamespace(clock=SimpleNamespace(steady=lambda: 0.0), policy=steps.policy)
    unused: Any = None
    asked: Any = SimpleNamespace(challenge=CHALLENGE, known=KnownNode(keys=steps.keys, baseline=None))
    request = Request(node=node, wanted=unused, asked=asked, policy=POLICY)
    certification = Certification(claims=b"", attest=b"", signature=b"")
    proof = ReleaseProof(evidence=steps.evidence(), release_public=steps.key.public, certification=certification)
    rounds: Any = Rounds(appraisal)
    with pytest.raises((PolicyRefused, ProofFailed, Unavailable)) as caught:
        asyncio.run(Releases(fleet, rounds, unused, unused)._approve(request, proof, None))
    return caught.value


def codes(error: NodesealError) -> list[str]:
    assert isinstance(error, PolicyRefused | ProofFailed)
    return [finding.id.code for finding in error.findings]


def test_evidence_of_another_state_refuses_although_the_node_counts_as_trusted() -> None:
    tampered = Round(pcrs={**PCRS, 4: bytes(31) + b"\1"}).appraise()
    assert "pcr.mismatch" in codes(approve(tampered))


def test_evidence_without_values_refuses_although_the_node_counts_as_trusted() -> None:
    first = Round()
    known = first.appraise()
    baseline = Baseline(clock_info=known.baseline.clock_info, boot_id=REBOOTED)
    rebooted = Round(
        key=first.key,
        baseline=baseline,
        clock_info=type(first.clock_info)(
            clock=first.clock_info.clock, reset_count=first.clock_info.reset_count + 1, restart_count=0, safe=True
        ),
    )
    appraisal = rebooted.appraise(rebooted.evidence(values=False))
    assert appraisal.pcrs is None
    assert codes(approve(appraisal)) == ["pcr.digest"]


def test_evidence_that_no_golden_matches_refuses_even_if_nothing_was_found() -> None:
    assert "release.node-state" in codes(approve(Round().appraise()._replace(goldens=())))


def test_a_golden_that_was_retired_since_the_evidence_was_judged_refuses_the_lease() -> None:
    approved: Any = SimpleNamespace(appraisal=Round().appraise())
    unused: Any = None
    start = LeaseStart(lease_id=LeaseId("l-" + "a" * 26), request=unused, approved=approved, choice=unused)
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection, pytest.raises(PolicyRefused, match="retired meanwhile") as caught:
        start.require_goldens(connection)
    engine.dispose()
    assert [finding.where for finding in caught.value.findings] == [GOLDEN.digest]


def test_a_release_waits_until_the_logs_were_judged_by_goldens_that_changed_meanwhile() -> None:
    refusal = approve(Round().appraise()._replace(goldens=(), logs_required=True))
    assert isinstance(refusal, Unavailable)
    assert refusal.remedy == "ask again"


def test_the_data_key_is_wiped_even_when_the_lease_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    data_key = bytearray(b"k" * 32)
    unused: Any = SimpleNamespace()

    async def fail(*_: object) -> Any:
        raise Unavailable("the disk is full")

    for name, given in {"_approve": unused, "_entitlement": Entitlement(unused, ()), "_open": data_key}.items():
        monkeypatch.setattr(Releases, name, lambda *_, given=given: asyncio.sleep(0, given))
    monkeypatch.setattr(Releases, "_release", fail)
    request: Any = SimpleNamespace(node=None, wanted=SimpleNamespace(model_digest=""))
    nothing: Any = None
    with pytest.raises(Unavailable):
        asyncio.run(Releases(nothing, nothing, nothing, nothing).finish(request, nothing))
    assert not any(data_key)


def test_a_lease_that_a_restriction_overtook_ends_since_no_restriction_may_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that is retired at this moment ends no lease, nor does silence end one that survives it."""

    class Ledger:
        async def commit(self, _actor: str, decide: Any, **_: object) -> Any:
            acts.extend(decide(connection).acts)
            return SimpleNamespace(recorded=())

    def start(self: LeaseStart, connection: sa.Connection) -> Decided[None]:
        add_lease(
            connection,
            LeaseRecord(lease_id=self.lease_id, node_id=NODE, key_id=KEY, model_digest=MODEL, issued=AT),
        )
        return Decided(None)

    acts: list[Act] = []
    monkeypatch.setattr(LeaseStart, "decide", start)
    fleet: Any = SimpleNamespace(ledger=Ledger(), clock=SimpleNamespace(steady=lambda: 0.0))
    node: Any = SimpleNamespace(
        record=SimpleNamespace(node_id=NODE),
        actor="node",
        leases={},
        trusted=lambda _: True,
        state_at=lambda _: NodeState.TRUSTED,
    )
    request: Any = SimpleNamespace(node=node, wanted=SimpleNamespace(model_digest=MODEL))
    unused: Any = SimpleNamespace(key=None)
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection, pytest.raises(PolicyRefused):
        asyncio.run(Releases(fleet, unused, unused, unused)._release(request, unused, unused, bytearray()))
    engine.dispose()
    assert [act.kind for act in acts] == ["lease.ended", "release.denied"]


class RecordingLedger:
    """Keeps the acts that it is given, or says that the share is used up."""

    def __init__(self) -> None:
        self.acts: list[Any] = []
        self.proved: list[bool] = []
        self.full = False

    async def commit(self, _actor: str, decide: Any, *, proved: bool = True, **_: object) -> Any:
        if self.full:
            raise TooManyRequests("share used up")
        self.acts += decide(None).acts
        self.proved.append(proved)
        return SimpleNamespace(recorded=())


class Taken:
    """A rate that nobody reaches."""

    def take(self, *_: object) -> None:
        """Count nothing."""


def releases(ledger: RecordingLedger, goldens: tuple[object, ...] = (GOLDEN,)) -> Releases:
    fleet: Any = SimpleNamespace(
        ledger=ledger, clock=SimpleNamespace(steady=lambda: 0.0), policy=SimpleNamespace(goldens=goldens)
    )
    rounds: Any = SimpleNamespace(
        ask=lambda *_, **__: SimpleNamespace(challenge=SimpleNamespace(selection=CHALLENGE.selection))
    )
    unused: Any = Taken()
    return Releases(fleet, rounds, unused, unused)


def a_node(*, trusted: bool = True, goldens: tuple[object, ...] = (GOLDEN,)) -> Any:
    return SimpleNamespace(
        record=SimpleNamespace(node_id=NODE),
        actor="node",
        leases={LeaseId("l-" + "a" * 26): None},
        goldens=goldens,
        baseline=None,
        banks=(4,),
        findings=(),
        trusted=lambda _: trusted,
        state_at=lambda _: NodeState.TRUSTED if trusted else NodeState.STALE,
    )


WANTED: Any = SimpleNamespace(model_digest=MODEL)


@pytest.fixture
def entitled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node may have the key, as far as grants go."""
    monkeypatch.setattr(Releases, "_entitlement", lambda *_: asyncio.sleep(0, Entitlement(None, ())))


@pytest.mark.usefixtures("entitled")
def test_a_node_that_may_have_a_key_is_asked_and_what_it_says_of_banks_changes_nothing_else() -> None:
    ledger, node = RecordingLedger(), a_node()
    unused: Any = None
    request = asyncio.run(releases(ledger).begin(node, unused, WANTED, (0x0B, 0x0C)))
    assert (request.node, ledger.acts, node.banks) == (node, [], (4,))


@pytest.mark.usefixtures("entitled")
@pytest.mark.parametrize(
    ("node", "goldens", "code"),
    [
        (a_node(trusted=False), (GOLDEN,), "release.node-state"),
        (a_node(), (), "golden.none"),
    ],
)
def test_a_request_is_refused_and_recorded_before_anything_is_asked(
    node: Any, goldens: tuple[object, ...], code: str
) -> None:
    ledger = RecordingLedger()
    unused: Any = None
    with pytest.raises(PolicyRefused) as caught:
        asyncio.run(releases(ledger, goldens).begin(node, unused, WANTED))
    assert [finding.id.code for finding in caught.value.findings] == [code]
    assert [(act.kind, act.codes) for act in ledger.acts] == [("release.denied", (code,))]
    assert ledger.proved == [False]


@pytest.mark.usefixtures("entitled")
def test_a_node_whose_golden_was_retired_a_moment_ago_asks_again() -> None:
    ledger = RecordingLedger()
    unused: Any = None
    with pytest.raises(Unavailable) as caught:
        asyncio.run(releases(ledger).begin(a_node(goldens=()), unused, WANTED))
    assert (caught.value.remedy, ledger.acts) == ("ask again", [])


@pytest.mark.usefixtures("entitled")
def test_denials_that_the_share_left_out_are_counted_once() -> None:
    ledger, node = RecordingLedger(), a_node(trusted=False)
    service = releases(ledger)
    unused: Any = None

    def refuse() -> None:
        with pytest.raises(PolicyRefused):
            asyncio.run(service.begin(node, unused, WANTED))

    for full in (False, True, True, False, False):
        ledger.full = full
        refuse()
    assert [act.unrecorded for act in ledger.acts] == [0, 2, 0]


@pytest.mark.parametrize(
    ("error", "proved"),
    [
        (ProofFailed(Finding(id=FindingId.QUOTE_NONCE, expected="a", seen="b")), False),
        (PolicyRefused(Finding(id=FindingId.RELEASE_KEY, expected="a", seen="b")), True),
    ],
)
def test_what_a_proof_lacks_is_recorded_and_said(
    monkeypatch: pytest.MonkeyPatch, error: ProofFailed | PolicyRefused, *, proved: bool
) -> None:
    async def refuse(*_: object) -> Any:
        raise error

    monkeypatch.setattr(Releases, "_approve", refuse)
    ledger = RecordingLedger()
    request: Any = SimpleNamespace(node=a_node(), wanted=WANTED)
    unused: Any = None
    with pytest.raises((ProofFailed, PolicyRefused)) as caught:
        asyncio.run(releases(ledger).finish(request, unused))
    assert caught.value is error
    assert [act.codes for act in ledger.acts] == [(error.findings[0].id.code,)]
    assert ledger.proved == [proved]


def test_leases_that_the_node_does_not_hold_are_given_back_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[object] = []

    async def end(*given: object) -> None:
        ended.append(given)

    monkeypatch.setattr(Releases, "_end", end)
    service, node = releases(RecordingLedger()), a_node()
    asyncio.run(service.give_back(node, (LeaseId("l-" + "b" * 26),)))
    assert not ended
    asyncio.run(service.give_back(node, (*node.leases, LeaseId("l-" + "b" * 26))))
    assert len(ended) == 1
