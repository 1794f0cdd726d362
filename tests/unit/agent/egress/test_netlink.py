"""Netlink's framing, and what is read from the kernel's answers, without a kernel."""

from __future__ import annotations

import struct
from typing import cast

import pytest

from nodeseal.agent.egress.netlink import (
    Message,
    Netlink,
    attribute,
    attributes,
    each_attribute,
    host_u32,
    messages,
    network_number,
    text_of,
)
from nodeseal.agent.egress.routing import read_routed
from nodeseal.agent.egress.tables import read_flowtables, read_generation, read_hooked, read_use
from nodeseal.egress.uplinks import Trait
from nodeseal.errors import MalformedInput

HEAD = bytes(4)
NAME = attribute(3, b"eth0\0")


class Kernel:
    """Answers every question with the same messages."""

    def __init__(self, *bodies: bytes) -> None:
        self.answers = tuple(Message(0, body) for body in bodies)

    def dump(self, _kind: int, _body: bytes) -> tuple[Message, ...]:
        return self.answers

    def ask(self, _kind: int, _body: bytes) -> Message | None:
        return self.answers[0] if self.answers else None


def kernel(*bodies: bytes) -> Netlink:
    return cast("Netlink", Kernel(*bodies))


def message(body: bytes, kind: int = 20, sequence: int = 7) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body
    return raw + bytes(-len(raw) % 4)


def test_messages_and_attributes_are_read_in_order() -> None:
    raw = message(NAME) + message(attribute(0x8000 | 18, NAME), kind=3, sequence=8)
    assert [(sequence, kind) for _, sequence, (kind, _) in messages(raw)] == [(7, 20), (8, 3)]
    assert attributes(NAME + attribute(1, b"\1\0\0\0")) == {3: b"eth0\0", 1: b"\1\0\0\0"}
    assert attributes(attribute(0x8000 | 18, NAME)) == {18: NAME}, "without the flag for nested attributes"


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_header_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(MalformedInput):
        list(messages(message(NAME)[:cut]))


@pytest.mark.parametrize("length", [0, 3, 200])
def test_a_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedInput):
        attributes(struct.pack("=HH", length, 1) + bytes(8))
    with pytest.raises(MalformedInput):
        list(each_attribute(struct.pack("=HH", length, 1) + bytes(8)))
    with pytest.raises(MalformedInput):
        list(messages(struct.pack("=IHHII", length, 1, 0, 0, 0)))


def test_values_of_attributes() -> None:
    assert text_of(b"eth0\0junk") == "eth0"
    assert (text_of(None), host_u32(None), network_number(None)) == ("", 0, 0)
    assert host_u32(struct.pack("=I", 77)) == network_number(struct.pack(">Q", 77)) == 77


def test_the_generation_names_who_made_it() -> None:
    body = HEAD + attribute(1, struct.pack(">I", 9)) + attribute(2, struct.pack(">I", 77)) + attribute(3, b"nft\0")
    generation = read_generation(kernel(body))
    assert (generation.number, generation.changed_by) == (9, "nft 77")


def counter(table: bytes, name: bytes, size: int) -> bytes:
    data = attribute(1, struct.pack(">Q", size)) + attribute(2, struct.pack(">Q", 2))
    return HEAD + attribute(1, table) + attribute(2, name) + attribute(3, struct.pack(">I", 1)) + attribute(4, data)


def test_counters_of_other_tables_do_not_count() -> None:
    quota = attribute(1, b"nodeseal\0") + attribute(2, b"volume\0") + attribute(3, struct.pack(">I", 2))
    used = HEAD + quota + attribute(4, attribute(4, struct.pack(">Q", 5)))
    found = read_use(kernel(counter(b"nodeseal\0", b"outside\0", 70), counter(b"other\0", b"enclave\0", 9), used))
    assert (found.counters, found.packets, found.quota) == ({"outside": 70}, {"outside": 2}, 5)


def test_hooks_are_read_device_by_device() -> None:
    devices = attribute(1, b"eth0\0") + attribute(1, b"eth1\0")
    hook = attribute(1, struct.pack(">I", 1)) + attribute(4, devices)
    names = attribute(1, b"nodeseal\0") + attribute(3, b"uplinks\0")
    base, plain = HEAD + names + attribute(4, hook), HEAD + names
    assert [(each.chain, each.hook, each.device) for each in read_hooked(kernel(base, plain))] == [
        ("uplinks", "egress", "eth0"),
        ("uplinks", "egress", "eth1"),
    ]


def test_flowtables_are_named() -> None:
    assert read_flowtables(kernel(HEAD + attribute(1, b"fw\0") + attribute(2, b"fast\0"))) == ("fw fast",)


def route(*given: bytes, bits: int = 0, table: int = 254, kind: int = 1) -> bytes:
    return struct.pack("=BBBBBBBBI", 2, bits, 0, 0, table, 0, 0, kind, 0) + b"".join(given)


def out(index: int) -> bytes:
    return attribute(4, struct.pack("=I", index))


GATEWAY = attribute(5, bytes([192, 0, 2, 1]))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (route(out(2), GATEWAY), {2: Trait.DEFAULT | Trait.GATEWAY}),
        (route(out(2)), {2: Trait.DEFAULT}),
        (route(out(2), GATEWAY, bits=8), {2: Trait.GATEWAY}),
        (route(out(2), attribute(18, bytes(18)), bits=8), {2: Trait.GATEWAY}),
        (route(out(2), bits=24), {}),
        (route(out(2), GATEWAY, table=255), {}),
        (route(out(2), GATEWAY, kind=7), {}),
    ],
)
def test_routes_say_which_devices_lead_away(body: bytes, found: dict[int, Trait]) -> None:
    assert read_routed(kernel(body)) == found


def test_each_next_hop_of_a_route_leads_away() -> None:
    hops = b"".join(struct.pack("=HBBi", 8 + len(GATEWAY), 0, 0, index) + GATEWAY for index in (2, 3))
    assert read_routed(kernel(route(attribute(9, hops), bits=8))) == {2: Trait.GATEWAY, 3: Trait.GATEWAY}
