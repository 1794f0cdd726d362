"""Checks of identities: beside the event loop, and few at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nodeseal.errors import OutOfOrder
from nodeseal.verifier.clock import SYSTEM
from nodeseal.verifier.enrolment import enroller as enroller_module
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.enrolment.endorsement import EnrolmentPolicy
from nodeseal.verifier.enrolment.enroller import Enroller
from nodeseal.verifier.enrolment.identity import ClaimedIdentity
from nodeseal.verifier.enrolment.vendors import Vendors
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.store.nodes import NodeFacts

FACTS = NodeFacts(hostname="node", boot_id="", tpm_manufacturer="", tpm_firmware="")
PATIENCE_SECONDS = 10.0


def claimed(size: int) -> ClaimedIdentity:
    return ClaimedIdentity(
        ek_public=b"", ek_certificates=(bytes(size),), ek_chain=(), ak_public=b"", certificate_request=b""
    )


def play(
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[..., object],
    case: Callable[[Enroller], Coroutine[Any, Any, None]],
) -> None:
    """Run ``case`` with an enroller whose checks are ``check``."""
    monkeypatch.setattr(enroller_module, "check_identity", check)
    policy = EnrolmentPolicy(vendors=Vendors(), ek_allow=frozenset())
    fleet, certificates = cast("Fleet", SimpleNamespace(clock=SYSTEM)), cast("Certificates", None)
    with closing(Enroller(fleet, certificates, policy, RateLimit(1, "enrolments"))) as enroller:
        asyncio.run(case(enroller))


async def refused(enroller: Enroller, size: int, address: str = "192.0.2.1") -> None:
    with pytest.raises(OutOfOrder):
        await enroller.begin(claimed(size), FACTS, address)


def test_the_event_loop_runs_on_while_an_identity_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, loop_ran = threading.Event(), threading.Event()

    def check(*_: object) -> object:
        begun.set()
        raise OutOfOrder("answered" if loop_ran.wait(PATIENCE_SECONDS) else "blocked")

    async def case(enroller: Enroller) -> None:
        running = asyncio.create_task(enroller.begin(claimed(1), FACTS, "192.0.2.1"))
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        loop_ran.set()
        with pytest.raises(OutOfOrder, match="answered"):
            await running

    play(monkeypatch, check, case)


class Gate:
    """A check that notes whom it checks, and lets nobody through before :meth:`open`."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.most = 0
        self._running = 0
        self._lock, self._begun, self._open = threading.Lock(), threading.Semaphore(0), threading.Event()

    def check(self, identity: ClaimedIdentity, *_: object) -> object:
        with self._lock:
            self.order.append(identity.size)
            self._running += 1
            self.most = max(self.most, self._running)
        self._begun.release()
        self._open.wait(PATIENCE_SECONDS)
        with self._lock:
            self._running -= 1
        raise OutOfOrder("checked")

    async def begun(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until one more check has begun; tell whether it has."""
        return await asyncio.to_thread(self._begun.acquire, timeout=seconds)

    def open(self) -> None:
        self._open.set()

    async def let(self, enroller: Enroller, at_once: int, sizes: tuple[int, ...]) -> None:
        """Begin enrolments of these sizes; open once as many are being checked as there is room for."""
        tasks = [asyncio.create_task(refused(enroller, size)) for size in sizes]
        for _ in range(at_once):
            await self.begun()
        self.open()
        await asyncio.gather(*tasks)


def test_two_identities_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    play(monkeypatch, gate.check, lambda enroller: gate.let(enroller, 2, (1,) * 8))
    assert (gate.most, len(gate.order)) == (2, 8)


def test_d10_the_address_whose_last_check_is_longest_ago_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()

    async def case(enroller: Enroller) -> None:
        tasks = [asyncio.create_task(refused(enroller, 1)) for _ in range(2)]
        assert [await gate.begun() for _ in tasks] == [True, True]
        tasks += [asyncio.create_task(refused(enroller, 2)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(refused(enroller, 9, "198.51.100.1")))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*tasks)

    play(monkeypatch, gate.check, case)
    assert gate.order[:2] == [1, 1]
    assert 9 in gate.order[2:4]  # of two that begin at once


def test_a_check_whose_caller_went_away_counts_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()

    async def case(enroller: Enroller) -> None:
        gone = [asyncio.create_task(enroller.begin(claimed(1), FACTS, "192.0.2.1")) for _ in range(2)]
        assert [await gate.begun() for _ in gone] == [True, True]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        waiting = [asyncio.create_task(refused(enroller, 1)) for _ in range(2)]
        assert not await gate.begun(seconds=0.3)
        gate.open()
        await asyncio.gather(*waiting)

    play(monkeypatch, gate.check, case)
    assert gate.most == 2


def test_of_those_that_wait_the_smallest_is_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(enroller_module, "_CHECKS_AT_ONCE", 1)
    play(monkeypatch, gate.check, lambda enroller: gate.let(enroller, 1, (9, 8, 3, 5, 4)))
    assert gate.order == [9, 3, 4, 5, 8]
