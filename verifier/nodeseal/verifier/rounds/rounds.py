"""Rounds: asks a node for evidence, appraises the answer, and acts on the outcome.

Attestation streams and releases use the same rounds, so evidence counts for and against a node wherever it came in.
Rounds of one node are judged one after the other, in the order in which their answers were complete. A good answer that
arrives after a later quote was judged, or after the node was refused, changes nothing: it must not undo what was found
since. Trust comes back with a later challenge.

A steady round (same state, same goldens, no findings, leases as expected) touches memory only and allocates little.

Rounds with long logs are judged in threads, few at once. A node has one of them at a time, and a limited number a
minute; a round beyond the limit speaks neither for nor against it. Next comes the node whose last such round is longest
ago, among equals the one with the shortest log: so nodes that send long logs all the time delay no node's first
contact.

Time: an answer must *begin* within ``answer_within_seconds`` of its challenge. One that brings a long log may take
until half of ``trust_seconds`` to be complete. Neither lengthens trust, which is counted from the challenge.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from nodeseal.appraisal.appraise import appraise, known_logs
from nodeseal.appraisal.model import Appraisal, Challenge, KnownNode
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.binding import NONCE_SIZE, Channel, Purpose, qualifying_data
from nodeseal.evidence.logs import NOTHING_KNOWN
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Nonce
from nodeseal.tpm.attest import decode_attest
from nodeseal.verifier.fleet.change import STICKY, Change
from nodeseal.verifier.fleet.exchange import Asked, RoundOutcome, Verdict
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import restricted
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.limits import RateLimit, Turns
from nodeseal.verifier.rounds.decision import boot_after, change_after, is_steady, later_baseline
from nodeseal.verifier.rounds.log_collector import LogBudget, log_size
from nodeseal.verifier.states import NodeState

T = TypeVar("T")
_LONG_LOG: Final = 16 * 1024
"""Bytes of logs from which on a round is judged in a thread, so that other nodes need not wait for it."""
_THREADS: Final = 2
_LONG_PER_MINUTE: Final = 12
"""Rounds with long logs that a node may bring beside those that the interval asks for: for first contacts, reboots,
new goldens and people who want to see evidence."""


class Rounds:
    """The rounds of all nodes of one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet
        self.clock: Final = fleet.clock
        self.settings: Final = fleet.settings
        self.budget: Final = LogBudget(self.settings.max_waiting_log_bytes)
        self._answer_within: Final = timedelta(seconds=self.settings.answer_within_seconds)
        self._complete_within: Final = timedelta(seconds=self.settings.complete_within_seconds)
        regular = 60 // max(1, self.settings.interval_seconds)
        self._long_rounds: Final = RateLimit(_LONG_PER_MINUTE + regular, "rounds with long logs")
        self._threads: Final = Turns(_THREADS)

    def ask(self, node: Node, purpose: Purpose, channel: Channel, *, whole: bool = False) -> Asked:
        """Make a fresh challenge; ``whole`` asks for PCR values and whole logs, although they are known."""
        issued = self.clock.wall()
        known = node.known
        challenge = Challenge(
            nonce=Nonce(secrets.token_bytes(NONCE_SIZE)),
            purpose=purpose,
            selection=self.settings.selection,
            issued=issued,
            answer_by=issued + self._complete_within,
            channel=channel,
            logs=NOTHING_KNOWN if whole else known_logs(known, self._fleet.policy),
        )
        return Asked(
            challenge=challenge,
            known=known,
            at=self.clock.steady(),
            answer_within_seconds=self.settings.answer_within_seconds,
            whole=whole,
        )

    async def conclude(self, node: Node, evidence: Evidence, asked: Asked, began: float | None = None) -> RoundOutcome:
        """Appraise a round and act on it. The caller brings each challenge here once.

        Args:
            node: the node that answers.
            evidence: the answer.
            asked: the challenge that it answers.
            began: steady time when the first message of the answer arrived; None: now.

        Raises:
            ProofFailed: ``quote.nonce``: the answer is late, or the node has enrolled again since it was asked, so it
                speaks neither for nor against the node.
            TooManyRequests: the node brings long logs too often, which speaks neither for nor against it.
            Unavailable: the node would be trusted again, but that cannot be recorded now.
        """
        now = self._arrival(asked, began)
        if log_size(evidence) >= _LONG_LOG:
            self._long_rounds.take(node.record.node_id, self.clock.steady())
        async with node.round_lock:
            return await self._conclude(node, evidence, asked, now)

    def _arrival(self, asked: Asked, began: float | None) -> datetime:
        # The steady clock moves the challenge's own time on: setting the machine's time makes no answer late.
        complete = self.clock.steady() - asked.at
        begun = complete if began is None else began - asked.at
        if begun > asked.answer_within_seconds or complete > self.settings.complete_within_seconds:
            raise ProofFailed(unasked("an answer after its time"))
        return asked.challenge.issued + timedelta(seconds=complete)

    async def _conclude(self, node: Node, evidence: Evidence, asked: Asked, now: datetime) -> RoundOutcome:
        if not _still_enrolled(node, asked):
            raise ProofFailed(unasked("an answer by a key that was replaced since"))
        try:
            work = partial(appraise, evidence, asked.challenge, _known(node, asked), self._fleet.policy, now)
            size = log_size(evidence)
            appraisal = work() if size < _LONG_LOG else await self._in_turn(node, size, work)
        except ProofFailed as error:
            replayed = _answers(node.answered, asked.challenge.purpose, evidence)
            return await self._refuse(node, (unasked("an earlier answer"),) if replayed else error.findings)
        except MalformedInput as error:
            finding = Finding(id=FindingId.QUOTE_MALFORMED, expected="evidence that parses", seen=str(error))
            return await self._refuse(node, (finding,))
        if not _still_enrolled(node, asked):  # while a thread appraised it
            raise ProofFailed(unasked("an answer by a key that was replaced since"))
        node.boot = boot_after(node, appraisal)
        node.baseline = later_baseline(node.baseline, appraisal.baseline, asked.known.baseline)
        node.last_seen, node.answered = now, asked.challenge
        if not self._settle(node, appraisal, asked):
            await self._change_state(node, appraisal, asked)
        return RoundOutcome(
            verdict=self._verdict(node, appraisal, asked),
            appraisal=appraisal,
            unknown=tuple(lease for lease in appraisal.claims.leases if lease not in node.leases),
            again=appraisal.values_required or appraisal.logs_required,
        )

    async def _in_turn(self, node: Node, size: int, work: Callable[[], T]) -> T:
        async with self._threads.one(node.long_at, size):
            node.long_at = self.clock.steady()
            return await _in_thread(work)

    async def _refuse(self, node: Node, findings: tuple[Finding, ...]) -> RoundOutcome:
        node.refused_at = self.clock.steady()

        def decide(node: Node) -> Change:
            state = node.state if node.state in STICKY else NodeState.UNTRUSTED
            return restricted(node, state, node.reason, findings, audit.VERIFIER)

        await self._fleet.restrict(node, decide)
        state = node.state if node.state in STICKY else NodeState.UNTRUSTED
        return RoundOutcome(verdict=Verdict(state=state, trusted_until=None, trusted_for_ms=0, findings=findings))

    def _settle(self, node: Node, appraisal: Appraisal, asked: Asked) -> bool:
        """Take over what needs no record, the end of trust above all; tell whether a round changes nothing else."""
        self._fleet.touch(node)
        if appraisal.logs_required:  # speaks neither for nor against the node, whose trust goes on until its time
            return True
        if not appraisal.trusted:
            node.refused_at = self.clock.steady()
        elif appraisal.baseline is not node.baseline or asked.at < node.refused_at:  # held back
            return True
        steady, trusted_until_steady = is_steady(node, appraisal), asked.at + self.settings.trust_seconds
        if steady and trusted_until_steady > node.trusted_until_steady:
            node.trusted_until_steady, node.trusted_until = trusted_until_steady, appraisal.good_until
        return steady

    async def _change_state(self, node: Node, appraisal: Appraisal, asked: Asked) -> None:
        trusted_until_steady = asked.at + self.settings.trust_seconds

        def decide(node: Node) -> Change | None:
            if not _still_enrolled(node, asked):  # while this waited for its turn
                return None
            return change_after(node, appraisal, trusted_until_steady, asked.challenge.issued - self._answer_within)

        if appraisal.trusted and node.unrecorded is None:
            await self._fleet.change(node, decide)
        else:
            await self._fleet.restrict(node, decide)

    def _verdict(self, node: Node, appraisal: Appraisal, asked: Asked) -> Verdict:
        trusted = node.trusted(self.clock.steady())
        # The node counts from when it received the challenge, at most so long after it was made: so it ends first.
        left = node.trusted_until_steady - asked.at - self.settings.answer_within_seconds
        state = node.state if trusted or node.state is not NodeState.TRUSTED else NodeState.UNTRUSTED
        return Verdict(
            state=state,
            trusted_until=node.trusted_until if trusted else None,
            trusted_for_ms=max(0, round(left * 1000)) if trusted else 0,
            findings=appraisal.findings,
        )


async def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread. A cancelled caller waits for the thread to end: until then its memory is in use."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        raise


def _known(node: Node, asked: Asked) -> KnownNode:
    """Return what was known when the node was asked, with the labels of now: people may have changed them since."""
    known, labels = asked.known, node.record.labels
    return known if known.labels is labels else known._replace(labels=labels)


def _still_enrolled(node: Node, asked: Asked) -> bool:
    """Tell whether the attestation key that was asked is the one that speaks for the node now."""
    return node.keys is asked.known.keys


def _answers(challenge: Challenge | None, purpose: Purpose, evidence: Evidence) -> bool:
    """Tell whether evidence that was refused is bound to ``challenge``, which was answered before."""
    if challenge is None or challenge.purpose is not purpose:
        return False
    try:
        extra_data = decode_attest(evidence.attest).extra_data
    except MalformedInput:
        return False
    return extra_data == qualifying_data(purpose, challenge.nonce, challenge.channel, evidence.claims)


def unasked(seen: str) -> Finding:
    """Return the finding for evidence that answers no open challenge."""
    return Finding(id=FindingId.QUOTE_NONCE, expected="one answer to each challenge, in time", seen=seen)
