"""One round of evidence: what is proved, what is found, and what the next round starts from (q01, q03 to q10, t01)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from nodeseal.appraisal.model import Appraisal, Baseline, Continuity, KnownNode, Policy
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.round import Evidence
from nodeseal.findings import FindingId
from nodeseal.ids import LeaseId, Nonce, lease_id_of, node_id_of
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Certified, ClockInfo, Quoted
from nodeseal.tpm.pcr import PcrSelection
from support.quotes import START, SigningKey, quoted
from support.rounds import CHALLENGE, CLAIMS, GOLDEN, PCRS, SELECTION, SHA256, Round, golden_of

OTHER_BOOT = replace(CLAIMS, boot_id="3f0c7c9e-0000-4000-8000-000000000002")
RESET = START._replace(reset_count=START.reset_count + 1, clock=START.clock + 5000)
CHANNEL = CHALLENGE.channel


def ids(appraisal: Appraisal) -> list[FindingId]:
    return [finding.id for finding in appraisal.findings]


def refusal(round_: Round, evidence: Evidence | None = None) -> FindingId:
    with pytest.raises(ProofFailed) as refused:
        round_.appraise(evidence)
    (finding,) = refused.value.findings
    return finding.id


@pytest.fixture(scope="module")
def good() -> Round:
    return Round()


# What a good round proves


def test_a_good_first_round_is_trusted(good: Round) -> None:
    appraisal = good.appraise()
    assert appraisal.trusted
    assert appraisal.findings == ()
    assert appraisal.goldens == (GOLDEN,)
    assert appraisal.continuity is Continuity.FIRST
    assert appraisal.claims == CLAIMS
    assert appraisal.pcrs is not None
    assert appraisal.pcrs.get(SHA256, 4) == PCRS[4]
    assert not appraisal.values_required


def test_trust_ends_a_fixed_time_after_the_challenge_not_after_the_answer(good: Round) -> None:
    late = replace(good, now=CHALLENGE.answer_by)
    assert late.appraise().trusted_until == CHALLENGE.issued + timedelta(seconds=60)


def test_a_node_that_is_not_trusted_has_no_end_of_trust(good: Round) -> None:
    assert replace(good, policy=Policy(goldens=(), trust_seconds=60)).appraise().trusted_until is None


def test_a_steady_round_needs_no_values_and_keeps_leases(good: Round) -> None:
    first = good.appraise()
    second_round = good.then(first)
    second = second_round.appraise(second_round.evidence(values=False))
    assert second.trusted
    assert second.continuity is Continuity.CONTINUES
    assert second.keeps_leases
    assert second.pcrs is first.pcrs
    assert second.baseline.judgement is first.baseline.judgement
    assert second.baseline.clock_info.clock == START.clock + 1000
    third_round = second_round.then(second)
    assert third_round.appraise(third_round.evidence(values=False)).trusted


def test_leases_end_with_trust(good: Round) -> None:
    tampered = good.then(good.appraise(), pcrs={**PCRS, 4: b"n" * 32}).appraise()
    assert tampered.continuity is Continuity.CONTINUES
    assert not tampered.trusted
    assert not tampered.keeps_leases


def test_a_first_round_keeps_no_leases(good: Round) -> None:
    assert not good.appraise().keeps_leases


def test_changed_values_in_the_same_boot_are_judged_again(good: Round) -> None:
    first = good.appraise()
    changed = good.then(first, pcrs={**PCRS, 9: b"n" * 32})
    second = changed.appraise()
    assert second.trusted
    assert second.pcrs is not None
    assert second.pcrs.get(SHA256, 9) == b"n" * 32


def test_a_changed_policy_is_applied_to_values_that_did_not_change(good: Round) -> None:
    first = good.appraise()
    stricter = good.then(first, policy=Policy(goldens=(golden_of({**PCRS, 4: b"n" * 32}),), trust_seconds=60))
    second = stricter.appraise(stricter.evidence(values=False))
    assert not second.trusted
    assert ids(second) == [FindingId.PCR_MISMATCH]


def test_changed_claims_are_read_again(good: Round) -> None:
    first = good.appraise()
    leases: tuple[LeaseId, ...] = (lease_id_of(b"1"),)
    second_round = good.then(first, claims=replace(CLAIMS, leases=leases))
    assert second_round.appraise(second_round.evidence(values=False)).claims.leases == leases


# What is not proved


def test_q01_an_answer_after_its_deadline_is_refused(good: Round) -> None:
    assert good.appraise().trusted
    assert replace(good, now=CHALLENGE.answer_by).appraise().trusted
    late = replace(good, now=CHALLENGE.answer_by + timedelta(microseconds=1))
    assert refusal(late) is FindingId.QUOTE_NONCE


def test_t04_an_answer_before_its_challenge_is_refused_because_the_clock_jumped(good: Round) -> None:
    assert refusal(replace(good, now=CHALLENGE.issued - timedelta(microseconds=1))) is FindingId.QUOTE_NONCE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"nonce": Nonce(b"o" * 32)}, id="q01 another challenge's nonce"),
        pytest.param({"purpose": Purpose.RELEASE}, id="q07 another purpose"),
        pytest.param({"channel": replace(CHANNEL, trust_domain="example.net")}, id="q07 another trust domain"),
        pytest.param({"channel": replace(CHANNEL, node_id=node_id_of(b"b"))}, id="q08 another node"),
        pytest.param({"channel": replace(CHANNEL, certificate_sha256=b"d" * 32)}, id="q08 another TLS channel"),
    ],
)
def test_a_quote_for_something_else_is_refused(good: Round, changes: dict[str, Nonce | Purpose | Channel]) -> None:
    signed = good.key.attest(quoted(SELECTION, PCRS), good.binding(**changes))
    assert refusal(good, good.evidence(signed)) is FindingId.QUOTE_BINDING


def test_q07_a_quote_made_to_attest_is_refused_in_a_release(good: Round) -> None:
    release = replace(good, challenge=CHALLENGE._replace(purpose=Purpose.RELEASE))
    assert refusal(release, good.evidence()) is FindingId.QUOTE_BINDING
    assert release.appraise().trusted


def test_q09_claims_altered_after_quoting_are_refused(good: Round) -> None:
    evidence = good.evidence()._replace(claims=encode_claims(OTHER_BOOT))
    assert refusal(good, evidence) is FindingId.QUOTE_BINDING


def test_q09_claims_are_not_taken_from_an_earlier_round(good: Round) -> None:
    later = good.then(good.appraise(), claims=OTHER_BOOT)
    evidence = later.evidence()._replace(claims=encode_claims(CLAIMS))
    assert refusal(later, evidence) is FindingId.QUOTE_BINDING


@pytest.mark.parametrize(
    "selection",
    [
        pytest.param(PcrSelection.of({SHA256: [*range(10), *range(11, 15), 16]}), id="q03 PCR 16 for PCR 15"),
        pytest.param(PcrSelection.of({HashAlg.SHA384: SELECTION.banks[0][1]}), id="q03 another bank"),
        pytest.param(PcrSelection.of({SHA256: [*range(10), *range(11, 15)]}), id="q04 a PCR is missing"),
        pytest.param(PcrSelection.of({SHA256: range(16)}), id="q04 a PCR too many"),
        pytest.param(None, id="q04 an empty selection"),
    ],
)
def test_a_quote_over_other_pcrs_is_refused(good: Round, selection: PcrSelection | None) -> None:
    same_digest = quoted(SELECTION, PCRS).pcr_digest
    signed = good.key.attest(Quoted(selection, same_digest), good.binding())
    assert refusal(good, good.evidence(signed)) is FindingId.QUOTE_SELECTION


def test_q02_a_certification_is_not_a_quote(good: Round) -> None:
    signed = good.key.attest(Certified(b"\0\x0b" + bytes(32), b"\0\x0b" + bytes(32)), good.binding())
    assert refusal(good, good.evidence(signed)) is FindingId.QUOTE_MALFORMED


def test_q05_values_permuted_between_pcrs_are_refused(good: Round) -> None:
    evidence = good.evidence()
    assert evidence.pcr_values is not None
    swapped = (evidence.pcr_values[1], evidence.pcr_values[0], *evidence.pcr_values[2:])
    assert refusal(good, evidence._replace(pcr_values=swapped)) is FindingId.PCR_DIGEST


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda values: values[:-1], id="one missing"),
        pytest.param(lambda values: (*values, b"x" * 32), id="one too many"),
        pytest.param(lambda _: (), id="an empty list, which is not the same as none"),
        pytest.param(lambda values: (values[0] + values[1][:1], values[1][1:], *values[2:]), id="a moved border"),
        pytest.param(lambda values: (PCRS[20], *values[1:]), id="another value"),
    ],
)
def test_values_that_are_not_those_quoted_are_refused(
    good: Round, tamper: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
) -> None:
    evidence = good.evidence()
    assert evidence.pcr_values is not None
    assert refusal(good, evidence._replace(pcr_values=tamper(evidence.pcr_values))) is FindingId.PCR_DIGEST


def test_q06_a_signature_by_another_key_is_refused(good: Round) -> None:
    signed = SigningKey().attest(quoted(SELECTION, PCRS), good.binding())
    assert refusal(good, good.evidence(signed)) is FindingId.QUOTE_SIGNATURE


def test_nothing_is_read_before_the_signature_held(good: Round) -> None:
    evidence = good.evidence()._replace(attest=b"not a quote", claims=b"not claims")
    assert refusal(good, evidence) is FindingId.QUOTE_SIGNATURE


def test_signed_claims_that_do_not_parse_are_malformed(good: Round) -> None:
    round_ = replace(good, claims=Claims(boot_id="x" * 65, kernel="6.1.0", agent_version="0.1.0"))
    with pytest.raises(MalformedInput, match="boot_id"):
        round_.appraise()


# Values left out


def test_a_first_round_without_values_is_refused(good: Round) -> None:
    assert refusal(good, good.evidence(values=False)) is FindingId.PCR_DIGEST


def test_changed_values_may_not_be_left_out(good: Round) -> None:
    changed = good.then(good.appraise(), pcrs={**PCRS, 9: b"n" * 32})
    assert refusal(changed, changed.evidence(values=False)) is FindingId.PCR_DIGEST


def test_q03_values_may_not_be_left_out_when_the_selection_changes_under_one_digest(good: Round) -> None:
    other = PcrSelection.of({SHA256: [*range(10), *range(11, 15), 16]})
    same_values = {**PCRS, 16: PCRS[15]}
    asked = good.then(good.appraise(), pcrs=same_values)
    asked = replace(asked, challenge=asked.challenge._replace(selection=other))
    assert refusal(asked, asked.evidence(values=False)) is FindingId.PCR_DIGEST


def test_a_baseline_kept_across_a_restart_asks_for_values(good: Round) -> None:
    kept = Baseline(clock_info=START, boot_id=CLAIMS.boot_id)
    resumed = replace(good, baseline=kept)
    assert KnownNode(keys=good.keys, baseline=kept).values_required
    assert refusal(resumed, resumed.evidence(values=False)) is FindingId.PCR_DIGEST
    assert resumed.appraise().keeps_leases


def test_values_are_required_until_a_round_proved_some(good: Round) -> None:
    assert KnownNode(keys=good.keys, baseline=None).values_required
    assert not KnownNode(keys=good.keys, baseline=good.appraise().baseline).values_required


# Reboots and broken continuity


def test_a_reboot_with_values_is_judged_at_once_but_ends_leases(good: Round) -> None:
    rebooted = good.then(good.appraise(), claims=OTHER_BOOT, clock_info=RESET).appraise()
    assert rebooted.continuity is Continuity.REBOOTED
    assert rebooted.trusted
    assert not rebooted.keeps_leases
    assert rebooted.baseline.boot_id == OTHER_BOOT.boot_id


def test_a_reboot_without_values_is_asked_for_them(good: Round) -> None:
    reboot = good.then(good.appraise(), claims=OTHER_BOOT, clock_info=RESET)
    asked = reboot.appraise(reboot.evidence(values=False))
    assert asked.continuity is Continuity.REBOOTED
    assert asked.values_required
    assert asked.findings == ()
    assert not asked.trusted
    again = reboot.then(asked)
    assert KnownNode(keys=good.keys, baseline=asked.baseline).values_required
    assert refusal(again, again.evidence(values=False)) is FindingId.PCR_DIGEST
    judged = again.appraise()
    assert judged.continuity is Continuity.CONTINUES
    assert judged.trusted


def test_a_kexec_ends_leases_though_every_value_is_the_same(good: Round) -> None:
    kexec = good.then(good.appraise(), claims=OTHER_BOOT)
    asked = kexec.appraise(kexec.evidence(values=False))
    assert asked.values_required
    assert not asked.keeps_leases
    assert not asked.trusted


@pytest.mark.parametrize("values", [True, False])
def test_t01_a_reset_without_reboot_is_found_in_every_round_until_a_real_reboot(good: Round, *, values: bool) -> None:
    first = good.appraise()
    current = good.then(first, clock_info=RESET)
    for _ in range(3):
        appraisal = current.appraise(current.evidence(values=values))
        assert ids(appraisal) == [FindingId.CLOCK_RESET]
        assert appraisal.continuity is Continuity.BROKEN
        assert not appraisal.trusted
        assert not appraisal.keeps_leases
        assert not appraisal.values_required
        assert appraisal.baseline is first.baseline
        current = current.then(appraisal)
    healed = replace(current, claims=OTHER_BOOT, clock_info=RESET._replace(reset_count=9, clock=RESET.clock * 2))
    assert healed.appraise().trusted


def test_t02_a_rollback_quarantines_even_after_the_clock_caught_up(good: Round) -> None:
    first = good.appraise()
    back = good.then(first, clock_info=ClockInfo(clock=5, reset_count=7, restart_count=0, safe=True))
    appraisal = back.appraise()
    assert ids(appraisal) == [FindingId.CLOCK_ROLLBACK]
    assert appraisal.quarantined
    assert not appraisal.trusted
    assert appraisal.baseline is first.baseline


def test_an_attack_on_time_does_not_hide_what_else_is_wrong(good: Round) -> None:
    attacked = good.then(good.appraise(), clock_info=RESET, pcrs={**PCRS, 4: b"n" * 32})
    assert ids(attacked.appraise()) == [FindingId.CLOCK_RESET, FindingId.PCR_MISMATCH]


def test_a_new_lease_epoch_costs_neither_trust_nor_leases_nor_logs(good: Round) -> None:
    first = good.appraise()
    later = good.then(first, pcrs={**PCRS, 23: b"e" * 32}).appraise()
    assert (later.findings, later.goldens, later.continuity) == ((), first.goldens, Continuity.CONTINUES)
    assert (later.keeps_leases, later.values_required, later.logs_required) == (True, False, False)


def test_an_attack_on_time_is_named_even_if_changed_values_were_left_out(good: Round) -> None:
    attacked = good.then(good.appraise(), clock_info=RESET, pcrs={**PCRS, 4: b"n" * 32})
    appraisal = attacked.appraise(attacked.evidence(values=False))
    assert ids(appraisal) == [FindingId.CLOCK_RESET]
    assert appraisal.pcrs is None


def test_an_unsafe_clock_is_reported_but_trusted(good: Round) -> None:
    appraisal = replace(good, clock_info=START._replace(safe=False)).appraise()
    assert ids(appraisal) == [FindingId.CLOCK_UNSAFE]
    assert appraisal.trusted
    assert not appraisal.quarantined


def test_an_untrusted_round_is_a_baseline_too_so_time_is_never_forgotten(good: Round) -> None:
    untrusted = replace(good, pcrs={**PCRS, 4: b"n" * 32}).appraise()
    assert not untrusted.trusted
    back = good.then(untrusted, clock_info=START._replace(clock=START.clock - 1))
    assert ids(back.appraise()) == [FindingId.CLOCK_ROLLBACK]


def test_an_untrusted_node_that_changes_nothing_stays_untrusted(good: Round) -> None:
    untrusted = replace(good, pcrs={**PCRS, 4: b"n" * 32})
    appraisal = untrusted.appraise()
    later = untrusted.then(appraisal)
    assert ids(later.appraise(later.evidence(values=False))) == [FindingId.PCR_MISMATCH]


@pytest.mark.parametrize("boot_id", ["00000000-0000-4000-8000-000000000000", "ffffffff-0000-4000-8000-000000000000"])
def test_another_boot_is_another_boot_whichever_id_is_greater(good: Round, boot_id: str) -> None:
    other = replace(CLAIMS, boot_id=boot_id)
    rebooted = good.then(good.appraise(), claims=other, clock_info=RESET).appraise()
    assert rebooted.continuity is Continuity.REBOOTED
    assert rebooted.baseline.boot_id == boot_id
    assert not rebooted.keeps_leases
