"""x01: raw frames, VLAN tags, QDISC_BYPASS, IPv6, fragments, tunnels: limited, dropped or counted."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from nodeseal.agent.egress.limits import EgressLimits
from nodeseal.egress.table import LOCAL
from support.namespaces import ENCLAVE4, ENCLAVE6, OUTSIDE4, OUTSIDE6, World

RATE, BURST, VOLUME = 400_000, 65_536, 600_000
HEAD = bytes.fromhex("02ffffffff01") + bytes.fromhex("02ffffffff02")
IP, IP6, ARP, LACP, VLAN, OTHER = 0x0800, 0x86DD, 0x0806, 0x8809, 0x8100, 0x88B5
PAYLOAD = bytes(1400)
FRAMES = 150


def ip(address: str, protocol: int = 17, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(PAYLOAD), 1, fragment, 64, protocol, 0)
    return head + ip_address("192.0.2.1").packed + ip_address(address).packed + PAYLOAD


def frame(kind: int, payload: bytes, tag: int | None = None) -> bytes:
    tagged = struct.pack(">HH", VLAN, tag) if tag is not None else b""
    return HEAD + tagged + struct.pack(">H", kind) + payload


@pytest.mark.parametrize("flows", [1, 8])
@pytest.mark.parametrize("address", [OUTSIDE4, OUTSIDE6])
def test_x01_bytes_outside_the_enclave_keep_to_rate_and_volume(
    cable: World, limits: EgressLimits, address: str, flows: int
) -> None:
    before = cable.arrived()
    seconds = cable.flood(address, size=4 * VOLUME, flows=flows)
    rate_bound = RATE * (seconds + 1) + BURST
    arrived = cable.arrived() - before
    assert BURST < arrived <= min(rate_bound, VOLUME) + LOCAL.rate + LOCAL.burst
    counters = limits.claims().counters
    assert counters["limited"] + counters["cut"] > 0
    assert counters["outside"] <= VOLUME


def test_x01_the_volume_holds_when_the_rate_no_longer_does(cable: World, limits: EgressLimits) -> None:
    before = cable.arrived()
    for _ in range(5000):
        cable.flood(OUTSIDE4, size=RATE)
        if limits.claims().counters["cut"]:
            break
    assert limits.claims().counters["cut"] > 0
    assert cable.arrived() - before <= VOLUME + LOCAL.rate + LOCAL.burst


@pytest.mark.parametrize("address", [ENCLAVE4, ENCLAVE6])
def test_x01_bytes_to_the_enclave_pass_even_after_the_volume_is_spent(
    cable: World, limits: EgressLimits, address: str
) -> None:
    cable.flood(OUTSIDE4, size=2 * VOLUME)
    before, size = cable.arrived(), 4 * VOLUME
    cable.flood(address, size=size)
    assert cable.arrived() - before >= size
    assert limits.claims().counters["enclave"] >= size


DROPPED = {
    "another type": (frame(OTHER, PAYLOAD), 0),
    "another type that says it is IP to the enclave": (frame(OTHER, ip(ENCLAVE4)), IP),
    "LACP on a device that is no slave": (frame(LACP, PAYLOAD), 0),
    "a VLAN that no uplink names": (frame(IP, ip(ENCLAVE4), tag=9), 0),
    "a VLAN that no uplink names and that says it is IP": (frame(IP, ip(ENCLAVE4), tag=9), IP),
    "two tags": (frame(VLAN, struct.pack(">HH", 7, IP) + ip(ENCLAVE4), tag=7), 0),
    "another type behind a named tag": (frame(OTHER, PAYLOAD, tag=7), 0),
}


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("what", DROPPED)
def test_x01_frames_that_nobody_needs_are_dropped_and_counted(
    cable: World, limits: EgressLimits, what: str, *, bypass: bool
) -> None:
    sent, protocol = DROPPED[what]
    before = cable.arrived()
    cable.send_frames(sent, FRAMES, protocol, bypass=bypass)
    assert limits.claims().counters["other"] >= FRAMES * len(PAYLOAD)
    assert cable.arrived() - before <= LOCAL.rate + LOCAL.burst


LIMITED = {
    "raw IP": frame(IP, ip(OUTSIDE4)),
    "later fragments": frame(IP, ip(OUTSIDE4, fragment=100)),
    "IP in IP": frame(IP, ip(OUTSIDE4, protocol=4)),
    "GRE": frame(IP, ip(OUTSIDE4, protocol=47)),
    "a named VLAN": frame(IP, ip(OUTSIDE4), tag=7),
    "raw IPv6": frame(
        IP6, b"\x60" + bytes(7) + ip_address("2001:db8::1").packed + ip_address(OUTSIDE6).packed + PAYLOAD
    ),
}


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("what", LIMITED)
def test_x01_raw_packets_are_limited_as_others_are(
    cable: World, limits: EgressLimits, what: str, *, bypass: bool
) -> None:
    before, count = cable.arrived(), 2 * VOLUME // len(PAYLOAD)
    cable.send_frames(LIMITED[what], count, bypass=bypass)
    counters = limits.claims().counters
    assert counters["outside"] + counters["limited"] + counters["cut"] >= count * len(PAYLOAD)
    assert cable.arrived() - before <= VOLUME + LOCAL.rate + LOCAL.burst


PAYLOADS_OF_OTHERS = {
    "payload in ARP": frame(ARP, PAYLOAD),
    "multicast": frame(IP, ip("224.0.0.1")),
    "link-local": frame(IP, ip("169.254.1.1")),
    "IPv6 multicast": frame(
        IP6, b"\x60" + bytes(7) + ip_address("fe80::1").packed + ip_address("ff02::1").packed + PAYLOAD
    ),
    "ARP in a named VLAN": frame(ARP, PAYLOAD, tag=7),
}


@pytest.mark.parametrize("what", PAYLOADS_OF_OTHERS)
def test_x01_payload_in_arp_and_multicast_is_limited_and_counted(cable: World, limits: EgressLimits, what: str) -> None:
    before = cable.arrived()
    cable.send_frames(PAYLOADS_OF_OTHERS[what], FRAMES)
    counters = limits.claims().counters
    assert counters["local"] + counters["local_limited"] >= FRAMES * len(PAYLOAD)
    assert cable.arrived() - before <= 5 * LOCAL.rate + LOCAL.burst
