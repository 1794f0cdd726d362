"""Egress limits as appraisal judges them: round by round of one boot, against a golden that demands some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nodeseal.appraisal.kinds.egress import SLACK_BYTES
from nodeseal.appraisal.model import Appraisal, Policy
from nodeseal.egress.claims import EgressClaims
from nodeseal.egress.document import Level
from nodeseal.egress.table import HookRole, digest_of_lines, expected_lines
from nodeseal.egress.uplinks import NetworkDevice, Trait
from nodeseal.evidence.claims import decode_claims, encode_claims
from nodeseal.findings import FindingId
from support.egress import card, claims_of, document, with_uplinks
from support.egress_rounds import demanding, judge_rounds
from support.rounds import CLAIMS, POLICY

LIMITED = demanding(document())
MIB = 1024 * 1024
OTHER_VLAN = NetworkDevice(name="v8", index=8, kind="vlan", link=2, vlan=8, traits=Trait.ETHER)


def judged(*rounds: EgressClaims | None, policy: Policy = LIMITED) -> Appraisal:
    return judge_rounds(policy, *rounds)


def found(*rounds: EgressClaims | None) -> list[tuple[FindingId, str, str]]:
    return [(finding.id, finding.where, finding.seen) for finding in judged(*rounds).findings]


def ids(*rounds: EgressClaims | None) -> list[FindingId]:
    return [finding.id for finding in judged(*rounds).findings]


def test_a_node_with_the_golden_limits_is_trusted_round_after_round() -> None:
    outcome = judged(claims_of(), claims_of(sent=50 * MIB, passed=49 * MIB), claims_of(sent=90 * MIB, passed=88 * MIB))
    assert outcome.trusted
    assert outcome.goldens == LIMITED.goldens


def test_both_levels_are_what_the_golden_names() -> None:
    tight = digest_of_lines(expected_lines(document(), Level.TIGHT, [HookRole.UPLINK]))
    assert judged(claims_of(level=Level.TIGHT, ruleset=tight)).trusted


def test_a_golden_without_limits_demands_none() -> None:
    assert judged(None, policy=POLICY).trusted
    assert judged(claims_of(programs=("xdp up0",)), policy=POLICY).trusted


def test_a_node_without_limits_is_refused_with_a_remedy() -> None:
    (finding,) = judged(None).findings
    assert finding.id is FindingId.EGRESS_MISSING
    assert "nodeseal golden egress" in finding.id.remedy


def test_a_node_that_stops_claiming_limits_is_refused_at_once_and_not_forgiven() -> None:
    assert ids(claims_of(), None) == [FindingId.EGRESS_MISSING]
    back = claims_of(sent=50 * MIB)
    assert ids(claims_of(), None, back) == [FindingId.EGRESS_UNEXPLAINED]


def test_what_a_device_sent_after_its_count_began_again_counts() -> None:
    rounds = (claims_of(sent=900 * MIB), claims_of(sent=SLACK_BYTES), claims_of(sent=1))
    assert ids(*rounds[:2]) == []
    assert ids(*rounds) == [FindingId.EGRESS_UNEXPLAINED]


def test_a_table_of_another_document_is_refused_by_its_digest() -> None:
    other = with_uplinks("up0")
    ((found_id, where, seen), *_) = found(claims_of(other))
    assert (found_id, where) == (FindingId.EGRESS_RULESET, "egress file")
    assert other.digest in seen


def test_a_rule_that_differs_is_named() -> None:
    lines = ("unexpected set enclave4: 8.8.8.0/24", "missing counter cut")
    changed = claims_of(ruleset="0" * 64, differs=lines)
    assert found(changed) == [
        (FindingId.EGRESS_RULESET, "table netdev nodeseal", "set enclave4: 8.8.8.0/24"),
        (FindingId.EGRESS_RULESET, "table netdev nodeseal", "no such line"),
    ]


def test_a_digest_that_fits_no_level_is_refused_even_if_no_line_is_named() -> None:
    assert ids(claims_of(ruleset="0" * 64)) == [FindingId.EGRESS_RULESET]


@pytest.mark.parametrize(
    ("changes", "device"),
    [
        ({"devices": (card("up0", 2), card("eth9", 9))}, "device eth9"),
        ({"devices": ()}, "device up0"),
        ({"hooks": {"up0": HookRole.SLAVE}}, "device up0"),
        ({"more_devices": 1}, "egress"),
        ({"rdma": {"mlx5_0.1": 7}}, "port mlx5_0.1"),
        (
            {
                "devices": (
                    card("up0", 2),
                    NetworkDevice(name="v8", index=8, kind="vlan", link=2, vlan=8, traits=Trait.ETHER),
                )
            },
            "device v8",
        ),
    ],
)
def test_a_device_that_the_golden_does_not_name_is_refused(changes: Mapping[str, Any], device: str) -> None:
    told = [(found_id, where) for found_id, where, _ in found(replace(claims_of(), **changes))]
    assert (FindingId.EGRESS_DEVICE, device) in told


def test_an_uplink_that_is_not_hooked_is_refused() -> None:
    bare = claims_of(hooks={}, ruleset=digest_of_lines(expected_lines(document(), Level.NORMAL, [])))
    assert (FindingId.EGRESS_DEVICE, "device up0", "not") in found(bare)


def test_a_program_beside_the_table_is_refused() -> None:
    assert found(claims_of(programs=("xdp up0",))) == [(FindingId.EGRESS_PROGRAM, "egress", "xdp up0")]


def test_counters_that_fall_are_found_until_the_node_reboots() -> None:
    high, low = claims_of(passed=9 * MIB, sent=9 * MIB), claims_of(passed=MIB, sent=9 * MIB)
    assert FindingId.EGRESS_COUNTERS in ids(high, low)
    assert FindingId.EGRESS_COUNTERS in ids(high, low, high)


def test_a_quota_that_falls_alone_is_found() -> None:
    high = claims_of(passed=9 * MIB)
    assert ids(high, replace(high, quota=0)) == [FindingId.EGRESS_COUNTERS]


def test_bytes_that_the_table_does_not_explain_are_found_until_the_node_reboots() -> None:
    beside = claims_of(sent=10 * MIB, passed=MIB)
    assert ids(claims_of(), beside) == [FindingId.EGRESS_UNEXPLAINED]
    assert ids(claims_of(), beside, claims_of(sent=10 * MIB, passed=20 * MIB)) == [FindingId.EGRESS_UNEXPLAINED]


def test_bytes_leak_no_faster_in_small_steps() -> None:
    steps = [claims_of(sent=at * MIB) for at in range(4)]
    assert ids(*steps[:3]) == []
    assert ids(*steps) == [FindingId.EGRESS_UNEXPLAINED]


def test_headers_of_parts_of_large_packets_are_explained() -> None:
    passed = 1000 * MIB
    assert ids(claims_of(), claims_of(sent=passed + passed // 16 + SLACK_BYTES, passed=passed)) == []
    assert ids(claims_of(), claims_of(sent=passed + passed // 16 + SLACK_BYTES + 1, passed=passed)) != []


def test_an_uplink_that_was_made_anew_has_sent_all_that_it_counts() -> None:
    anew = claims_of(devices=(card("up0", 7, sent=9 * MIB),))
    assert ids(claims_of(sent=90 * MIB), anew) == [FindingId.EGRESS_UNEXPLAINED]


def test_what_passed_before_the_first_round_explains_nothing_later() -> None:
    first = claims_of(sent=9 * MIB, passed=9 * MIB)
    assert ids(first, claims_of(sent=19 * MIB, passed=9 * MIB)) == [FindingId.EGRESS_UNEXPLAINED]


def test_a_change_by_somebody_else_is_found_in_the_next_round_only() -> None:
    changed = claims_of(changes=1, changed_by="nft 77")
    assert found(claims_of(), changed) == [
        (FindingId.EGRESS_RULESET, "egress", "1 changes, the last of any table by nft 77")
    ]
    assert ids(claims_of(), changed, changed) == []
    assert ids(changed) == [FindingId.EGRESS_RULESET]
    assert ids(claims_of(changes=5), claims_of(changes=1)) == [FindingId.EGRESS_RULESET], "the agent began anew"


def test_claims_survive_their_encoding_and_an_agent_without_limits_names_none() -> None:
    claims = replace(CLAIMS, egress=claims_of(sent=7, passed=5, rdma={"ib0.1": 3}, programs=("xdp up0",)))
    assert decode_claims(encode_claims(claims)) == claims
    assert b"egress" not in encode_claims(CLAIMS)
