"""x03: reset counters, a reloaded table, a second uplink, a device that moved away, a new default route."""

from __future__ import annotations

from contextlib import suppress
from subprocess import CalledProcessError

import pytest

from nodeseal.agent.egress.limits import EgressLimits
from nodeseal.findings import FindingId
from support.egress_rounds import demanding, judge_rounds
from support.namespaces import OUTSIDE4, World, inside, run


@pytest.mark.parametrize("what", ["counters", "quotas"])
def test_x03_a_reset_changes_no_digest_and_is_found_by_what_falls(
    cable: World, limits: EgressLimits, what: str
) -> None:
    cable.flood(OUTSIDE4, size=100_000)
    good = limits.claims()
    with inside(cable.node):
        run("nft", "reset", what, "netdev")
    after = limits.claims()
    assert (after.ruleset, after.generation, after.changes) == (good.ruleset, good.generation, good.changes)
    found = [finding.id for finding in judge_rounds(demanding(limits.document), good, after).findings]
    assert FindingId.EGRESS_COUNTERS in found


def test_x03_a_table_that_was_removed_and_installed_anew_is_found_by_what_falls(
    cable: World, limits: EgressLimits
) -> None:
    cable.flood(OUTSIDE4, size=100_000)
    good = limits.claims()
    with inside(cable.node):
        run("nft", "delete", "table", "netdev", "nodeseal")
        assert limits.install()
    anew = limits.claims()
    assert anew.ruleset == good.ruleset
    found = {finding.id for finding in judge_rounds(demanding(limits.document), good, anew, anew).findings}
    assert FindingId.EGRESS_COUNTERS in found


def test_x03_a_new_way_out_is_found(cable: World, limits: EgressLimits) -> None:
    good = limits.claims()
    with inside(cable.node):
        run("ip", "link", "add", "away0", "type", "veth", "peer", "name", "away1")
        try:
            run("ip", "link", "set", "away0", "up")
            run("ip", "addr", "add", "198.51.100.1/24", "dev", "away0")
            run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.2", "dev", "away0")
            assert limits.notice()
            (finding,) = judge_rounds(demanding(limits.document), good, limits.claims()).findings
        finally:
            run("ip", "link", "del", "away0")
    assert finding.id is FindingId.EGRESS_DEVICE
    assert finding.where == "device away0"


def test_x03_a_device_that_moved_to_another_namespace_is_found(cable: World, limits: EgressLimits) -> None:
    good, elsewhere = limits.claims(), f"{cable.node}-2"
    run("ip", "netns", "add", elsewhere)
    try:
        with inside(cable.node):
            run("ip", "link", "set", "up0", "netns", elsewhere)
            try:
                assert limits.notice()
                moved = limits.claims()
            finally:
                run("ip", "-n", elsewhere, "link", "set", "up0", "netns", cable.node)
                _connect_again(cable)
    finally:
        run("ip", "netns", "del", elsewhere)
    assert moved.ruleset == good.ruleset or moved.differs
    findings = judge_rounds(demanding(limits.document), good, moved).findings
    assert (FindingId.EGRESS_DEVICE, "device up0") in {(finding.id, finding.where) for finding in findings}


def _connect_again(cable: World) -> None:
    with suppress(CalledProcessError):
        run("ip", "-n", cable.node, "link", "set", "up0", "up")
        run("ip", "-n", cable.node, "addr", "add", "192.0.2.1/24", "dev", "up0")
