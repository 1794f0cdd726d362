"""Egress for tests: one document, and devices as the kernel would list them."""

from __future__ import annotations

from dataclasses import replace

from nodeseal.egress.claims import EgressClaims
from nodeseal.egress.document import EgressDocument, Level, parse_egress
from nodeseal.egress.table import COUNTERS, HookRole, digest_of_lines, expected_lines
from nodeseal.egress.uplinks import NetworkDevice, Trait
from nodeseal.settings import parse_yaml

DOCUMENT = b"""\
enclave: ["10.77.0.0/24", "fd77::/64"]
uplinks: ["up0", "up0.7"]
normal: {rate: 2000000, burst: 131072, volume: 8000000}
tight: {rate: 100000, burst: 65536, volume: 1000000}
"""
ETHERNET = Trait.ETHER | Trait.HARDWARE


def document(text: bytes = DOCUMENT) -> EgressDocument:
    """Return the document of a text."""
    return parse_egress(parse_yaml(text, "egress.yaml"))


def with_uplinks(*names: str, counted: tuple[str, ...] = ()) -> EgressDocument:
    """Return the document with other uplinks."""
    listed = ", ".join(f'"{name}"' for name in names)
    text = DOCUMENT.replace(b'"up0", "up0.7"', listed.encode())
    return document(text + (f"counted: {list(counted)}\n".replace("'", '"').encode() if counted else b""))


def card(name: str, index: int, *, master: int = 0, sent: int = 0, traits: Trait = ETHERNET) -> NetworkDevice:
    """Return a network card."""
    return NetworkDevice(name=name, index=index, master=master, sent=sent, traits=traits)


LOOPBACK = NetworkDevice(name="lo", index=1, traits=Trait.LOOPBACK)


def claims_of(
    wanted: EgressDocument | None = None, *, sent: int = 0, passed: int = 0, **changes: object
) -> EgressClaims:
    """Return the claims of a node that has what a document demands, with one card ``up0`` that sent some bytes."""
    wanted = wanted or document()
    hooks = {"up0": HookRole.UPLINK}
    good = EgressClaims(
        document=wanted.digest,
        level=Level.NORMAL,
        ruleset=digest_of_lines(expected_lines(wanted, Level.NORMAL, hooks.values())),
        passed_before=passed,
        counters=dict.fromkeys(COUNTERS, 0) | {"outside": passed},
        quota=passed,
        hooks=hooks,
        devices=(card("up0", 2, sent=sent),),
        rdma={},
    )
    return replace(good, **changes)  # type: ignore[arg-type]  # tests name fields
