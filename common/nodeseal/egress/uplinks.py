"""Which devices must carry the table, and which may not be there: from a document and an inventory of all devices.

Bytes leave a machine through hardware. They pass the egress hook of a device whenever they go out through it,
whatever bridge, VLAN or tunnel they came from. So hooks belong on the lowest devices: slaves of a bond, ports of a
bridge. A device that sends and that no uplink names is a problem, and so is a VLAN that no uplink names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, NamedTuple

from nodeseal.egress.document import DEFAULT_ROUTE, EgressDocument
from nodeseal.egress.table import HookRole

BOND: Final = "bond"
BRIDGE: Final = "bridge"
VLAN: Final = "vlan"
_PASSING: Final = frozenset(
    {"bareudp", "bond", "bridge", "erspan", "geneve", "gre", "gretap", "ifb", "ip6gre", "ip6gretap", "ip6tnl", "ipip"}
    | {"ipvlan", "ipvtap", "macsec", "macvlan", "macvtap", "netkit", "sit", "team", "vlan", "vrf", "vti", "vti6"}
    | {"vxlan", "wireguard", "xfrm"}
)
"""Kinds of virtual devices whose bytes leave through another device, where they are limited and counted."""


class Trait(IntFlag):
    """What is known of a device."""

    ETHER = 1
    """Its frames have an Ethernet header."""
    HARDWARE = 2
    """It has a parent on a bus."""
    GATEWAY = 4
    """A route with a gateway leads to it."""
    DEFAULT = 8
    """A default route leads to it."""
    LOOPBACK = 16


NO_TRAIT: Final = Trait(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDevice:
    """One network device, as the kernel lists it.

    Attributes:
        name: its name.
        index: its number, which is never used again before the machine restarts.
        kind: of a virtual device, such as ``bond``; empty: hardware, or loopback.
        master: number of the bond or bridge that it belongs to; 0: none.
        link: number of the device below it; 0: none.
        vlan: its VLAN, if it is one; else 0.
        traits: what is known of it.
        sent: bytes that it has sent.
    """

    name: str
    index: int
    kind: str = ""
    master: int = 0
    link: int = 0
    vlan: int = 0
    traits: Trait = NO_TRAIT
    sent: int = 0


class Problem(NamedTuple):
    """A device that is not as the document demands.

    Attributes:
        device: its name.
        expected: what the document demands.
        seen: what it is.
    """

    device: str
    expected: str
    seen: str


class Hooks(NamedTuple):
    """What a document means on one machine.

    Attributes:
        devices: the devices to hook, with their chains.
        problems: what contradicts the document.
    """

    devices: Mapping[str, HookRole]
    problems: tuple[Problem, ...]


def hooks_of(document: EgressDocument, devices: Iterable[NetworkDevice]) -> Hooks:
    """Find the devices to hook, and what contradicts the document."""
    found = _HookFinder(document, tuple(devices))
    found.follow_uplinks()
    found.look_at_rest()
    return Hooks(dict(sorted(found.hooks.items())), tuple(found.problems))


def relevant(
    document: EgressDocument, hooked: Iterable[str], devices: Iterable[NetworkDevice]
) -> Iterator[NetworkDevice]:
    """Iterate over the devices on which :func:`hooks_of` depends, and those that are hooked."""
    names = {*hooked, *document.counted, *(uplink.device for uplink in document.uplinks)}
    for device in devices:
        matters = device.traits & (Trait.HARDWARE | Trait.GATEWAY | Trait.DEFAULT) or device.kind in (
            BOND,
            BRIDGE,
            VLAN,
        )
        if device.name in names or (matters and not device.traits & Trait.LOOPBACK):
            yield device


class _HookFinder:
    def __init__(self, document: EgressDocument, devices: tuple[NetworkDevice, ...]) -> None:
        self._document: Final = document
        self._devices: Final = devices
        self._by_name: Final = {device.name: device for device in devices}
        self._by_index: Final = {device.index: device for device in devices}
        self.hooks: Final[dict[str, HookRole]] = {}
        self.problems: Final[list[Problem]] = []

    def follow_uplinks(self) -> None:
        for name in dict.fromkeys(uplink.device for uplink in self._document.uplinks):
            if name == DEFAULT_ROUTE:
                for device in self._devices:
                    if device.traits & Trait.DEFAULT:
                        self._hook(device, HookRole.UPLINK)
            elif name in self._by_name:
                self._hook(self._by_name[name], HookRole.UPLINK)
            else:
                self.problems.append(Problem(name, "a device of this name", "none"))

    def look_at_rest(self) -> None:
        if not self.hooks and not self.problems:
            self.problems.append(Problem(DEFAULT_ROUTE, "an uplink", "no device has a default route"))
        for device in self._devices:
            if device.name in self.hooks or device.name in self._document.counted or device.traits & Trait.LOOPBACK:
                continue
            if device.kind == VLAN and not self._is_named(device):
                self._refuse(device, "a VLAN that an uplink names", f"VLAN {device.vlan} of {self._below(device)}")
            elif self._leads_out(device):
                self._refuse(device, "a device that an uplink names", "another one, which sends")

    def _hook(self, device: NetworkDevice, role: HookRole) -> None:
        """Hook a device, or what is below it."""
        expand = _EXPAND.get(device.kind)
        if expand is not None:
            expand(self, device)
        elif device.kind not in _PASSING and not device.traits & Trait.ETHER:
            self._refuse(device, "a device with Ethernet frames", "another kind, which cannot be limited")
        elif device.kind not in _PASSING and not device.traits & Trait.LOOPBACK:
            self.hooks[device.name] = role

    def hook_slaves(self, device: NetworkDevice) -> None:
        """Hook the slaves of a bond."""
        slaves = [each for each in self._devices if each.master == device.index]
        for slave in slaves:
            self._hook(slave, HookRole.SLAVE)
        if not slaves:
            self._refuse(device, "a bond with slaves", "none")

    def hook_ports(self, device: NetworkDevice) -> None:
        """Hook the ports of a bridge that lead out of the machine."""
        for port in self._devices:
            if port.master == device.index and (port.traits & Trait.HARDWARE or port.kind in _EXPAND):
                self._hook(port, HookRole.UPLINK)

    def hook_parent(self, device: NetworkDevice) -> None:
        """Hook what is below a VLAN, if an uplink names the VLAN."""
        if self._is_named(device) and device.link in self._by_index:
            self._hook(self._by_index[device.link], HookRole.UPLINK)

    def _is_named(self, device: NetworkDevice) -> bool:
        below = self._below(device)
        return any(each.vlan == device.vlan and each.device == below for each in self._document.uplinks)

    def _below(self, device: NetworkDevice) -> str:
        below = self._by_index.get(device.link)
        return below.name if below is not None else f"device {device.link}"

    def _leads_out(self, device: NetworkDevice) -> bool:
        return bool(device.traits & Trait.HARDWARE) or (
            bool(device.traits & (Trait.GATEWAY | Trait.DEFAULT)) and device.kind not in _PASSING
        )

    def _refuse(self, device: NetworkDevice, expected: str, seen: str) -> None:
        problem = Problem(device.name, expected, seen)
        if problem not in self.problems:
            self.problems.append(problem)


_EXPAND: Final[Mapping[str, Callable[[_HookFinder, NetworkDevice], None]]] = {
    BOND: _HookFinder.hook_slaves,
    BRIDGE: _HookFinder.hook_ports,
    VLAN: _HookFinder.hook_parent,
}
