"""x05: the agent stops, restarts or crashes, or somebody forges its claims."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.agent.egress.host import read_document
from nodeseal.agent.egress.limits import EgressLimits
from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.evidence.claims import encode_claims
from nodeseal.findings import FindingId
from support.egress import DOCUMENT, claims_of, document
from support.egress_rounds import demanding
from support.namespaces import OUTSIDE4, World, inside
from support.rounds import CLAIMS, Round

VOLUME = 600_000


def test_x05_limits_stay_in_force_without_the_agent_and_a_new_one_leaves_them_alone(
    cable: World, limits: EgressLimits
) -> None:
    text = (cable.folder / "egress.yaml").read_bytes().partition(b"\n")[2]
    limits.close()
    before = cable.arrived()
    cable.flood(OUTSIDE4, size=4 * VOLUME)
    assert cable.arrived() - before < VOLUME
    again = cable.limits(text)
    try:
        with inside(cable.node):
            assert not again.install()
        claims = again.claims()
    finally:
        again.close()
    assert claims.counters["limited"] > 0, "what was counted without the agent is claimed by the next one"


def test_x05_claims_that_were_changed_after_the_quote_are_no_proof() -> None:
    machine = Round(policy=demanding(document()), claims=replace(CLAIMS, egress=claims_of(programs=("xdp up0",))))
    evidence = machine.evidence()
    forged = evidence._replace(claims=encode_claims(replace(CLAIMS, egress=claims_of())))
    assert not machine.appraise(evidence).trusted
    with pytest.raises(ProofFailed) as refusal:
        machine.appraise(forged)
    assert [finding.id for finding in refusal.value.findings] == [FindingId.QUOTE_BINDING]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make files of root and of others")
@pytest.mark.parametrize("change", ["written by others", "of another user", "a link"])
def test_x05_a_file_that_somebody_else_than_root_may_change_is_refused(tmp_path: Path, change: str) -> None:
    file = tmp_path / "egress.yaml"
    file.write_bytes(b"format: nodeseal/egress/1\n" + DOCUMENT)
    file.chmod(0o644)
    assert read_document(file) == document()
    if change == "written by others":
        file.chmod(0o664)
    elif change == "of another user":
        os.chown(file, 65534, 65534)
    else:
        file.rename(tmp_path / "elsewhere")
        file.symlink_to("elsewhere")
    with pytest.raises((MalformedInput, Unavailable), match=r"egress\.file"):
        read_document(file)
