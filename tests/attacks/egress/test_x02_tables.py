"""x02: a changed table is found in the next round, with the rule that differs, and put right after it was told.

Each attack is done by nft on a real table, read by the real agent, and judged by the real appraisal.
"""

from __future__ import annotations

import pytest

from nodeseal.agent.egress.limits import EgressLimits
from nodeseal.findings import FindingId
from support.egress_rounds import demanding, judge_rounds
from support.namespaces import OUTSIDE4, World, inside, run

ATTACKS = {
    "a flushed table": ("flush table netdev nodeseal", "missing"),
    "a removed table": ("delete table netdev nodeseal", "table netdev nodeseal"),
    "a grown set": ("add element netdev nodeseal enclave4 { 192.0.2.0/24 }", "set enclave4: 192.0.2.0/24"),
    "a rule in front": ("insert rule netdev nodeseal uplinks accept", "uplinks: accept"),
    "a rule before the limit": ("insert rule netdev nodeseal outside accept", "outside: accept"),
    "a dormant table": ("add table netdev nodeseal { flags dormant ; }", "table netdev nodeseal {"),
    "a policy that accepts": (
        "add chain netdev nodeseal uplinks { type filter hook egress device up0 priority 0 ; policy accept ; }",
        "chain uplinks filter egress 0 accept",
    ),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_x02_a_changed_table_is_found_at_once_and_the_line_is_named(
    cable: World, limits: EgressLimits, what: str
) -> None:
    command, line = ATTACKS[what]
    policy, good = demanding(limits.document), limits.claims()
    assert judge_rounds(policy, good).trusted
    with inside(cable.node):
        run("nft", command)
        assert limits.notice()
    changed = limits.claims()
    outcome = judge_rounds(policy, good, changed)
    assert not outcome.trusted
    rules = [finding for finding in outcome.findings if finding.id is FindingId.EGRESS_RULESET]
    assert changed.changed_by.startswith("nft ")
    assert any("nft" in finding.seen and "changes" in finding.seen for finding in rules)
    assert any(line in f"missing {finding.expected} {finding.seen}" for finding in rules)


def test_x02_a_change_that_was_undone_before_anybody_looked_is_found_too(cable: World, limits: EgressLimits) -> None:
    policy, good = demanding(limits.document), limits.claims()
    with inside(cable.node):
        run("nft", "add element netdev nodeseal enclave4 { 192.0.2.0/24 }")
        run("nft", "delete element netdev nodeseal enclave4 { 192.0.2.0/24 }")
    undone = limits.claims()
    assert undone.ruleset == good.ruleset
    assert [finding.id for finding in judge_rounds(policy, good, undone).findings] == [FindingId.EGRESS_RULESET]


def test_x02_a_table_is_put_right_after_it_was_claimed_and_its_counts_go_on(cable: World, limits: EgressLimits) -> None:
    cable.flood(OUTSIDE4, size=100_000)
    policy, good = demanding(limits.document), limits.claims()
    with inside(cable.node):
        run("nft", "insert rule netdev nodeseal outside accept")
        changed = limits.claims()
        assert limits.is_wrong
        assert limits.install()
        assert not limits.install(), "what is in force is left alone"
    healed = limits.claims()
    assert healed.counters["outside"] >= good.counters["outside"] >= 100_000
    assert healed.quota == healed.counters["outside"]
    assert not judge_rounds(policy, good, changed).trusted
    assert judge_rounds(policy, good, changed, healed).trusted


def test_x02_another_table_on_an_uplink_is_found(cable: World, limits: EgressLimits) -> None:
    policy, good = demanding(limits.document), limits.claims()
    with inside(cable.node):
        run("nft", "table netdev other { chain c { type filter hook egress device up0 priority -500; }; }")
        try:
            assert limits.notice()
            (finding,) = judge_rounds(policy, good, limits.claims()).findings
        finally:
            run("nft", "delete table netdev other")
    assert finding.id is FindingId.EGRESS_PROGRAM
    assert finding.seen == "nft egress up0 table other chain c"


def test_x02_a_table_that_does_not_concern_us_starts_no_round(cable: World, limits: EgressLimits) -> None:
    good = limits.claims()
    with inside(cable.node):
        run("nft", "add table ip firewall")
        assert not limits.notice()
        run("nft", "delete table ip firewall")
    assert judge_rounds(demanding(limits.document), good, limits.claims()).trusted
