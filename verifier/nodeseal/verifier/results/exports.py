"""Whole evidence of a node, for people: a fresh round that is recorded and returned as a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Final

from nodeseal.errors import MalformedInput, OutOfOrder, Unavailable
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.ids import NodeId
from nodeseal.verifier.fleet.exchange import Answered
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import EvidenceExported
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import findings_document
from nodeseal.verifier.limits import Seats

_AT_ONCE: Final = 2
"""Exports whose evidence, up to 80 MiB each, is in memory at once."""


class Exports:
    """Hands evidence out.

    Attributes:
        seats: the caller holds one while an export is made and sent.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Final = fleet
        self.seats: Final = Seats(_AT_ONCE, "exports of evidence")

    async def evidence(self, node_id: NodeId, actor: str) -> Mapping[str, bytes]:
        """Return the files of a connected node's evidence folder, whatever its verdict is.

        Raises:
            NotFound: it is not enrolled.
            OutOfOrder: it is not connected, or its answer is not what was asked for.
            Unavailable: it did not answer in time, or the export cannot be recorded now.
        """
        node = self._fleet.get(node_id)
        answered = await self._answer(node)
        files = _files(node, answered)
        codes, findings = findings_document(answered.outcome.verdict.findings)
        act = EvidenceExported(
            node_id=node_id,
            quote_sha256=sha256(answered.evidence.attest).digest(),
            codes=codes,
            findings=findings.digest,
        )
        await self._fleet.ledger.commit(actor, lambda _: Decided(None, (act,), (findings,)))
        return files

    async def _answer(self, node: Node) -> Answered:
        stream, settings = node.stream, self._fleet.settings
        if stream is None:
            raise OutOfOrder(f"{node.record.node_id} is not connected", remedy="start its agent")
        with suppress(TimeoutError):
            # Time for two answers: another one may be under way, and comes first.
            async with asyncio.timeout(2 * settings.complete_within_seconds):
                return await stream.whole_evidence()
        raise Unavailable(f"{node.record.node_id} did not answer in time", remedy="see its agent's log")


def _files(node: Node, answered: Answered) -> Mapping[str, bytes]:
    challenge, evidence, record = answered.asked.challenge, answered.evidence, node.record
    if evidence.without_quote:
        why = "; ".join(finding.id.meaning for finding in answered.outcome.verdict.findings)
        raise OutOfOrder(f"{record.node_id} quotes nothing: {why}", remedy=f"nodeseal node show {record.node_id}")
    if evidence.pcr_values is None:
        raise OutOfOrder(f"{record.node_id} sent no PCR values, although it was asked to", remedy="update its agent")
    try:
        folder = EvidenceFolder(
            evidence=evidence,
            nonce=challenge.nonce,
            purpose=challenge.purpose,
            selection=challenge.selection,
            channel=challenge.channel,
            issued=challenge.issued,
            received=answered.received,
            ak_public=record.ak_public,
            labels=record.labels,
            manufacturer=record.tpm.manufacturer,
            ek_algorithm=record.tpm.ek_algorithm,
        )
        return folder.encode()
    except MalformedInput as error:
        raise OutOfOrder(f"{record.node_id} sent other evidence than it was asked for: {error}") from error
