"""What is wrong with a node, and with its release key, is said whole; a node that was never judged shows no epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.appraisal.release import Certification
from nodeseal.errors import PolicyRefused
from nodeseal.evidence.quote import prove_pcr_values
from nodeseal.tpm.algorithms import CurveId
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.node_keys import RELEASE_KEY_ATTRIBUTES
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.tpm.public import EccPublic
from nodeseal.verifier.fleet.exchange import RoundOutcome, Verdict
from nodeseal.verifier.release.approval import ReleaseProof, Request, approve, epoch_findings
from nodeseal.verifier.states import NodeState
from support.rounds import CHALLENGE, SHA256, Round

EPOCH = PcrSelection.of({SHA256: [EPOCH_PCR]})


RELEASE_KEY = EccPublic(
    name_alg=SHA256,
    attributes=RELEASE_KEY_ATTRIBUTES,
    auth_policy=bytes(32),
    symmetric=None,
    scheme=None,
    curve=CurveId.P256,
    x=bytes(32),
    y=bytes(32),
)


def judged(value: bytes) -> Any:
    pcrs = prove_pcr_values(Quoted(EPOCH, pcr_digest(SHA256, [value])), SHA256, [value])
    facts = SimpleNamespace(facts=SimpleNamespace(pcrs=pcrs))
    return SimpleNamespace(judgement=facts, claims=SimpleNamespace(agent_version="1"))


@pytest.mark.parametrize(
    "baseline",
    [None, SimpleNamespace(judgement=None, claims=None), SimpleNamespace(judgement=None, claims="x")],
)
def test_a_node_that_was_not_judged_yet_shows_no_epoch_and_no_lack_of_one(baseline: Any) -> None:
    node: Any = SimpleNamespace(baseline=baseline)
    assert list(epoch_findings(node)) == []


def test_claims_that_are_missing_say_nothing_either() -> None:
    baseline = judged(bytes(32))
    baseline.claims = None
    assert list(epoch_findings(SimpleNamespace(baseline=baseline))) == []  # type: ignore[arg-type] # what it looks at


def test_the_last_round_tells_whether_an_epoch_has_begun() -> None:
    found = [list(epoch_findings(SimpleNamespace(baseline=judged(value)))) for value in (bytes(32), b"\1" * 32)]  # type: ignore[arg-type] # as above
    assert [[finding.id.code for finding in each] for each in found] == [["release.no-epoch"], []]


def test_everything_that_is_wrong_with_a_release_key_is_said_at_once() -> None:
    steps = Round()
    appraisal = steps.appraise()
    verdict = Verdict(state=NodeState.TRUSTED, trusted_until=None, trusted_for_ms=0, findings=())
    node: Any = SimpleNamespace(trusted=lambda _: True)
    asked: Any = SimpleNamespace(challenge=CHALLENGE, known=SimpleNamespace(keys=steps.keys))
    unused: Any = None
    request = Request(node=node, wanted=unused, asked=asked, policy=PcrSelection.of({SHA256: [4]}))
    proof = ReleaseProof(
        evidence=steps.evidence(),
        release_public=RELEASE_KEY,
        certification=Certification(claims=b"", attest=b"", signature=b""),
    )
    with pytest.raises(PolicyRefused) as caught:
        approve(request, proof, RoundOutcome(verdict=verdict, appraisal=appraisal), 0.0)
    codes = [finding.id.code for finding in caught.value.findings]
    assert {"release.certify", "release.policy"} <= set(codes)
    assert "release.node-state" not in codes
