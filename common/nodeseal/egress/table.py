"""The nftables table of an egress document: as the text that ``nft -f`` installs, and as lines that have a digest.

One chain sorts frames by what they really are (the type in the Ethernet header, not what a raw socket says of itself):

- to an enclave prefix: passes, counted;
- ARP, and IP to link-local, multicast and broadcast addresses: limited, since bytes fit into those too;
- other IP: limited in rate, then in volume. The quota stands behind the limit, or it would count what the limit drops;
- VLAN tags of named VLANs: the same by what is inside; any other frame is dropped.

Base chains hook the egress of devices (netdev family, Linux 5.16): ``uplinks``, and ``slaves`` for slaves of bonds,
which may also send LACP (IEEE 802.1AX, type 0x8809), limited. A verdict in one table never overrides a drop in another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from nodeseal.egress.document import EgressDocument, Level, Limits
from nodeseal.ids import Digest

FAMILY: Final = "netdev"
TABLE: Final = "nodeseal"
QUOTA: Final = "volume"
COUNTERS: Final = ("cut", "enclave", "limited", "local", "local_limited", "other", "outside")
"""What each counts: enclave, outside and local what passed; limited, cut, local_limited and other what was dropped."""
PASSED: Final = ("enclave", "local", "outside")
LOCAL: Final = Limits(rate=8192, burst=16_384, volume=0)
"""For ARP, link-local and multicast: 708 MB a day at most. No document widens it."""
PRIORITY: Final = 0
_LACP: Final = 0x8809
_LOCAL4: Final = ("169.254.0.0/16", "224.0.0.0/4", "255.255.255.255")
_LOCAL6: Final = ("fe80::/10", "ff00::/8")


class HookRole(StrEnum):
    """The base chain that hooks a device."""

    UPLINK = "uplinks"
    SLAVE = "slaves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the table that stands now has counted; a table that replaces it goes on from there.

    Attributes:
        counters: bytes by counter.
        packets: packets by counter.
        quota: bytes that the quota has counted.
    """

    counters: Mapping[str, int] = field(default_factory=dict)
    packets: Mapping[str, int] = field(default_factory=dict)
    quota: int = 0


NOTHING_USED: Final = Used()


def render_table(
    document: EgressDocument, level: Level, hooks: Mapping[str, HookRole], used: Used = NOTHING_USED
) -> bytes:
    """Return the commands that replace the table, in one transaction (nft(8), ``-f``).

    nft 1.0.6 reads one statement a line.

    Args:
        document: what is demanded.
        level: which limits.
        hooks: the devices, each with its chain.
        used: what was counted until now.
    """
    limits = document.limits(level)
    body = [
        *(f"counter {name} {{ {_counted(name, used)} }}" for name in COUNTERS),
        f"quota {QUOTA} {{ over {limits.volume} bytes used {used.quota} bytes }}",
        *(_set_text(name, kind, elements) for name, kind, elements in _sets(document)),
    ]
    for chain, rules in _chains(document, limits):
        body += [f"chain {chain} {{", *(f"  {rule.text}" for rule in rules), "}"]
    for role in HookRole:
        body += _base_text(role, sorted(name for name, each in hooks.items() if each is role))
    head = f"table {FAMILY} {TABLE}"
    return "\n".join([head, f"delete {head}", f"{head} {{", *(f"  {line}" for line in body), "}", ""]).encode()


def expected_lines(document: EgressDocument, level: Level, roles: Iterable[HookRole]) -> tuple[str, ...]:
    """Return the table's lines as :func:`~nodeseal.egress.listing.listed_lines` reads them from the kernel.

    Which devices are hooked is no line: it differs from node to node, and nft does not list it.
    """
    limits, wanted = document.limits(level), frozenset(roles)
    lines = [f"table {FAMILY} {TABLE}", *(f"counter {name}" for name in COUNTERS)]
    lines.append(f"quota {QUOTA} over {limits.volume} bytes")
    for name, kind, elements in _sets(document):
        lines += [f"set {name} {kind} interval", *sorted(f"set {name}: {element}" for element in elements)]
    chains = dict(_chains(document, limits))
    bases = {str(role): _base_rules(role) for role in HookRole if role in wanted}
    for chain, rules in sorted({**chains, **bases}.items()):
        hook = f" filter egress {PRIORITY} drop" if chain in bases else ""
        lines += [f"chain {chain}{hook}", *(f"{chain}: {rule.listed}" for rule in rules)]
    return tuple(lines)


def digest_of_lines(lines: Iterable[str]) -> Digest:
    """Return the digest of a table's lines."""
    return Digest(hashlib.sha256("\n".join(lines).encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule as nft reads it, and as its line; nft lists no type of frame that an address implies."""

    text: str
    listed: str


def _chains(document: EgressDocument, limits: Limits) -> Iterator[tuple[str, list[_Rule]]]:
    yield "frames", list(_frames(document))
    yield "local", [_limit(LOCAL, "local_limited"), _same("counter name local accept", "counter local, accept")]
    yield (
        "outside",
        [
            _limit(limits, "limited"),
            _same(f"quota name {QUOTA} counter name cut drop", f"quota {QUOTA}, counter cut, drop"),
            _same("counter name outside accept", "counter outside, accept"),
        ],
    )


def _frames(document: EgressDocument) -> Iterator[_Rule]:
    yield from _kinds("", "", "ether")
    for vlan in document.vlans:
        yield from _kinds(f"ether type vlan vlan id {vlan} ", f"vlan id {vlan}, ", "vlan")
    yield _same("counter name other drop", "counter other, drop")


def _kinds(text: str, listed: str, layer: str) -> Iterator[_Rule]:
    """Sort frames whose type is in the header ``layer``: ``ether``, or ``vlan`` behind a tag."""
    for protocol, name, local in (("ip", "enclave4", _LOCAL4), ("ip6", "enclave6", _LOCAL6)):
        start = f"{text}{layer} type {protocol} {protocol} daddr"
        yield _Rule(
            f"{start} @{name} counter name enclave accept",
            f"{listed}{protocol} daddr @{name}, counter enclave, accept",
        )
        among = "{ " + ", ".join(local) + " }"
        yield _Rule(f"{start} {among} goto local", f"{listed}{protocol} daddr {among}, goto local")
        yield _Rule(f"{text}{layer} type {protocol} goto outside", f"{listed}{layer} type {protocol}, goto outside")
    yield _Rule(f"{text}{layer} type arp goto local", f"{listed}{layer} type arp, goto local")


def _base_rules(role: HookRole) -> list[_Rule]:
    rules = [_same("goto frames", "goto frames")]
    if role is HookRole.SLAVE:
        rules.insert(0, _Rule(f"ether type {_LACP:#06x} goto local", f"ether type {_LACP}, goto local"))
    return rules


def _base_text(role: HookRole, devices: list[str]) -> list[str]:
    if not devices:
        return []
    names = ", ".join(f'"{name}"' for name in devices)
    hook = f"type filter hook egress devices = {{ {names} }} priority {PRIORITY}; policy drop;"
    return [f"chain {role} {{", f"  {hook}", *(f"  {rule.text}" for rule in _base_rules(role)), "}"]


def _limit(limits: Limits, counter: str) -> _Rule:
    over = f"over {limits.rate} bytes/second burst {limits.burst} bytes"
    return _Rule(f"limit rate {over} counter name {counter} drop", f"limit {over}, counter {counter}, drop")


def _same(text: str, listed: str) -> _Rule:
    return _Rule(text, listed)


def _sets(document: EgressDocument) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for version, name, kind in ((4, "enclave4", "ipv4_addr"), (6, "enclave6", "ipv6_addr")):
        yield name, kind, tuple(str(prefix) for prefix in document.enclave if prefix.version == version)


def _set_text(name: str, kind: str, elements: tuple[str, ...]) -> str:
    among = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"set {name} {{ type {kind}; flags interval;{among} }}"


def _counted(name: str, used: Used) -> str:
    return f"packets {used.packets.get(name, 0)} bytes {used.counters.get(name, 0)}"
