"""x06: redirects by traffic control and XDP from a device without the hook, and other ways around the table.

Payload in ARP, multicast and VLANs that nobody named is in x01, since the same frames show it; bonds are in the tests
of ``nodeseal.egress.uplinks``, because not every kernel has them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeseal.agent.egress.limits import EgressLimits
from nodeseal.findings import FindingId
from support.egress_rounds import demanding, judge_rounds
from support.namespaces import World, inside, run

SIZE = 4 * 1024 * 1024
FRAME = bytes.fromhex("02ffffffff01" + "02ffffffff02" + "88b5") + bytes(1486)


@pytest.fixture
def detour(cable: World) -> Iterator[None]:
    """A device without the hook, whose frames traffic control sends out through the uplink."""
    with inside(cable.node):
        run("ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1")
        for device in ("in0", "in1"):
            run("ip", "link", "set", device, "up")
        run("tc", "qdisc", "add", "dev", "in0", "clsact")
        match = ("u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "up0")
        run("tc", "filter", "add", "dev", "in0", "ingress", "protocol", "all", *match)
        yield
        run("ip", "link", "del", "in0")


@pytest.mark.usefixtures("detour")
def test_x06_a_redirect_passes_the_table_and_is_found_by_the_filter_and_by_the_bytes(
    cable: World, limits: EgressLimits
) -> None:
    good = limits.claims()
    before = cable.arrived()
    cable.send_frames(FRAME, SIZE // len(FRAME), device="in1")
    assert cable.arrived() - before > SIZE // 2, "the attack works: no counter sees it"
    claims = limits.claims()
    assert claims.passed - good.passed < SIZE // 10
    outcome = judge_rounds(demanding(limits.document), good, claims)
    assert {FindingId.EGRESS_PROGRAM, FindingId.EGRESS_UNEXPLAINED} <= {finding.id for finding in outcome.findings}
    assert "tc in0 ingress u32" in {finding.seen for finding in outcome.findings}


@pytest.mark.usefixtures("detour")
def test_x06_bytes_stay_found_after_the_filter_has_gone(cable: World, limits: EgressLimits) -> None:
    good = limits.claims()
    cable.send_frames(FRAME, SIZE // len(FRAME), device="in1")
    with inside(cable.node):
        run("tc", "qdisc", "del", "dev", "in0", "clsact")
    after = limits.claims()
    assert after.programs == ()
    outcome = judge_rounds(demanding(limits.document), good, after, after)
    assert [finding.id for finding in outcome.findings] == [FindingId.EGRESS_UNEXPLAINED]


@pytest.mark.usefixtures("detour")
def test_x06_a_filter_starts_a_round_by_itself(cable: World, limits: EgressLimits) -> None:
    limits.claims()
    with inside(cable.node):
        run("tc", "filter", "del", "dev", "in0", "ingress")
        assert limits.notice()
