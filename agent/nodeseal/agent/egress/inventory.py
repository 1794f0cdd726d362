"""The inventory of a node: its devices with their routes, and all that may pass bytes on beside the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nodeseal.agent.egress.bpf import read_programs
from nodeseal.agent.egress.host import count_namespaces
from nodeseal.agent.egress.netlink import Netlink
from nodeseal.agent.egress.routing import read_filters, read_links, read_routed
from nodeseal.agent.egress.tables import Hooked, read_flowtables, read_hooked
from nodeseal.egress.table import TABLE, HookRole
from nodeseal.egress.uplinks import NetworkDevice, Trait

_ROLES: Final = {str(role): role for role in HookRole}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What was there when the kernel was last asked.

    Attributes:
        devices: all devices of this namespace.
        hooks: those that our table hooks, with their chains.
        programs: filters, programs and foreign chains on devices, and flowtables.
        namespaces: how many other network namespaces the agent saw.
    """

    devices: tuple[NetworkDevice, ...]
    hooks: dict[str, HookRole]
    programs: tuple[str, ...]
    namespaces: int


def walk(tables: Netlink, routing: Netlink) -> Inventory:
    """Ask the kernel for all of it.

    Raises:
        Unavailable: the kernel refuses.
    """
    links, routed = read_links(routing), read_routed(routing)
    devices = tuple(
        replace(device, traits=device.traits | routed.get(device.index, Trait(0))) for device in links.devices
    )
    hooked = read_hooked(tables)
    programs = (
        *(f"xdp {name}" for name in links.xdp),
        *read_filters(routing, devices),
        *read_programs(devices),
        *_foreign(hooked),
        *(f"flowtable {name}" for name in read_flowtables(tables)),
    )
    return Inventory(devices=devices, hooks=_ours(hooked), programs=programs, namespaces=count_namespaces())


def _ours(hooked: tuple[Hooked, ...]) -> dict[str, HookRole]:
    return {
        each.device: _ROLES[each.chain]
        for each in hooked
        if each.table == TABLE and each.hook == "egress" and each.chain in _ROLES
    }


def _foreign(hooked: tuple[Hooked, ...]) -> Iterator[str]:
    for each in hooked:
        if each.table != TABLE:
            yield f"nft {each.hook} {each.device} table {each.table} chain {each.chain}"
