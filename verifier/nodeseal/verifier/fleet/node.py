"""A node in memory while the verifier runs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from nodeseal.appraisal.model import Baseline, Challenge, KnownNode, NodeKeys
from nodeseal.causes import EndCause
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import NodesealError
from nodeseal.golden.model import Golden
from nodeseal.ids import LeaseId
from nodeseal.tpm.public import decode_public
from nodeseal.verifier.fleet.boot_brief import BootBrief
from nodeseal.verifier.fleet.change import Change
from nodeseal.verifier.fleet.exchange import Answered
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.nodes import NodeRecord, NodeStanding


class Stream(Protocol):
    """The open attestation stream of a node, as other rooms may use it."""

    def revoke(self, leases: tuple[LeaseId, ...], reason: str, cause: EndCause) -> None:
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
        state: as it was last recorded; see :meth:`trusted` for whether it counts now.
        reason: why, where a person or an event decided.
        findings: of the last round.
        trusted_until: end of trust for people to read.
        trusted_until_steady: the same on the steady clock; this one decides.
        refused_at: steady time of the last round that spoke against the node: answers to older challenges bring no
            trust back.
        last_seen: last authentic evidence.
        answered: the challenge of the last authentic evidence, to know a replay by name.
        baseline: what the next round must continue.
        boot: what the last boot log of this boot proved, for people.
        goldens: the goldens that the last good round matched.
        round_lock: held while a round of this node is judged.
        long_at: steady time when a round of this node with a long log was last judged.
        leases: running leases.
        stream: its attestation stream, if it is connected.
        unrecorded: a decision against the node that the store could not record yet; it holds already.
    """

    __slots__ = (
        "_keys",
        "answered",
        "baseline",
        "boot",
        "findings",
        "goldens",
        "last_seen",
        "leases",
        "long_at",
        "reason",
        "record",
        "refused_at",
        "round_lock",
        "state",
        "stream",
        "trusted_until",
        "trusted_until_steady",
        "unrecorded",
    )

    def __init__(self, record: NodeRecord, standing: NodeStanding) -> None:
        self.record = record
        self.goldens: tuple[Golden, ...] = ()
        self.leases: dict[LeaseId, LeaseRecord] = {}
        self.stream: Stream | None = None
        self.unrecorded: Decision | None = None
        self.round_lock: Final = asyncio.Lock()
        self.trusted_until_steady = 0.0
        self.refused_at = self.long_at = -math.inf
        self.baseline: Baseline | None = standing.baseline
        self.boot: BootBrief | None = None
        self.answered: Challenge | None = None
        self.last_seen: datetime | None = standing.last_seen
        self._keys: NodeKeys | None = None
        self.stand(standing)

    def stand(self, standing: NodeStanding) -> None:
        """Take over what was decided. Rounds set the baseline and the time of the last evidence."""
        self.state = standing.state
        self.reason = standing.reason
        self.findings = standing.findings
        self.trusted_until = standing.trusted_until

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
        """How the audit log calls it."""
        return f"node/{self.record.node_id}"

    def trusted(self, now: float) -> bool:
        """Tell whether the node is trusted at the steady time ``now``."""
        return self.state is NodeState.TRUSTED and self.unrecorded is None and now < self.trusted_until_steady

    def state_at(self, now: float) -> NodeState:
        """Return the state that people see at the steady time ``now``."""
        if self.state is NodeState.TRUSTED and now >= self.trusted_until_steady:
            return NodeState.STALE
        return self.state

    def standing(self) -> NodeStanding:
        """Return the standing that the database keeps."""
        return NodeStanding(
            state=self.state,
            reason=self.reason,
            findings=self.findings,
            trusted_until=self.trusted_until,
            last_seen=self.last_seen,
            baseline=self.baseline,
        )


Decision = Callable[[Node], Change | None]
"""Decides a change on the node's state at that moment; None: no change."""
