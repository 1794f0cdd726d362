"""What the kernel says of devices, routes and traffic control through netlink (rtnetlink(7)).

Numbers are those of ``linux/if_link.h``, ``linux/rtnetlink.h`` and ``linux/pkt_sched.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from nodeseal.agent.egress.netlink import Attributes, Message, Netlink, attributes, each_attribute, host_u32, text_of
from nodeseal.egress.uplinks import NetworkDevice, Trait

LINK_GROUP, TC_GROUP, IPV4_ROUTE_GROUP, IPV6_ROUTE_GROUP = 1, 4, 7, 11
CHANGE_GROUPS: Final = (LINK_GROUP, TC_GROUP, IPV4_ROUTE_GROUP, IPV6_ROUTE_GROUP)
_GET_LINK, _GET_ROUTE, _GET_QDISC, _GET_FILTER = 18, 26, 38, 46
_LINK_HEAD: Final = struct.Struct("=BxHiII")
_ROUTE_HEAD: Final = struct.Struct("=BBBBBBBBI")
_TC_HEAD: Final = struct.Struct("=BxHiIII")
_NAME, _LINK, _MASTER, _INFO, _STATS64, _XDP, _PARENT_DEVICE = 3, 5, 10, 18, 23, 43, 56
_INFO_KIND, _INFO_DATA, _VLAN_ID, _XDP_ATTACHED = 1, 2, 1, 2
_ETHERNET, _LOOPBACK = 1, 772
_SENT: Final = struct.Struct("=QQQQ")
"""struct rtnl_link_stats64: packets received and sent, bytes received and sent."""
_UNICAST, _LOCAL_TABLE = 1, 255
_OUT, _GATEWAY, _MULTIPATH, _TABLE, _VIA = 4, 5, 9, 15, 18
_NEXT_HOP: Final = struct.Struct("=HBBi")
_KIND: Final = 1
_CLSACT: Final = 0xFFFF0000
_SIDES: Final = {"ingress": _CLSACT | 0xFFF2, "egress": _CLSACT | 0xFFF3}


class Links(NamedTuple):
    """All devices of this namespace.

    Attributes:
        devices: the devices, without what routes say of them.
        xdp: names of those with an XDP program.
    """

    devices: tuple[NetworkDevice, ...]
    xdp: tuple[str, ...]


def read_links(netlink: Netlink) -> Links:
    """Return all devices.

    Raises:
        Unavailable: the kernel refuses.
    """
    devices, xdp = [], []
    for message in netlink.dump(_GET_LINK, _LINK_HEAD.pack(0, 0, 0, 0, 0)):
        device, has_xdp = _device(message)
        devices.append(device)
        if has_xdp:
            xdp.append(device.name)
    return Links(tuple(devices), tuple(sorted(xdp)))


def read_sent(netlink: Netlink, hooks: Container[str], devices: Iterable[NetworkDevice]) -> tuple[NetworkDevice, ...]:
    """Return devices with what those that are hooked have sent until now; one that is gone keeps its count.

    Raises:
        Unavailable: the kernel refuses.
    """
    return tuple(_now(netlink, device) if device.name in hooks else device for device in devices)


def _now(netlink: Netlink, device: NetworkDevice) -> NetworkDevice:
    answer = netlink.ask(_GET_LINK, _LINK_HEAD.pack(0, 0, device.index, 0, 0))
    return replace(device, sent=_sent(attributes(answer.body[_LINK_HEAD.size :]))) if answer is not None else device


def _sent(found: Attributes) -> int:
    raw = found.get(_STATS64, b"")
    return _SENT.unpack_from(raw)[3] if len(raw) >= _SENT.size else 0


def read_routed(netlink: Netlink) -> dict[int, Trait]:
    """Return, for the number of each device to which a route with a gateway or a default route leads, what it is.

    Raises:
        Unavailable: the kernel refuses.
    """
    found: dict[int, Trait] = {}
    for message in netlink.dump(_GET_ROUTE, _ROUTE_HEAD.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        for index, traits in _routed(message):
            found[index] = found.get(index, Trait(0)) | traits
    return found


def read_filters(netlink: Netlink, devices: Iterable[NetworkDevice]) -> tuple[str, ...]:
    """Return the filters of traffic control on all devices, each as ``tc DEVICE SIDE KIND``.

    Raises:
        Unavailable: the kernel refuses.
    """
    names = {device.index: device.name for device in devices}
    found = set()
    for index, handle, kind in _qdiscs(netlink):
        sides = _SIDES if kind in ("clsact", "ingress") else {"egress": handle}
        for side, parent in sides.items():
            for message in netlink.dump(_GET_FILTER, _TC_HEAD.pack(0, 0, index, 0, parent, 0)):
                name = text_of(attributes(message.body[_TC_HEAD.size :]).get(_KIND))
                found.add(f"tc {names.get(index, index)} {side} {name}")
    return tuple(sorted(found))


def _qdiscs(netlink: Netlink) -> Iterator[tuple[int, int, str]]:
    for message in netlink.dump(_GET_QDISC, _TC_HEAD.pack(0, 0, 0, 0, 0, 0)):
        _, _, index, handle, _, _ = _TC_HEAD.unpack_from(message.body)
        kind = text_of(attributes(message.body[_TC_HEAD.size :]).get(_KIND))
        if kind not in ("noqueue", "mq", "pfifo_fast", "fq_codel", "fq", "pfifo", "bfifo"):
            yield index, handle, kind


def _device(message: Message) -> tuple[NetworkDevice, bool]:
    _, hardware_type, index, _, _ = _LINK_HEAD.unpack_from(message.body)
    found = attributes(message.body[_LINK_HEAD.size :])
    info = attributes(found.get(_INFO, b""))
    kind = text_of(info.get(_INFO_KIND))
    vlan = attributes(info.get(_INFO_DATA, b"")).get(_VLAN_ID, b"") if kind == "vlan" else b""
    traits = Trait(0)
    if hardware_type == _ETHERNET:
        traits |= Trait.ETHER
    if hardware_type == _LOOPBACK:
        traits |= Trait.LOOPBACK
    elif _PARENT_DEVICE in found or not kind:
        traits |= Trait.HARDWARE
    device = NetworkDevice(
        name=text_of(found.get(_NAME)),
        index=index,
        kind=kind,
        master=host_u32(found.get(_MASTER)),
        link=host_u32(found.get(_LINK)) if kind == "vlan" else 0,
        vlan=host_u32(vlan.ljust(4, b"\0")) if vlan else 0,
        traits=traits,
        sent=_sent(found),
    )
    xdp = attributes(found.get(_XDP, b""))
    return device, any(xdp.get(_XDP_ATTACHED, b""))


def _routed(message: Message) -> Iterator[tuple[int, Trait]]:
    _, bits, _, _, table, _, _, kind, _ = _ROUTE_HEAD.unpack_from(message.body)
    if kind != _UNICAST or table == _LOCAL_TABLE:
        return
    found = attributes(message.body[_ROUTE_HEAD.size :])
    traits = Trait(0) if bits else Trait.DEFAULT
    if _GATEWAY in found or _VIA in found:
        traits |= Trait.GATEWAY
    if _OUT in found and traits:
        yield host_u32(found[_OUT]), traits
    yield from _next_hops(found.get(_MULTIPATH, b""), traits)


def _next_hops(raw: bytes, traits: Trait) -> Iterator[tuple[int, Trait]]:
    at = 0
    while at + _NEXT_HOP.size <= len(raw):
        length, _, _, index = _NEXT_HOP.unpack_from(raw, at)
        if not _NEXT_HOP.size <= length <= len(raw) - at:
            return
        inside = dict(each_attribute(raw[at + _NEXT_HOP.size : at + length]))
        through = Trait.GATEWAY if _GATEWAY in inside or _VIA in inside else Trait(0)
        if traits | through:
            yield index, traits | through
        at += (length + 3) & ~3
