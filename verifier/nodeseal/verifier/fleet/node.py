"""A node in memory while the verifier runs."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from typing import Final, Protocol

from nodeseal.appraisal.model import Baseline, Challenge, KnownNode, NodeKeys
from nodeseal.causes import EndCause
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import NodesealError
from nodeseal.findings import Finding
from nodeseal.golden.model import Golden
from nodeseal.ids import LeaseId
from nodeseal.tpm.public import decode_public
from nodeseal.verifier.fleet.boot_brief import BootBrief
from nodeseal.verifier.fleet.exchange import Answered
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.states import STICKY, NodeState
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.nodes import Moved, NodeProgress, NodeRecord, NodeStanding


class Stream(Protocol):
    """The open attestation stream of a node, as other rooms may use it."""

    @property
    def proved_on(self) -> str:
        """The connection on which the node's TPM has answered; empty: it has not answered yet."""

    @property
    def certificate_end(self) -> datetime:
        """When the certificate that the node showed ends."""

    def revoke(self, leases: tuple[LeaseId, ...], cause: EndCause, reason: str) -> None:
        """Tell the node at once that it must forget the keys of these leases."""

    def challenge_now(self) -> None:
        """Challenge the node without waiting for the interval."""

    async def whole_evidence(self) -> Answered:
        """Challenge the node for PCR values and whole logs, and wait for the answer."""

    def close(self, error: NodesealError) -> None:
        """End the stream once all waiting instructions are sent."""


class Node:
    """One enrolled node.

    Attributes:
        record: its identity.
        recorded: what was decided about it, as the log has it; see :attr:`standing` for what is in force.
        version: of :attr:`recorded`.
        findings_version: of the findings in it, which later decisions of people leave as they are.
        identity_version: of its attestation key.
        certificate_version: of its certificates.
        labels_version: of its labels.
        overlay: restrictions in force that are not recorded yet, the oldest first, with the standing that each leaves.
        proved_until_steady: end of trust by the last good round, on the steady clock, whether or not it is recorded.
        trusted_until_steady: end of trust on the steady clock; this one decides.
        refused_at: steady time of the last round that spoke against the node: answers to older challenges bring no
            trust back.
        last_seen: last authentic evidence.
        answered: the challenge of the last authentic evidence, to know a replay by name.
        baseline: what the next round must continue.
        banks: the PCR banks that it said its TPM has, when its TPM last answered; empty: it has not said.
        boot: what the last boot log of this boot proved, for people.
        goldens: the active goldens among those that the last judgement names.
        round_lock: held while a round of this node is judged.
        long_at: steady time when a round of this node with a long log was last judged.
        leases: running leases.
        ending: leases that a restriction ended and whose end is not recorded yet.
        stream: its attestation stream, if it is connected.
    """

    __slots__ = (
        "_keys",
        "answered",
        "banks",
        "baseline",
        "boot",
        "certificate_version",
        "ending",
        "findings_version",
        "goldens",
        "identity_version",
        "labels_version",
        "last_seen",
        "leases",
        "long_at",
        "overlay",
        "proved_until_steady",
        "record",
        "recorded",
        "refused_at",
        "round_lock",
        "stream",
        "trusted_until_steady",
        "version",
    )

    def __init__(self, record: NodeRecord, standing: NodeStanding, progress: NodeProgress = NodeProgress()) -> None:  # noqa: B008 - frozen
        self.record = record
        self.recorded = standing
        self.version = self.findings_version = 0
        self.identity_version = self.certificate_version = self.labels_version = 0
        self.overlay: tuple[tuple[Restriction, NodeStanding], ...] = ()
        self.goldens: tuple[Golden, ...] = ()
        self.leases: dict[LeaseId, LeaseRecord] = {}
        self.ending: frozenset[LeaseId] = frozenset()
        self.stream: Stream | None = None
        self.round_lock: Final = asyncio.Lock()
        self.proved_until_steady = self.trusted_until_steady = 0.0
        self.refused_at = self.long_at = -math.inf
        self.baseline: Baseline | None = progress.baseline
        self.banks: tuple[int, ...] = ()
        self.boot: BootBrief | None = None
        self.answered: Challenge | None = None
        self.last_seen: datetime | None = progress.last_seen
        self._keys: NodeKeys | None = None

    @property
    def standing(self) -> NodeStanding:
        """What is in force: the newest restriction, unless what is recorded goes further; else what is recorded."""
        return no_wider(self.recorded, self.overlay[-1][1]) if self.overlay else self.recorded

    @property
    def state(self) -> NodeState:
        """The state in force; see :meth:`trusted` for whether it counts now."""
        return self.standing.state

    @property
    def reason(self) -> str:
        """Why, where a person or an event decided."""
        return self.standing.reason

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the last round."""
        return self.standing.findings

    @property
    def trusted_until(self) -> datetime | None:
        """End of trust for people to read; None: not trusted."""
        return self.standing.trusted_until if self.state is NodeState.TRUSTED else None

    def enrol(self, record: NodeRecord) -> None:
        """Take over a new attestation key and certificate."""
        self.record = record
        self._keys = None
        # PCR values and logs were proved with the old key; clock and boot are the TPM's, whatever key signs them
        known = self.baseline
        if known is not None:
            self.baseline = Baseline(clock_info=known.clock_info, boot_id=known.boot_id, kept=known.kept)

    @property
    def keys(self) -> NodeKeys:
        """Its attestation key, ready to verify with."""
        if self._keys is None:
            verifier = SignatureVerifier(decode_public(self.record.ak_public))
            self._keys = NodeKeys(ak_name=self.record.ak_name, verifier=verifier)
        return self._keys

    @property
    def known(self) -> KnownNode:
        """The node as an appraisal takes it."""
        return KnownNode(self.keys, self.baseline, self.record.labels, self.record.tpm)

    @property
    def actor(self) -> str:
        """How the log calls it."""
        return f"node/{self.record.node_id}"

    def trusted(self, now: float) -> bool:
        """Tell whether the node is trusted at the steady time ``now``."""
        return self.state is NodeState.TRUSTED and now < self.trusted_until_steady

    def state_at(self, now: float) -> NodeState:
        """Return the state that people see at the steady time ``now``."""
        if self.state is NodeState.TRUSTED and now >= self.trusted_until_steady:
            return NodeState.STALE
        return self.state

    def end_leases(self, leases: tuple[LeaseId, ...], cause: EndCause, reason: str) -> None:
        """Forget running leases and tell the node which keys it must forget."""
        ended = tuple(lease for lease in leases if self.leases.pop(lease, None) is not None)
        if ended and self.stream is not None:
            self.stream.revoke(ended, cause, reason)

    def moved(self) -> Moved:
        """Return its progress, valid while the decision about it is the one that is recorded now."""
        progress = NodeProgress(last_seen=self.last_seen, baseline=self.baseline)
        seen = self.recorded
        return Moved(self.record.node_id, self.version, seen.state, seen.trusted_until, progress)


def no_wider(before: NodeStanding, after: NodeStanding) -> NodeStanding:
    """Keep a state that only a person ends, unless a restriction goes further."""
    if before.state is NodeState.RETIRED or (before.state in STICKY and after.state not in STICKY):
        return NodeStanding(state=before.state, reason=before.reason, findings=after.findings)
    return after
