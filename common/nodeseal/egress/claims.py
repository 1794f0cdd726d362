"""What an agent says in every round of its egress limits: part of its claims, which the quote covers.

Only what the quote covers is bound to the node; whether it is true rests on the agent that was measured. The kernel is
asked for everything here when the claims are made, or when netlink last reported a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nodeseal.documents import Fields
from nodeseal.egress.document import Level
from nodeseal.egress.table import COUNTERS, PASSED, HookRole
from nodeseal.egress.uplinks import NetworkDevice, Trait
from nodeseal.ids import Digest, parse_digest

MAX_DEVICES: Final = 24
MAX_LINES: Final = 6
MAX_LINE: Final = 160
MAX_PROGRAMS: Final = 12
MAX_RDMA: Final = 16
_MAX_NAME: Final = 64
_MAX_COUNT: Final = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressClaims:
    """What the kernel of a node has, as its agent read it.

    Attributes:
        document: digest of the file that the agent installs from.
        level: which of its limits.
        ruleset: digest of the table as the kernel lists it; of no lines if there is no table.
        differs: lines in which that differs from the file; the first of many.
        generation: of all tables.
        changes: how often somebody else changed this table since the agent started.
        changed_by: who changed any table last, as far as the kernel said so; empty: not known.
        passed_before: bytes that had passed just before the devices were read.
        counters: bytes by counter, read after the devices.
        quota: bytes that the quota has counted.
        hooks: the devices that the table hooks, with their chains.
        devices: those that can send bytes out of the machine; the first of many.
        more_devices: how many of them were left out.
        programs: filters and programs that may pass bytes on beside the table; the first of many.
        namespaces: how many other network namespaces the agent saw.
        rdma: bytes that RDMA ports have sent, by name of the port; nothing limits them.
    """

    document: Digest
    level: Level
    ruleset: Digest
    differs: tuple[str, ...] = ()
    generation: int = 0
    changes: int = 0
    changed_by: str = ""
    passed_before: int = 0
    counters: Mapping[str, int]
    quota: int = 0
    hooks: Mapping[str, HookRole]
    devices: tuple[NetworkDevice, ...]
    more_devices: int = 0
    programs: tuple[str, ...] = ()
    namespaces: int = 0
    rdma: Mapping[str, int]

    @property
    def passed(self) -> int:
        """Bytes that have passed the table."""
        return sum(self.counters.get(name, 0) for name in PASSED)


def egress_claims_plain(claims: EgressClaims) -> dict[str, object]:
    """Return the plain values, from which canonical JSON is made."""
    return {
        "changed_by": claims.changed_by,
        "changes": claims.changes,
        "counters": {name: claims.counters.get(name, 0) for name in COUNTERS},
        "devices": [_device_plain(device) for device in claims.devices],
        "differs": list(claims.differs),
        "document": claims.document,
        "generation": claims.generation,
        "hooks": {name: str(role) for name, role in sorted(claims.hooks.items())},
        "level": str(claims.level),
        "more_devices": claims.more_devices,
        "namespaces": claims.namespaces,
        "passed_before": claims.passed_before,
        "programs": list(claims.programs),
        "quota": claims.quota,
        "rdma": dict(sorted(claims.rdma.items())),
        "ruleset": claims.ruleset,
    }


def parse_egress_claims(fields: Fields) -> EgressClaims:
    """Parse the plain values.

    Raises:
        MalformedInput: an unknown or missing field, a wrong type, or too much.
    """
    claims = EgressClaims(
        document=parse_digest(fields.text("document")),
        level=_take_level(fields),
        ruleset=parse_digest(fields.text("ruleset")),
        differs=fields.texts("differs", max_items=MAX_LINES, max_length=MAX_LINE),
        generation=_take_count(fields, "generation"),
        changes=_take_count(fields, "changes"),
        changed_by=fields.text("changed_by", max_length=_MAX_NAME),
        passed_before=_take_count(fields, "passed_before"),
        counters=_take_counters(fields.fields("counters")),
        quota=_take_count(fields, "quota"),
        hooks=_take_hooks(fields.fields("hooks"), fields),
        devices=tuple(_device(Fields(item, "claims: devices")) for item in _items(fields)),
        more_devices=_take_count(fields, "more_devices"),
        programs=fields.texts("programs", max_items=MAX_PROGRAMS, max_length=MAX_LINE),
        namespaces=_take_count(fields, "namespaces"),
        rdma=_take_rdma(fields.fields("rdma"), fields),
    )
    fields.done()
    return claims


def _items(fields: Fields) -> tuple[object, ...]:
    return fields.items("devices", max_items=MAX_DEVICES)


def _device_plain(device: NetworkDevice) -> dict[str, object]:
    return {
        "index": device.index,
        "kind": device.kind,
        "link": device.link,
        "master": device.master,
        "name": device.name,
        "sent": device.sent,
        "traits": int(device.traits),
        "vlan": device.vlan,
    }


def _device(fields: Fields) -> NetworkDevice:
    device = NetworkDevice(
        name=fields.text("name", max_length=_MAX_NAME),
        index=_take_count(fields, "index"),
        kind=fields.text("kind", max_length=_MAX_NAME),
        master=_take_count(fields, "master"),
        link=_take_count(fields, "link"),
        vlan=_take_count(fields, "vlan"),
        traits=Trait(fields.integer("traits", low=0, high=sum(Trait))),
        sent=_take_count(fields, "sent"),
    )
    fields.done()
    return device


def _take_count(fields: Fields, key: str) -> int:
    return fields.integer(key, low=0, high=_MAX_COUNT)


def _take_level(fields: Fields) -> Level:
    text = fields.text("level")
    if text not in tuple(Level):
        raise fields.wrong("level", f"one of {', '.join(Level)}")
    return Level(text)


def _take_counters(fields: Fields) -> Mapping[str, int]:
    counters = {name: _take_count(fields, name) for name in COUNTERS}
    fields.done()
    return counters


def _take_hooks(hooks: Fields, fields: Fields) -> Mapping[str, HookRole]:
    names = hooks.keys()
    if len(names) > MAX_DEVICES:
        raise fields.wrong("hooks", f"a mapping of at most {MAX_DEVICES} devices")
    found = {name: hooks.text(name) for name in names}
    if not set(found.values()) <= set(HookRole):
        raise fields.wrong("hooks", f"a mapping of devices to one of {', '.join(HookRole)}")
    return {name: HookRole(role) for name, role in found.items()}


def _take_rdma(ports: Fields, fields: Fields) -> Mapping[str, int]:
    names = ports.keys()
    if len(names) > MAX_RDMA:
        raise fields.wrong("rdma", f"a mapping of at most {MAX_RDMA} ports")
    return {name: _take_count(ports, name) for name in names}
