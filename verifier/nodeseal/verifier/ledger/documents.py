"""Documents that stand beside acts: findings and labels, each stored once and named by its digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Final, NamedTuple

from nodeseal.appraisal.kinds.kind import MAX_FINDINGS
from nodeseal.documents import encode_json
from nodeseal.findings import Finding
from nodeseal.ids import Digest
from nodeseal.inert import inert
from nodeseal.verifier.ledger.acts import Act
from nodeseal.wire.findings import plain_findings

LOGGED_FINDINGS: Final = MAX_FINDINGS + 1
"""Findings of one document; the first ones are kept. Behind the most that are named, one counts the others."""
MAX_TEXT: Final = 256
"""Characters of one text of a finding in the log."""
MAX_CODES: Final = 16
"""Ids of findings in an act."""
_NOTHING: Final = Digest("")
_NAMING: Final = ("findings", "labels", "previous", "rules", "proposal", "signature", "result", "approvals")
"""Fields of acts that name a document."""


class Document(NamedTuple):
    """A document and its SHA-256; an empty digest stands for none."""

    digest: Digest
    content: bytes


class Findings(NamedTuple):
    """Findings as an act names them.

    Attributes:
        codes: their ids, each once.
        document: the document that holds them.
    """

    codes: tuple[str, ...]
    document: Document


def document_of(content: bytes) -> Document:
    """Return ``content`` as a document."""
    return Document(Digest(sha256(content).hexdigest()), content)


def findings_document(findings: Iterable[Finding]) -> Findings:
    """Return findings, cut to documented lengths, since the node chooses their texts."""
    kept = cut_findings(findings)
    document = document_of(encode_json(plain_findings(kept))) if kept else Document(_NOTHING, b"")
    return Findings(codes_of(kept), document)


def codes_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the ids of findings, each once, at most :data:`MAX_CODES`."""
    return tuple(dict.fromkeys(finding.id.code for finding in findings))[:MAX_CODES]


def cut_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return at most :data:`LOGGED_FINDINGS` findings with texts of at most :data:`MAX_TEXT` characters."""
    return tuple(map(_cut, tuple(findings)[:LOGGED_FINDINGS]))


def named_documents(act: Act) -> tuple[Digest, ...]:
    """Return the digests of the documents that an act names."""
    named = (getattr(act, name, _NOTHING) for name in _NAMING)
    return tuple(digest for digest in named if digest)


def labels_document(labels: Mapping[str, str]) -> Document:
    """Return the labels of a node as a document."""
    return document_of(encode_json(dict(labels)))


def _cut(finding: Finding) -> Finding:
    return replace(
        finding,
        expected=_short(finding.expected),
        seen=_short(finding.seen),
        where=_short(finding.where),
        event=_short(finding.event),
    )


def _short(text: str) -> str:
    printable = inert(text)
    return printable if len(printable) <= MAX_TEXT else printable[: MAX_TEXT - 1] + "…"
