"""What the kernel says of nftables through netlink: generation, counters, and what is hooked where.

Numbers are those of ``linux/netfilter/nf_tables.h``. A steady round asks only this, because it takes microseconds,
while the program nft takes tens of milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from nodeseal.agent.egress.netlink import (
    Netlink,
    attribute,
    attributes,
    each_attribute,
    network_number,
    text_of,
)
from nodeseal.egress.table import QUOTA, TABLE, Used

NFTABLES_GROUP: Final = 7
"""NFNLGRP_NFTABLES: changes of tables."""
_SUBSYSTEM: Final = 10 << 8
_GET_CHAIN, _GET_GENERATION, _GET_OBJECTS, _GET_FLOWTABLES = (_SUBSYSTEM | number for number in (4, 16, 19, 23))
_ANY_FAMILY, _NETDEV = 0, 5
_GENERATION_ID, _GENERATION_PID, _GENERATION_NAME = 1, 2, 3
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 3, 4
_HOOK_NUMBER, _HOOK_DEVICE, _HOOK_DEVICES = 1, 3, 4
_OBJECT_TABLE, _OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA = 1, 2, 3, 4
_COUNTER, _QUOTA = 1, 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_QUOTA_USED: Final = 4
_FLOWTABLE_TABLE, _FLOWTABLE_NAME = 1, 2
_HOOK_NAMES: Final = {0: "ingress", 1: "egress"}


@dataclass(frozen=True, slots=True)
class Generation:
    """Which generation of all tables is in force, and the process that made it.

    Attributes:
        number: it grows by each change.
        changed_by: name and number of the process.
    """

    number: int
    changed_by: str


class Hooked(NamedTuple):
    """A base chain of the family netdev on one device."""

    table: str
    chain: str
    hook: str
    device: str


def read_generation(netlink: Netlink) -> Generation:
    """Return the generation in force.

    Raises:
        Unavailable: the kernel refuses.
    """
    answer = netlink.ask(_GET_GENERATION, _head(_ANY_FAMILY))
    found = attributes(answer.body[4:]) if answer is not None else {}
    name, pid = text_of(found.get(_GENERATION_NAME)), network_number(found.get(_GENERATION_PID))
    return Generation(network_number(found.get(_GENERATION_ID)), f"{name} {pid}")


def read_use(netlink: Netlink) -> Used:
    """Return what the counters and the quota of our table have counted.

    Raises:
        Unavailable: the kernel refuses.
    """
    counters: dict[str, int] = {}
    packets: dict[str, int] = {}
    quota = 0
    table = attribute(_OBJECT_TABLE, TABLE.encode() + b"\0")
    for message in netlink.dump(_GET_OBJECTS, _head(_NETDEV) + table):
        found = attributes(message.body[4:])
        if text_of(found.get(_OBJECT_TABLE)) != TABLE:
            continue
        name, data = text_of(found.get(_OBJECT_NAME)), attributes(found.get(_OBJECT_DATA, b""))
        kind = network_number(found.get(_OBJECT_TYPE))
        if kind == _COUNTER:
            counters[name] = network_number(data.get(_COUNTER_BYTES))
            packets[name] = network_number(data.get(_COUNTER_PACKETS))
        elif kind == _QUOTA and name == QUOTA:
            quota = network_number(data.get(_QUOTA_USED))
    return Used(counters=counters, packets=packets, quota=quota)


def read_hooked(netlink: Netlink) -> tuple[Hooked, ...]:
    """Return the base chains of the family netdev, device by device.

    Raises:
        Unavailable: the kernel refuses.
    """
    return tuple(_each_hooked(netlink))


def read_flowtables(netlink: Netlink) -> tuple[str, ...]:
    """Return the flowtables of all tables, which pass packets on before any chain sees them.

    Raises:
        Unavailable: the kernel refuses.
    """
    found = []
    for message in netlink.dump(_GET_FLOWTABLES, _head(_ANY_FAMILY)):
        facts = attributes(message.body[4:])
        found.append(f"{text_of(facts.get(_FLOWTABLE_TABLE))} {text_of(facts.get(_FLOWTABLE_NAME))}")
    return tuple(sorted(found))


def _each_hooked(netlink: Netlink) -> Iterator[Hooked]:
    for message in netlink.dump(_GET_CHAIN, _head(_NETDEV)):
        chain = attributes(message.body[4:])
        if _CHAIN_HOOK not in chain:
            continue
        hook = attributes(chain[_CHAIN_HOOK])
        number = network_number(hook.get(_HOOK_NUMBER))
        names = {text_of(hook.get(_HOOK_DEVICE))} | {
            text_of(value) for _, value in each_attribute(hook.get(_HOOK_DEVICES, b""))
        }
        for name in sorted(names - {""}):
            yield Hooked(
                text_of(chain.get(_CHAIN_TABLE)),
                text_of(chain.get(_CHAIN_NAME)),
                _HOOK_NAMES.get(number, f"hook {number}"),
                name,
            )


def _head(family: int) -> bytes:
    """Return struct nfgenmsg: family, version 0, no resource."""
    return struct.pack("=BBH", family, 0, 0)
