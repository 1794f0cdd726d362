"""From a document and an inventory to the devices that are hooked, and those that contradict the document."""

from __future__ import annotations

import pytest

from nodeseal.egress.table import HookRole
from nodeseal.egress.uplinks import NetworkDevice, Trait, hooks_of, relevant
from support.egress import ETHERNET, LOOPBACK, card, with_uplinks

BOND = NetworkDevice(name="bond0", index=10, kind="bond", traits=Trait.ETHER | Trait.DEFAULT | Trait.GATEWAY)
BRIDGE = NetworkDevice(name="br0", index=20, kind="bridge", traits=Trait.ETHER | Trait.DEFAULT | Trait.GATEWAY)
VLAN = NetworkDevice(name="office", index=30, kind="vlan", link=2, vlan=7, traits=Trait.ETHER | Trait.DEFAULT)
POD = NetworkDevice(name="veth1", index=40, kind="veth", master=20, traits=Trait.ETHER)


def test_an_uplink_by_name_is_hooked() -> None:
    hooks = hooks_of(with_uplinks("eth0"), [LOOPBACK, card("eth0", 2)])
    assert hooks == ({"eth0": HookRole.UPLINK}, ())


def test_the_default_route_stands_for_its_devices() -> None:
    routed = card("eth0", 2, traits=ETHERNET | Trait.DEFAULT)
    assert hooks_of(with_uplinks("default-route"), [LOOPBACK, routed]).devices == {"eth0": HookRole.UPLINK}
    assert hooks_of(with_uplinks("default-route"), [LOOPBACK]).problems[0].seen == "no device has a default route"


def test_a_bond_is_hooked_by_its_slaves() -> None:
    hooks = hooks_of(with_uplinks("bond0"), [BOND, card("eth0", 2, master=10), card("eth1", 3, master=10)])
    assert hooks == ({"eth0": HookRole.SLAVE, "eth1": HookRole.SLAVE}, ())


def test_a_slave_that_does_not_belong_to_the_bond_is_refused() -> None:
    hooks = hooks_of(with_uplinks("bond0"), [BOND, card("eth0", 2, master=10), card("eth1", 3)])
    assert [problem.device for problem in hooks.problems] == ["eth1"]


def test_a_bond_without_slaves_is_refused() -> None:
    assert [problem.device for problem in hooks_of(with_uplinks("bond0"), [BOND]).problems] == ["bond0"]


def test_a_bridge_is_hooked_by_its_cards_and_its_virtual_ports_stay_inside() -> None:
    hooks = hooks_of(with_uplinks("default-route"), [BRIDGE, card("eth0", 2, master=20), POD])
    assert hooks == ({"eth0": HookRole.UPLINK}, ())


def test_a_bridge_over_a_bond_is_hooked_by_its_slaves() -> None:
    bond = NetworkDevice(name="bond0", index=10, kind="bond", master=20, traits=Trait.ETHER)
    assert hooks_of(with_uplinks("br0"), [BRIDGE, bond, card("eth0", 2, master=10)]).devices == {"eth0": HookRole.SLAVE}


def test_a_vlan_is_hooked_on_the_device_below_it_whatever_its_name() -> None:
    assert hooks_of(with_uplinks("eth0.7"), [card("eth0", 2), VLAN]) == ({"eth0": HookRole.UPLINK}, ())
    assert hooks_of(with_uplinks("default-route", "eth0.7"), [card("eth0", 2), VLAN]).problems == ()


@pytest.mark.parametrize("uplinks", [("eth0",), ("eth0.8",), ("eth0", "eth1.7"), ("default-route", "eth0")])
def test_a_vlan_that_no_uplink_names_is_refused(uplinks: tuple[str, ...]) -> None:
    hooks = hooks_of(with_uplinks(*uplinks), [card("eth0", 2), card("eth1", 3), VLAN])
    assert ("office", "a VLAN that an uplink names", "VLAN 7 of eth0") in hooks.problems


def test_a_second_card_that_no_uplink_names_is_refused_even_without_a_route() -> None:
    problems = hooks_of(with_uplinks("eth0"), [card("eth0", 2), card("eth1", 3)]).problems
    assert [(problem.device, problem.expected) for problem in problems] == [("eth1", "a device that an uplink names")]


def test_a_virtual_device_with_a_gateway_is_refused() -> None:
    away = NetworkDevice(name="veth9", index=9, kind="veth", traits=Trait.ETHER | Trait.GATEWAY)
    assert [each.device for each in hooks_of(with_uplinks("eth0"), [card("eth0", 2), away]).problems] == ["veth9"]


def test_tunnels_and_pods_are_not_refused_for_they_leave_through_uplinks() -> None:
    tunnel = NetworkDevice(name="wg0", index=9, kind="wireguard", traits=Trait.GATEWAY)
    assert hooks_of(with_uplinks("eth0"), [LOOPBACK, card("eth0", 2), POD, tunnel]).problems == ()


def test_an_uplink_that_is_not_there_is_refused() -> None:
    assert [each.device for each in hooks_of(with_uplinks("eth0", "eth1"), [card("eth0", 2)]).problems] == ["eth1"]


def test_an_uplink_without_ethernet_frames_is_refused_unless_it_is_only_counted() -> None:
    fabric = card("ib0", 5, traits=Trait.HARDWARE)
    assert [each.device for each in hooks_of(with_uplinks("eth0", "ib0"), [card("eth0", 2), fabric]).problems] == [
        "ib0"
    ] * 2
    assert hooks_of(with_uplinks("eth0", counted=("ib0",)), [card("eth0", 2), fabric]).problems == ()


def test_devices_that_stay_inside_are_left_out_of_claims() -> None:
    kept = relevant(with_uplinks("eth0"), ["eth0"], [LOOPBACK, card("eth0", 2), POD, BRIDGE, card("eth9", 9)])
    assert [device.name for device in kept] == ["eth0", "br0", "eth9"]
