"""One attestation stream: when to challenge, when an answer counts, what to say when.

The verifier leads. A challenge is open until it is answered or its time has passed; evidence that arrives while none
is open (a second answer, an answer out of turn) ends the stream with ``quote.nonce``. Silence does too, and leaves the
node's end of trust where it was. Long logs come in stretches before the quote: they begin the answer to the
open challenge, which then has longer to be complete (see :mod:`nodeseal.verifier.rounds.rounds`).

A stream speaks for its node once a quote on it was authentic: only then does it end the stream before it, and only its
connection may give leases back. So a thief of the node's TLS key displaces nothing.

Reading and writing are separate, so a revocation never waits for an answer. This module knows neither gRPC nor
protobuf: :mod:`nodeseal.verifier.services.attestation` moves the messages.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from nodeseal.causes import EndCause
from nodeseal.errors import NodesealError, OutOfOrder, ProofFailed, Unavailable
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import LeaseId
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.config import AttestationSettings
from nodeseal.verifier.fleet.exchange import Answered, Asked, Verdict
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.rounds.log_collector import LogCollector
from nodeseal.verifier.rounds.rounds import Rounds, unasked
from nodeseal.verifier.states import NodeState

_JITTER: Final = 0.1
DRAIN_SECONDS: Final = 5.0
"""For what waits to be sent when a stream ends; a peer that reads nothing does not hold it longer."""
_HURRIES: Final = 3
"""Challenges that follow each other at once; a node that cannot deliver what they ask for waits its turn then."""


class Revoked(NamedTuple):
    """Leases whose keys a node must forget.

    Attributes:
        leases: the leases.
        cause: kind of reason.
        reason: for people.
    """

    leases: tuple[LeaseId, ...]
    cause: EndCause
    reason: str


class Instruction(NamedTuple):
    """One message to the node; parts may be None.

    Attributes:
        revoked: leases whose keys it must forget.
        verdict: on its last answer.
        asked: the next challenge.
    """

    revoked: Revoked | None = None
    verdict: Verdict | None = None
    asked: Asked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a stream.

    Attributes:
        channel: what quotes are bound to.
        not_after: when its certificate ends.
        address: whose share its connection uses.
        connection: names its connection among those that are open.
    """

    channel: Channel
    not_after: datetime
    address: str = ""
    connection: str = ""


class Session:
    """A stream of one node. All methods run on the event loop.

    Args:
        node: whose stream it is.
        peer: its other end.
        rounds: judge the answers.
        cancel: ends the task that reads.
        settle: called when the stream has proved itself, and so keeps its place.
    """

    __slots__ = (
        "_asked",
        "_banks",
        "_began",
        "_cancel",
        "_clock",
        "_due",
        "_failure",
        "_hurries",
        "_logs",
        "_loop",
        "_node",
        "_peer",
        "_proved",
        "_revoked",
        "_rounds",
        "_settings",
        "_settle",
        "_timer",
        "_verdict",
        "_waiting",
        "_waiting_next",
        "_wake",
    )

    def __init__(
        self, node: Node, peer: Peer, rounds: Rounds, cancel: Callable[[], object], settle: Callable[[], object]
    ) -> None:
        self._node: Final = node
        self._peer: Final = peer
        self._rounds: Final = rounds
        self._clock: Final[Clock] = rounds.clock
        self._settings: Final[AttestationSettings] = rounds.settings
        self._cancel: Final = cancel
        self._settle: Final = settle
        self._proved = False
        self._loop: Final = asyncio.get_running_loop()
        self._asked: Asked | None = None
        self._banks: tuple[int, ...] = ()
        self._began: float | None = None
        self._logs: Final = LogCollector(peer.channel.node_id, rounds.budget)
        self._hurries = 0
        self._due = True
        self._waiting: list[asyncio.Future[Answered]] = []
        self._waiting_next: list[asyncio.Future[Answered]] = []
        self._verdict: Verdict | None = None
        self._revoked: list[Revoked] = []
        self._failure: NodesealError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def certificate_end(self) -> datetime:
        """When the certificate that the node showed ends."""
        return self._peer.not_after

    @property
    def failure(self) -> NodesealError | None:
        """Why the stream ends, once it does."""
        return self._failure

    @property
    def proved_on(self) -> str:
        """The connection on which the node's TPM has answered; empty: it has not answered yet."""
        return self._peer.connection if self._proved else ""

    def begin(self) -> None:
        """Take the node's place for streams, if nobody has it."""
        if self._node.stream is None:
            self._node.stream = self

    def _take_over(self) -> None:
        """Be the node's stream, instead of an earlier one, and keep the place that the call has."""
        if self._proved:
            return
        self._proved = True
        self._settle()
        before, self._node.stream = self._node.stream, self
        if before is not None and before is not self:
            before.close(OutOfOrder("the node has opened another attestation stream"))

    def revoke(self, leases: tuple[LeaseId, ...], cause: EndCause, reason: str) -> None:
        """Tell the node at once that it must forget the keys of these leases."""
        self._revoked.append(Revoked(leases, cause, reason))
        self._notify()

    def challenge_now(self) -> None:
        """Challenge the node without waiting for the interval."""
        if self._asked is None and not self._due:
            self._come_due()

    async def whole_evidence(self) -> Answered:
        """Challenge the node for PCR values and whole logs, after an open challenge, and wait for the answer.

        Raises:
            NodesealError: why the stream ended before, or why the answer was not taken.
        """
        answered: asyncio.Future[Answered] = self._loop.create_future()
        self._waiting_next.append(answered)
        self.challenge_now()
        return await answered

    def close(self, error: NodesealError) -> None:
        """End the stream with ``error`` once all waiting instructions are sent, or after five seconds."""
        if self._failure is None:
            self._failure = error
            self._set_timer(DRAIN_SECONDS, self._cancel)
            self._notify()

    def finish(self) -> None:
        """End the stream now, all waiting instructions being sent."""
        self._cancel()

    def detach(self) -> None:
        """Let go of timers, of collected logs and of the node."""
        self._logs.clear()
        self._fail_waiting(self._failure or Unavailable("the node has gone", remedy="try again when it is connected"))
        if self._timer is not None:
            self._timer.cancel()
        if self._node.stream is self:
            self._node.stream = None

    async def answer(self, evidence: Evidence, *, more: bool = False) -> None:
        """Take a message from the node. After the last one, :meth:`instruction` has the verdict.

        Args:
            evidence: the message.
            more: whether it is only a stretch of logs, and other messages follow.

        Raises:
            ProofFailed: ``quote.nonce``: no challenge is open.
            MalformedInput: the logs are too long or leave a gap.
            TooManyRequests: too many logs wait to be judged.
            Unavailable: the outcome cannot be recorded now.
        """
        if self._asked is None:
            raise ProofFailed(unasked("evidence while no challenge was open"))
        whole = self._logs.add(evidence, more=more)
        if self._began is None:
            self._began = self._clock.steady()
            if whole is None:
                self._set_timer(self._settings.complete_within_seconds - (self._began - self._asked.at), self._overdue)
        if whole is not None:
            await self._conclude(whole, self._asked, self._began)

    async def _conclude(self, evidence: Evidence, asked: Asked, began: float) -> None:
        self._asked = self._began = None
        self._banks = evidence.banks or self._banks
        received = self._clock.wall()
        try:
            outcome = await self._rounds.conclude(self._node, evidence, asked, began)
        except NodesealError as error:
            self._fail_waiting(error)
            raise
        finally:
            self._logs.clear()
        if self._node.state is NodeState.RETIRED:
            self.close(OutOfOrder("the node was retired"))
        elif outcome.appraisal is not None:
            self._take_over()
        if evidence.without_quote and outcome.again and self._hurries < _HURRIES:
            self._wait_on()
        elif asked.whole:
            self._answer_waiting(Answered(asked=asked, evidence=evidence, outcome=outcome, received=received))
        if outcome.unknown:
            self._revoked.append(Revoked(outcome.unknown, EndCause.REVOCATION, "no such lease is running"))
        self._verdict = outcome.verdict
        self._schedule(again=outcome.again)
        self._notify()

    async def instruction(self) -> Instruction | None:
        """Wait for the next message to the node and return it; None: the stream ends."""
        while True:
            if self._revoked or self._verdict is not None or (self._due and self._failure is None):
                return self._take()
            if self._failure is not None:
                return None
            self._wake = self._loop.create_future()
            await self._wake

    def _take(self) -> Instruction:
        revoked = self._revoked.pop(0) if self._revoked else None
        verdict, self._verdict = self._verdict, None
        return Instruction(revoked, verdict, self._ask())

    def _ask(self) -> Asked | None:
        if not self._due or self._failure is not None:
            return None
        if self._clock.wall() >= self._peer.not_after:
            self.close(ProofFailed(_expired(self._peer.not_after)))
            return None
        self._due = False
        self._waiting, self._waiting_next = self._waiting_next, []
        whole = bool(self._waiting)
        self._asked = self._rounds.ask(self._node, Purpose.ATTEST, self._peer.channel, whole=whole, banks=self._banks)
        self._set_timer(self._settings.answer_within_seconds, self._overdue)
        return self._asked

    def _schedule(self, *, again: bool) -> None:
        # While the answer was judged, the stream may have ended, or a challenge that could not wait went out.
        if self._failure is not None or self._asked is not None or self._due:
            return
        self._hurries = self._hurries + 1 if again else 0
        if 0 < self._hurries <= _HURRIES or self._waiting_next or self._settings.interval_seconds == 0:
            self._due = True
        else:
            jitter = 1 - _JITTER * random.random()  # noqa: S311 - spreads load, keeps no secret
            self._set_timer(self._settings.interval_seconds * jitter, self._come_due)

    def _wait_on(self) -> None:
        """Let those who still wait have the answer to the next challenge, which asks for what the TPM has."""
        still = (waiting for waiting in self._waiting if not waiting.done())
        self._waiting_next, self._waiting = [*still, *self._waiting_next], []

    def _answer_waiting(self, answered: Answered) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(answered)
        self._waiting = []

    def _fail_waiting(self, error: NodesealError) -> None:
        for waiting in (*self._waiting, *self._waiting_next):
            if not waiting.done():
                waiting.set_exception(error)
        self._waiting, self._waiting_next = [], []

    def _overdue(self) -> None:
        if self._asked is None:  # it was answered; the outcome takes its time
            return
        self._asked = None
        within = self._settings.answer_within_seconds if self._began is None else self._settings.complete_within_seconds
        self.close(ProofFailed(unasked(f"no answer within {within} seconds")))

    def _come_due(self) -> None:
        self._due = True
        self._notify()

    def _set_timer(self, seconds: float, callback: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, callback)

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _expired(not_after: datetime) -> Finding:
    return Finding(
        id=FindingId.TLS_CERTIFICATE, expected="a certificate that is valid now", seen=f"one until {not_after}"
    )
