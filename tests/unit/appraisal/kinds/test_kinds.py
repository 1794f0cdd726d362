"""A kind of evidence is one module and one row: a made-up one is proved, judged, kept and named as known by the table.

The made-up kind is a badge that the agent claims, here in the field for the firmware's maker. Each golden allows one
badge, by a table of this test. A badge that starts with "forged" is wrong whatever goldens say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from nodeseal.appraisal import kinds
from nodeseal.appraisal.kinds.boot import BootState
from nodeseal.appraisal.kinds.kind import Kind, KindVerdict, Proved
from nodeseal.appraisal.kinds.kind import Round as KindRound
from nodeseal.appraisal.model import Appraisal, AuthenticEvidence, Facts, Proof, first_of
from nodeseal.evidence.logs import KnownLogs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from support.rounds import CLAIMS, Round, measured

SILVER, GOLD, FORGED = "silver", "gold", "forged gold"
ALLOWED = {"rack-a": SILVER}
"""By name of a golden, the badge that it allows: goldens have no section for badges."""
NOT_ALLOWED = Finding(id=FindingId.PLATFORM_MANUFACTURER, expected="another badge", seen="this one")
NOT_GENUINE = Finding(id=FindingId.PLATFORM_EK, expected="a genuine badge", seen="a forged one")


class KnownBadge(KnownLogs):
    """What a challenge names as known, badge included."""

    badge: str = ""


@dataclass(frozen=True)
class BadgeProof:
    """A badge, and whether the boot log was proved before it."""

    badge: str
    findings: tuple[Finding, ...]
    after_boot: bool


@dataclass(frozen=True)
class BadgeMark:
    """A badge through a restart."""

    badge: str


class Badges:
    """The functions of the made-up kind; it counts how often each was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def known(self, proof: BadgeProof, goldens: Sequence[Golden], logs: KnownLogs) -> KnownLogs:
        self.calls.append("known")
        named = KnownBadge(*logs)
        named.badge = proof.badge if all(golden.name in ALLOWED for golden in goldens) else ""
        return named

    def unchanged(self, proof: BadgeProof | None, evidence: AuthenticEvidence) -> bool:
        self.calls.append("unchanged")
        return proof is not None and proof.badge == evidence.claims.firmware_vendor

    def prove(
        self, round_: KindRound, before: BadgeProof | None, earlier: Sequence[Proof | None]
    ) -> Proved[BadgeProof]:
        self.calls.append("prove" if before is None else "prove again")
        badge = round_.evidence.claims.firmware_vendor
        findings = (NOT_GENUINE,) if badge.startswith("forged") else ()
        return Proved(BadgeProof(badge, findings, first_of(earlier, BootState) is not None), detail=BadgeMark(badge))

    def judge(self, proof: BadgeProof | None, golden: Golden, facts: Facts) -> KindVerdict:
        self.calls.append("judge")
        assert facts.proof(BadgeProof) is proof
        allowed = proof is not None and proof.badge == ALLOWED[golden.name]
        return KindVerdict() if allowed else KindVerdict((NOT_ALLOWED,))

    def keep(self, proof: BadgeProof | None, kept: Sequence[object]) -> BadgeMark | None:
        self.calls.append("keep")
        return BadgeMark(proof.badge) if proof is not None else first_of(kept, BadgeMark)


@pytest.fixture
def badges(monkeypatch: pytest.MonkeyPatch) -> Badges:
    """A table with one more row."""
    made_up = Badges()
    row: Kind[Any] = made_up
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, row))
    return made_up


def wearing(badge: str, machine: Round | None = None) -> Round:
    """Return the round of a machine with a badge."""
    return replace(machine or measured(), claims=replace(CLAIMS, firmware_vendor=badge))


def codes(appraisal: Appraisal) -> list[str]:
    return [finding.id.code for finding in appraisal.findings]


def test_a_kind_with_a_row_is_proved_judged_kept_and_named_as_known(badges: Badges) -> None:
    machine = wearing(SILVER)
    first = machine.appraise()
    assert first.trusted
    assert first.baseline.proof(BadgeProof) == BadgeProof(SILVER, (), after_boot=True)
    assert first.baseline.kept_of(BadgeMark) == BadgeMark(SILVER)
    assert first.detail(BadgeMark) == BadgeMark(SILVER)
    named = machine.then(first).asked.logs
    assert isinstance(named, KnownBadge)
    assert named.badge == SILVER
    assert named.ima_offset == len(machine.ima_log or b"")
    assert set(badges.calls) == {"prove", "judge", "keep", "known"}


def test_a_golden_whose_rules_object_does_not_match(badges: Badges) -> None:
    appraisal = wearing(GOLD).appraise()
    assert appraisal.findings == (NOT_ALLOWED,)
    assert appraisal.goldens == ()
    assert "judge" in badges.calls


@pytest.mark.usefixtures("badges")
def test_what_is_wrong_whatever_goldens_say_is_found_though_none_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALLOWED, "rack-a", FORGED)
    appraisal = wearing(FORGED).appraise()
    assert appraisal.findings == (NOT_GENUINE,)
    assert appraisal.goldens != ()
    assert not appraisal.trusted


def test_a_judgement_stands_while_the_kind_says_that_nothing_changed(badges: Badges) -> None:
    machine = wearing(SILVER)
    first = machine.appraise()
    badges.calls.clear()
    steady = machine.then(first)
    second = steady.appraise(steady.evidence(values=False))
    assert badges.calls == ["unchanged"]
    assert second.baseline.judgement is first.baseline.judgement
    assert second.baseline.kept is first.baseline.kept
    assert second.details == ()


def test_news_of_the_kind_alone_makes_the_round_judged_again(badges: Badges) -> None:
    machine = wearing(SILVER)
    first = machine.appraise()
    badges.calls.clear()
    changed = wearing(GOLD, machine.then(first))
    second = changed.appraise(changed.evidence(values=False))
    assert codes(second) == [NOT_ALLOWED.id.code]
    assert {"unchanged", "prove again", "judge", "keep"} <= set(badges.calls)
    assert second.baseline.kept_of(BadgeMark) == BadgeMark(GOLD)


@pytest.mark.usefixtures("badges")
def test_what_the_kind_keeps_outlives_a_restart_but_not_the_boot() -> None:
    machine = wearing(SILVER)
    kept = machine.appraise().baseline
    restarted = kept._replace(claims_raw=b"", claims=None, judgement=None, proved_at=None)
    resumed = replace(machine, baseline=restarted)
    assert resumed.appraise().baseline.kept_of(BadgeMark) == BadgeMark(SILVER)
    other = replace(CLAIMS, boot_id="3f0c7c9e-0000-4000-8000-000000000002")
    rebooted = replace(resumed, claims=other, clock_info=machine.clock_info._replace(reset_count=9))
    silent = rebooted.appraise(rebooted.evidence(values=False))
    assert silent.values_required
    assert silent.baseline.kept == ()
