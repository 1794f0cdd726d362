"""A release is approved only by the very appraisal of its own evidence, whatever is thought of the node besides."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.appraisal.model import Appraisal, Baseline, KnownNode
from nodeseal.appraisal.release import Certification
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.verifier.fleet.exchange import RoundOutcome, Verdict
from nodeseal.verifier.release.approval import ReleaseProof, Request
from nodeseal.verifier.release.entitlement import Entitlement
from nodeseal.verifier.release.lease_start import lease_start
from nodeseal.verifier.release.releases import Releases
from nodeseal.verifier.states import NodeState
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
    steps = Round()
    appraisal = steps.appraise()
    node: Any = SimpleNamespace(trusted=lambda _now: True, findings=(), leases={})
    lease: Any = SimpleNamespace(model_digest="")
    choice: Any = SimpleNamespace(slot=None)
    fleet: Any = SimpleNamespace(
        clock=SimpleNamespace(steady=lambda: 0.0),
        policy=replace(steps.policy, goldens=(replace(GOLDEN, name="other"),)),
    )
    unused: Any = None
    request = Request(node=node, wanted=unused, asked=unused, policy=POLICY)
    approved: Any = SimpleNamespace(appraisal=appraisal)
    with pytest.raises(PolicyRefused, match="retired meanwhile") as caught:
        lease_start(fleet, request, approved, choice, lease)
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
