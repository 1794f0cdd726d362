"""The egress document: where bytes may go freely, by which devices, and how many may go elsewhere.

.. code-block:: yaml

    enclave: ["10.0.0.0/8", "fd00::/8"]
    uplinks: ["default-route", "bond0", "eth1.100"]
    normal: {rate: 2000000, burst: 131072, volume: 8000000000}
    tight: {rate: 100000, burst: 131072, volume: 1000000000}

The same text is the section ``egress`` of a golden and, with ``format`` before it, the file of a node. Its digest is
the SHA-256 of its canonical JSON, so one spelling of a rule has one digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from nodeseal.documents import Fields, Item, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import Digest, digest_of

EGRESS_FORMAT: Final = "nodeseal/egress/1"
"""The first line of a node's file."""
DEFAULT_ROUTE: Final = "default-route"
"""Instead of a name: the devices that the machine's default routes lead to."""
MAX_PREFIXES: Final = 256
MAX_UPLINKS: Final = 32
MIN_PREFIX_LENGTH: Final = 8
"""A wider prefix would hold most of the internet."""
MIN_RATE: Final = 1024
MAX_RATE: Final = 2**33
"""nft counts nanoseconds times bytes in 64 bits."""
MIN_BURST: Final = 65_536
"""A packet that the network card cuts up later (GSO) has up to 64 KiB and must fit into the bucket."""
MAX_BURST: Final = 2**31
MAX_VOLUME: Final = 2**53 - 1
_DEVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}")
_VLAN: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,14})\.([1-9][0-9]{0,3})")
_LAST_VLAN: Final = 4094

Prefix = IPv4Network | IPv6Network


class Level(StrEnum):
    """How narrow the limits are."""

    NORMAL = "normal"
    TIGHT = "tight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may leave for places outside the enclave.

    Attributes:
        rate: bytes per second.
        burst: bytes that may go at once, on top of one second of the rate.
        volume: bytes from the moment that the machine starts; then nothing more leaves.
    """

    rate: int
    burst: int
    volume: int


@dataclass(frozen=True, slots=True)
class Uplink:
    """A device that may send, or a VLAN of one.

    Attributes:
        device: its name; :data:`DEFAULT_ROUTE` stands for those with a default route.
        vlan: the VLAN on it; 0: none.
    """

    device: str
    vlan: int = 0

    def __str__(self) -> str:
        return f"{self.device}.{self.vlan}" if self.vlan else self.device


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressDocument:
    """What a golden demands of the bytes that leave a machine.

    Attributes:
        enclave: prefixes to which bytes go freely, sorted, none inside another.
        uplinks: the devices that may send, sorted.
        counted: devices that may send without a limit and are only counted, such as those of an RDMA fabric, sorted.
        normal: the limits.
        tight: narrower limits.
    """

    enclave: tuple[Prefix, ...]
    uplinks: tuple[Uplink, ...]
    counted: tuple[str, ...]
    normal: Limits
    tight: Limits

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON."""
        return digest_of(encode_json(egress_plain(self)))

    @property
    def vlans(self) -> tuple[int, ...]:
        """The VLANs whose frames are let through to the limits, ascending."""
        return tuple(sorted({uplink.vlan for uplink in self.uplinks if uplink.vlan}))

    def limits(self, level: Level) -> Limits:
        """Return the limits of one level."""
        return self.tight if level is Level.TIGHT else self.normal


def parse_egress(fields: Fields) -> EgressDocument:
    """Parse the keys of a document.

    Raises:
        MalformedInput: a key is wrong, missing or unknown; the message names source, line and key.
    """
    normal = _take_limits(fields, "normal")
    document = EgressDocument(
        enclave=_take_enclave(fields),
        uplinks=_take_uplinks(fields),
        counted=_take_counted(fields),
        normal=normal,
        tight=_take_tight(fields, normal),
    )
    fields.done()
    return document


def parse_egress_file(fields: Fields) -> EgressDocument:
    """Parse a node's file: the document behind its format.

    Raises:
        MalformedInput: a key is wrong, missing or unknown; the message names source, line and key.
    """
    fields.constant("format", EGRESS_FORMAT)
    return parse_egress(fields)


def egress_plain(document: EgressDocument) -> dict[str, object]:
    """Return the plain values from which text and digest are made; a list that is empty has no key."""
    plain: dict[str, object] = {
        "enclave": [str(prefix) for prefix in document.enclave],
        "uplinks": [str(uplink) for uplink in document.uplinks],
    }
    if document.counted:
        plain["counted"] = list(document.counted)
    for level in Level:
        limits = document.limits(level)
        plain[str(level)] = {"rate": limits.rate, "burst": limits.burst, "volume": limits.volume}
    return plain


def _take_enclave(fields: Fields) -> tuple[Prefix, ...]:
    found: list[Prefix] = []
    for item in fields.each("enclave", max_items=MAX_PREFIXES):
        prefix = _prefix(item)
        if other := next((each for each in found if each.version == prefix.version and each.overlaps(prefix)), None):
            raise item.wrong(f"apart from {other}, which holds some of it", remedy="leave the narrower prefix out")
        found.append(prefix)
    return tuple(sorted(found, key=lambda each: (each.version, int(each.network_address))))


def _prefix(item: Item) -> Prefix:
    text = item.text(max_length=64)
    try:
        prefix = ip_network(text)
    except ValueError as error:
        raise item.wrong('a prefix such as "10.0.0.0/8" or "fd00::/8", without host bits') from error
    if str(prefix) != text:
        raise item.wrong(f"written in its one spelling, {prefix}")
    if prefix.prefixlen < MIN_PREFIX_LENGTH:
        raise item.wrong(f"at least /{MIN_PREFIX_LENGTH}", remedy="name the networks of your machines, one by one")
    if _is_everywhere(prefix):
        raise item.wrong(
            "a network of machines: loopback, link-local and multicast addresses are limited by themselves"
        )
    return prefix


def _is_everywhere(prefix: Prefix) -> bool:
    return any(prefix.version == each.version and prefix.overlaps(each) for each in _NOWHERE)


_NOWHERE: Final = tuple(
    ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/16", "fe80::/10", "ff00::/8")
)
"""This host, loopback, link-local, multicast, broadcast, IPv4 inside IPv6 (RFC 6890): no machine is there."""


def _take_uplinks(fields: Fields) -> tuple[Uplink, ...]:
    found: set[Uplink] = set()
    for item in fields.each("uplinks", max_items=MAX_UPLINKS):
        uplink = _uplink(item)
        if uplink in found:
            raise item.wrong("new: it is there twice")
        found.add(uplink)
    return tuple(sorted(found, key=lambda each: (each.device, each.vlan)))


def _uplink(item: Item) -> Uplink:
    text = item.text(max_length=64)
    if _DEVICE.fullmatch(text):
        return Uplink(text)
    vlan = _VLAN.fullmatch(text)
    if vlan is None or int(vlan[2]) > _LAST_VLAN:
        raise item.wrong(f'the name of a device, "DEVICE.VLAN" with a VLAN from 1 to {_LAST_VLAN}, or {DEFAULT_ROUTE}')
    return Uplink(vlan[1], int(vlan[2]))


def _take_counted(fields: Fields) -> tuple[str, ...]:
    if not fields.has("counted"):
        return ()
    found: list[str] = []
    for item in fields.each("counted", max_items=MAX_UPLINKS):
        name = item.text(max_length=64)
        if not _DEVICE.fullmatch(name) or name == DEFAULT_ROUTE or name in found:
            raise item.wrong("the name of a device, once")
        found.append(name)
    return tuple(sorted(found))


def _take_limits(fields: Fields, key: str) -> Limits:
    each = fields.fields(key)
    limits = Limits(
        rate=each.integer("rate", low=MIN_RATE, high=MAX_RATE),
        burst=each.integer("burst", low=MIN_BURST, high=MAX_BURST),
        volume=each.integer("volume", low=0, high=MAX_VOLUME),
    )
    each.done()
    return limits


def _take_tight(fields: Fields, normal: Limits) -> Limits:
    wrong: MalformedInput = fields.wrong(
        "tight", "at most as wide as normal", remedy="lower its rate, burst and volume"
    )
    tight = _take_limits(fields, "tight")
    if tight.rate > normal.rate or tight.burst > normal.burst or tight.volume > normal.volume:
        raise wrong
    return tight
