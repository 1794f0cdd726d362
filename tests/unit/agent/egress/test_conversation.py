"""Conversations with the kernel over a socket that this test holds the other end of."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import Any, cast

import pytest

from nodeseal.agent.egress.netlink import Netlink, attribute
from nodeseal.agent.egress.watch import Watch
from nodeseal.errors import Unavailable

KERNEL, SOMEBODY = 0, 4711
NEW_RULE, NEW_GENERATION = 10 << 8 | 6, 10 << 8 | 15
NETDEV, IPV4 = bytes([5, 0, 0, 0]), bytes([2, 0, 0, 0])


def framed(kind: int, body: bytes, *, sequence: int = 1, flags: int = 0) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return raw + bytes(-len(raw) % 4)


def error(code: int) -> bytes:
    return framed(2, struct.pack("=i", -code) + bytes(16))


DONE = framed(3, bytes(4))


class FakeSocket:
    """Gives what it was made with, each with the port that it came from; then nothing is there."""

    def __init__(self, given: Iterable[tuple[bytes, int] | OSError]) -> None:
        self.given = list(given)

    def send(self, raw: bytes) -> int:
        return len(raw)

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.given:
            raise BlockingIOError
        found = self.given.pop(0)
        if isinstance(found, OSError):
            raise found
        return found[0], (found[1], 0)

    def recv(self, size: int) -> bytes:
        return self.recvfrom(size)[0]


def netlink(*given: tuple[bytes, int] | OSError) -> Netlink:
    made = cast("Any", Netlink.__new__(Netlink))
    made.socket, made._sequence = FakeSocket(given), 0
    return cast("Netlink", made)


def watch(*tables: tuple[bytes, int] | OSError, routing: tuple[tuple[bytes, int], ...] = ()) -> Watch:
    made = cast("Any", Watch.__new__(Watch))
    made.tables, made.routing = netlink(*tables), netlink(*routing)
    return cast("Watch", made)


def test_a_dump_ends_with_the_kernels_word() -> None:
    found = netlink((framed(20, b"one!"), KERNEL), (framed(20, b"two!") + DONE, KERNEL)).dump(22, b"")
    assert [message.body for message in found] == [b"one!", b"two!"]


def test_what_another_process_sends_to_our_port_is_dropped() -> None:
    forged = framed(20, b"lie!") + DONE
    found = netlink((forged, SOMEBODY), (framed(20, b"true") + DONE, KERNEL)).dump(22, b"")
    assert [message.body for message in found] == [b"true"]


def test_an_answer_to_an_earlier_question_is_dropped() -> None:
    late = framed(20, b"late", sequence=0)
    answer = netlink((late, KERNEL), (framed(20, b"mine"), KERNEL)).ask(18, b"")
    assert answer is not None
    assert answer.body == b"mine"


def test_a_list_that_changed_while_it_was_read_is_read_anew() -> None:
    broken = framed(20, b"half", flags=0x10)
    whole = framed(20, b"all!", sequence=2) + framed(3, bytes(4), sequence=2)
    assert [each.body for each in netlink((broken, KERNEL), (whole, KERNEL)).dump(22, b"")] == [b"all!"]
    always = [(framed(20, b"half", flags=0x10, sequence=number), KERNEL) for number in (1, 2, 3)]
    with pytest.raises(Unavailable, match="too fast"):
        netlink(*always).dump(22, b"")


def test_what_does_not_exist_is_empty_and_a_refusal_says_what_is_missing() -> None:
    assert netlink((error(errno.ENOENT), KERNEL)).dump(22, b"") == ()
    with pytest.raises(Unavailable) as refusal:
        netlink((error(errno.EPERM), KERNEL)).dump(22, b"")
    assert "egress.conf" in refusal.value.remedy


def change(table: bytes, family: bytes = NETDEV) -> bytes:
    return framed(NEW_RULE, family + attribute(1, table + b"\0"))


def made_by(name: bytes) -> bytes:
    return framed(NEW_GENERATION, bytes(4) + attribute(2, struct.pack(">I", 77)) + attribute(3, name + b"\0"))


def test_a_transaction_on_our_table_counts_once_and_names_who_made_it() -> None:
    one = change(b"nodeseal") + change(b"nodeseal") + made_by(b"nft")
    assert watch((one, KERNEL), (one, KERNEL)).look() == (True, 2, "nft 77")


@pytest.mark.parametrize("other", [change(b"filter"), change(b"nodeseal", IPV4)])
def test_transactions_on_other_tables_are_changes_but_not_of_ours(other: bytes) -> None:
    assert watch((other + made_by(b"kube"), KERNEL)).look() == (True, 0, "kube 77")


def test_reports_that_were_lost_count_as_a_change_of_our_table() -> None:
    changes = watch(OSError(errno.ENOBUFS, "no buffer space")).look()
    assert (changes.any, changes.ours) == (True, 1)


def test_a_forged_report_says_nothing() -> None:
    assert watch((change(b"nodeseal") + made_by(b"evil"), SOMEBODY)).look() == (False, 0, "")


def test_a_change_of_devices_is_a_change() -> None:
    assert watch(routing=((framed(16, b""), KERNEL),)).look() == (True, 0, "")
    assert watch().look() == (False, 0, "")
