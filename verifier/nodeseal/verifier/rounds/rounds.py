"""Rounds: asks a node for evidence, appraises the answer, and acts on the outcome.

Attestation streams and releases use the same rounds, so evidence counts for and against a node wherever it came in.
Rounds of one node are judged one after the other, in the order in which their answers were complete. A good answer that
arrives after a later quote was judged, or after the node was refused, changes nothing: it must not undo what was found
since. Trust comes back with a later challenge.

A steady round (same state, goldens and warnings, leases as expected) touches memory only and allocates little.

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
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import sqlalchemy as sa

from nodeseal.appraisal.appraise import appraise, known_logs
from nodeseal.appraisal.banks import choose_selection, no_bank, usable_banks
from nodeseal.appraisal.model import Appraisal, Challenge, KnownNode
from nodeseal.errors import MalformedInput, ProofFailed, TooManyRequests, Unavailable
from nodeseal.evidence.binding import NONCE_SIZE, Channel, Purpose, qualifying_data
from nodeseal.evidence.logs import NOTHING_KNOWN
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Nonce
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.verifier.fleet.exchange import Asked, RoundOutcome, Verdict
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import VERIFIER
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import findings_document
from nodeseal.verifier.ledger.restrictions import is_news, judged
from nodeseal.verifier.limits import RateLimit, Turns
from nodeseal.verifier.rounds.decision import (
    Good,
    boot_after,
    claims_its_leases,
    decide_good,
    is_steady,
    later_baseline,
    refused,
    standing_after,
    takes_trust,
)
from nodeseal.verifier.rounds.log_collector import LogBudget, log_size
from nodeseal.verifier.store.leases import running_leases
from nodeseal.verifier.store.nodes import NodeStanding, find_node

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

    def ask(
        self, node: Node, purpose: Purpose, channel: Channel, *, whole: bool = False, banks: tuple[int, ...] = ()
    ) -> Asked:
        """Make a fresh challenge.

        Args:
            node: who is asked.
            purpose: what for.
            channel: on which.
            whole: whether PCR values and whole logs are wanted, although they are known.
            banks: that the peer says the node's TPM has, which counts for this challenge alone; empty: as proved last.
        """
        issued = self.clock.wall()
        known = node.known
        challenge = Challenge(
            nonce=Nonce(secrets.token_bytes(NONCE_SIZE)),
            purpose=purpose,
            selection=self._selection(banks or node.banks, known),
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

    def _selection(self, banks: tuple[int, ...], known: KnownNode) -> PcrSelection:
        return choose_selection(self.settings.selection, banks, known, self._fleet.policy)

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
        if evidence.without_quote:
            return await self._without_quote(node, evidence.banks, asked)
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
        node.banks = evidence.banks or node.banks
        node.boot = boot_after(node, appraisal)
        node.baseline = later_baseline(node.baseline, appraisal.baseline, asked.known.baseline)
        node.last_seen, node.answered = now, asked.challenge
        if not self._settle(node, appraisal, asked):
            await self._change_state(node, appraisal, asked)
        return RoundOutcome(
            verdict=self._verdict(node, appraisal.findings, asked),
            appraisal=appraisal,
            unknown=tuple(lease for lease in appraisal.claims.leases if lease not in node.leases),
            again=appraisal.values_required or appraisal.logs_required,
        )

    async def _in_turn(self, node: Node, size: int, work: Callable[[], T]) -> T:
        async with self._threads.one(node.long_at, size):
            node.long_at = self.clock.steady()
            return await _in_thread(work)

    async def _without_quote(self, node: Node, banks: tuple[int, ...], asked: Asked) -> RoundOutcome:
        """Ask a node again, for banks that its TPM has. Without one it is refused: it can prove nothing."""
        if not usable_banks(banks):
            return await self._refuse(node, (no_bank(banks),))
        if self._selection(banks, node.known) == asked.challenge.selection:
            return await self._refuse(node, (_not_quoted(asked),))
        return RoundOutcome(verdict=self._verdict(node, node.findings, asked), again=True)

    async def _refuse(self, node: Node, findings: tuple[Finding, ...]) -> RoundOutcome:
        node.refused_at = self.clock.steady()
        after = refused(node.standing, findings)
        await self._hold(node, after, proved=False)
        return RoundOutcome(verdict=Verdict(state=after.state, trusted_until=None, trusted_for_ms=0, findings=findings))

    async def _hold(self, node: Node, after: NodeStanding, *, proved: bool) -> None:
        """Let a judgement that does not trust a node hold: at once if it takes something away."""
        before = node.standing
        if takes_trust(before, after) or node.leases:
            await self._fleet.distrust(node, after)
        elif not node.overlay and is_news(before, after):
            await self._tell(node, after, proved=proved)

    async def _tell(self, node: Node, after: NodeStanding, *, proved: bool) -> None:
        """Record findings of a node that is not trusted anyway, as far as its share of the log goes."""
        codes, document = findings_document(after.findings)

        def decide(connection: sa.Connection) -> Decided[None]:
            stored = find_node(connection, node.record.node_id)
            if stored is None or stored.standing.state is not after.state:
                return Decided(None)
            act = judged(node.record.node_id, stored.standing.state, after, codes, document.digest)
            return Decided(None, (act,), (document,))

        try:
            await self._fleet.ledger.commit(VERIFIER, decide, share=node.record.node_id, proved=proved)
        except (TooManyRequests, Unavailable):
            self._fleet.note_findings(node, after.findings)

    def _settle(self, node: Node, appraisal: Appraisal, asked: Asked) -> bool:
        """Take over what needs no record, the end of trust above all; tell whether a round changes nothing else."""
        self._fleet.touch(node)
        if appraisal.logs_required:  # speaks neither for nor against the node, whose trust goes on until its time
            return True
        if not appraisal.trusted:
            node.refused_at = self.clock.steady()
        elif appraisal.baseline is not node.baseline or asked.at < node.refused_at:  # held back
            return True
        if not is_steady(node, appraisal):
            return False
        node.proved_until_steady = asked.at + self.settings.trust_seconds
        self._extend(node, appraisal)
        return claims_its_leases(node, appraisal)

    async def _change_state(self, node: Node, appraisal: Appraisal, asked: Asked) -> None:
        if not appraisal.trusted:
            await self._hold(node, standing_after(node.standing, appraisal), proved=True)
            return
        node_id, settled = node.record.node_id, asked.challenge.issued - self._answer_within
        good = Good(appraisal, asked.known.keys.ak_name, settled, node.moved().progress)

        def decide(connection: sa.Connection) -> Decided[bool]:
            return decide_good(find_node(connection, node_id), running_leases(connection, node_id), good)

        node.proved_until_steady = asked.at + self.settings.trust_seconds
        try:
            committed = await self._fleet.ledger.commit(VERIFIER, decide, share=node_id)
        except (TooManyRequests, Unavailable):
            if is_steady(node, appraisal):  # only ends of leases that it gave up wait for the next round
                return
            raise
        if committed.result and not committed.recorded:
            self._extend(node, appraisal)

    def _extend(self, node: Node, appraisal: Appraisal) -> None:
        """Let trust that is recorded go on for longer."""
        if node.proved_until_steady > node.trusted_until_steady and not node.overlay:
            node.trusted_until_steady = node.proved_until_steady
            node.recorded = replace(node.recorded, trusted_until=appraisal.good_until)

    def _verdict(self, node: Node, findings: tuple[Finding, ...], asked: Asked) -> Verdict:
        now = self.clock.steady()
        trusted = node.trusted(now)
        # The node counts from when it received the challenge, at most so long after it was made: so it ends first.
        left = node.trusted_until_steady - asked.at - self.settings.answer_within_seconds
        return Verdict(
            state=node.state_at(now),
            trusted_until=node.trusted_until if trusted else None,
            trusted_for_ms=max(0, round(left * 1000)) if trusted else 0,
            findings=findings,
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


def _not_quoted(asked: Asked) -> Finding:
    return Finding(id=FindingId.QUOTE_SELECTION, expected=str(asked.challenge.selection), seen="no quote")


def unasked(seen: str) -> Finding:
    """Return the finding for evidence that answers no open challenge."""
    return Finding(id=FindingId.QUOTE_NONCE, expected="one answer to each challenge, in time", seen=seen)
