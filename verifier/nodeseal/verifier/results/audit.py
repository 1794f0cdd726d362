"""Verifies an export of the log, offline: that it is what was signed, and that what is in force follows from it.

No key of the verifier's is needed but the public one of the log. The acts are replayed by the verifier's own projectors
into an empty database in memory, and its rows are compared with those of the export. Bodies of acts that widen no trust
may be withheld; then rows that rest on them are not compared, and the report says that it is incomplete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from nodeseal.documents import Fields, decode_json
from nodeseal.errors import MalformedInput, NodesealError, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest
from nodeseal.tlog.checkpoint import Cosigned, SignedCheckpoint, open_checkpoint, verify_cosignature
from nodeseal.tlog.note import VerifierKey
from nodeseal.tlog.tree import RootBuilder, hash_leaf
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.documents import named_documents
from nodeseal.verifier.ledger.leaf import Entry, read_entry
from nodeseal.verifier.ledger.projectors import project
from nodeseal.verifier.ledger.tree.state import CREATING, state_rows, subjects_of
from nodeseal.verifier.store.acts import put_document
from nodeseal.verifier.store.schema import METADATA
from nodeseal.verifier.trust.sanctions import Place, unsanctioned

MAX_NAMED: Final = 100
"""Findings that a refusal names."""
WITHHOLDABLE: Final = frozenset(
    act.kind
    for act in (
        acts.NodeJudged,
        acts.NodeQuarantined,
        acts.NodeRetired,
        acts.EvidenceExported,
        acts.LeaseEnded,
        acts.ReleaseDenied,
        acts.GoldenRetired,
        acts.KeyRevoked,
        acts.GrantWithdrawn,
        acts.ModelRetired,
        acts.RewrapDenied,
    )
)
"""Kinds of acts whose bodies an export may withhold: they take trust away, or only tell what was seen.

Not the removal of a person, on which it rests whether a later approval counted.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRecord:
    """An act of an export.

    Attributes:
        sequence: its number, from 1.
        envelope: the leaf.
        body: the rest of it; None: withheld.
        leaf: hash of the leaf as the verifier's tree had it; empty: the tree is an older log's.
    """

    sequence: int
    envelope: bytes
    body: bytes | None
    leaf: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditExport:
    """An export, of which nothing is verified.

    Attributes:
        note: the checkpoint, with cosignatures.
        records: the acts.
        documents: by the digest that they are called.
        rows: what is said to be in force.
    """

    note: bytes
    records: Sequence[ExportedRecord]
    documents: Mapping[Digest, bytes]
    rows: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """An export that holds.

    Attributes:
        signed: its checkpoint.
        cosigned: by which witnesses, and when.
        acts: how many it has.
        withheld: bodies that are withheld, by kind.
        compared: rows that follow from the acts.
        unknown: rows that rest on withheld bodies.
        older: rows from before the log, which no act made.
    """

    signed: SignedCheckpoint
    cosigned: tuple[Cosigned, ...]
    acts: int
    withheld: Mapping[str, int]
    compared: int
    unknown: int
    older: int

    @property
    def complete(self) -> bool:
        """Whether everything was checked."""
        return not (self.withheld or self.unknown or self.older)


@dataclass(slots=True)
class _Reading:
    """What is known of an export while it is read."""

    problems: list[Finding] = field(default_factory=list)
    entries: list[tuple[int, Entry]] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)
    hidden: set[str] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    closed: int = 0

    def problem(self, finding: FindingId, where: str, expected: str, seen: str) -> None:
        self.problems.append(Finding(id=finding, where=where, expected=expected, seen=seen))


def verify_export(
    export: AuditExport, key: VerifierKey, witnesses: Sequence[VerifierKey], previous: SignedCheckpoint | None = None
) -> AuditReport:
    """Verify an export.

    Args:
        export: what was exported.
        key: of the log.
        witnesses: keys that must have cosigned its checkpoint.
        previous: an earlier checkpoint that it must go on from; None: there is none.

    Raises:
        MalformedInput: it does not parse.
        ProofFailed: ``log.signature``, ``log.proof``, ``log.fork`` or ``log.export``; each finding names act or row.
    """
    signed = open_checkpoint(export.note, key)
    cosigned = tuple(verify_cosignature(signed.note, witness) for witness in witnesses)
    reading = _Reading()
    _check_tree(export.records, signed, previous, reading)
    for record in export.records:
        _read(record, reading)
    _check_documents(export, reading)
    _check_approvals(export, signed, reading)
    compared, unknown, older = _compare(export, reading)
    if reading.problems:
        raise ProofFailed(*reading.problems[:MAX_NAMED])
    return AuditReport(
        signed=signed,
        cosigned=cosigned,
        acts=len(export.records),
        withheld=dict(sorted(reading.withheld.items())),
        compared=compared,
        unknown=unknown,
        older=older,
    )


def _kind(record: ExportedRecord) -> str:
    kind = decode_json(record.envelope, f"act {record.sequence}")
    return str(kind.get("kind")) if isinstance(kind, dict) else ""


def _check_tree(
    records: Sequence[ExportedRecord], signed: SignedCheckpoint, previous: SignedCheckpoint | None, reading: _Reading
) -> None:
    """Compare the tree over the acts, and that over their claimed hashes, with what was signed."""
    for place, record in enumerate(records, 1):
        if record.sequence != place:
            reading.problem(FindingId.LOG_PROOF, f"act {record.sequence}", f"act {place} here", "another number")
            return
    starts = [0, *(at for at, record in enumerate(records) if _kind(record) == acts.OriginChanged.kind)]
    for start, end in pairwise(starts):
        _check_kept(records, start, end, reading)
    own = records[starts[-1] :]
    checkpoint, claimed = signed.checkpoint, RootBuilder()
    for record in own:
        claimed.add(record.leaf)
    if (claimed.size, claimed.root()) == (checkpoint.size, checkpoint.root):
        for record in own:
            if hash_leaf(record.envelope) != record.leaf:
                reading.problem(FindingId.LOG_PROOF, f"act {record.sequence}", "the leaf that was signed", "another")
    else:
        expected = f"the tree of {checkpoint.size} leaves that was signed"
        reading.problem(FindingId.LOG_PROOF, "", expected, f"another one, of {claimed.size}")
    if own and checkpoint.origin.rpartition("/")[2] != hash_leaf(own[0].envelope).hex()[:32]:
        reading.problem(FindingId.LOG_PROOF, f"act {own[0].sequence}", f"leaf 0 of {checkpoint.origin}", "another leaf")
    if previous is not None:
        _check_previous(own, signed, previous, reading)


def _check_kept(records: Sequence[ExportedRecord], start: int, end: int, reading: _Reading) -> None:
    """Compare the acts of an older log with what leaf 0 of the next one says of them."""
    change, kept = records[end], RootBuilder()
    for record in records[start:end]:
        kept.add(hash_leaf(record.envelope))
    act = read_entry(change.envelope, change.body or b"").act
    if isinstance(act, acts.OriginChanged) and (act.kept_size, act.kept_root) != (kept.size, kept.root()):
        expected = f"{act.kept_size} acts of {act.origin}, which this act names"
        reading.problem(FindingId.LOG_PROOF, f"act {change.sequence}", expected, f"others, {kept.size}")


def _check_previous(
    own: Sequence[ExportedRecord], signed: SignedCheckpoint, previous: SignedCheckpoint, reading: _Reading
) -> None:
    before, first = previous.checkpoint, RootBuilder()
    for record in own[: before.size]:
        first.add(hash_leaf(record.envelope))
    if (first.size, first.root()) != (before.size, before.root):
        expected = f"a log that goes on from {before.size} acts that were signed before"
        reading.problem(FindingId.LOG_FORK, "", expected, f"another history of {signed.checkpoint.size}")


def _read(record: ExportedRecord, reading: _Reading) -> None:
    where = f"act {record.sequence}"
    outer = Fields(decode_json(record.envelope, where), where)
    kind, subjects = outer.text("kind"), outer.fields("subjects")
    names = subjects.keys()
    for name in names:
        version, last = subjects.integer(name, low=0, high=2**53 - 1), reading.versions.get(name, 0)
        if version not in {last, last + 1}:
            reading.problem(FindingId.LOG_PROOF, where, f"{name} in version {last} or {last + 1}", f"{version}")
        reading.versions[name] = version
    if record.body is None:
        reading.withheld[kind] += 1
        reading.hidden.update(names)
        if kind not in WITHHOLDABLE:
            reading.problem(FindingId.LOG_EXPORT, where, f"the body of {kind}, which may not be withheld", "none")
        return
    if outer.hex("body", size=32) != sha256(record.body).digest():
        reading.problem(FindingId.LOG_PROOF, where, "the body that the leaf names", "another")
        reading.hidden.update(names)
        return
    entry = read_entry(record.envelope, record.body)
    reading.entries.append((record.sequence, entry))
    if kind in CREATING:
        reading.created.update(names)
    if isinstance(entry.act, acts.LogOpened):
        reading.closed = entry.act.closed_size


def _check_documents(export: AuditExport, reading: _Reading) -> None:
    for digest, content in export.documents.items():
        if sha256(content).hexdigest() != digest:
            reading.problem(FindingId.LOG_EXPORT, f"document {digest}", "its digest", "another content")
    for sequence, entry in reading.entries:
        for digest in named_documents(entry.act):
            if digest not in export.documents:
                reading.problem(FindingId.LOG_EXPORT, f"act {sequence}", f"the document {digest}", "none")


def _check_approvals(export: AuditExport, signed: SignedCheckpoint, reading: _Reading) -> None:
    """Decide again, by the rules and people of each moment, whether acts that needed approvals carry them."""
    origin = signed.checkpoint.origin
    place = Place(origin.rpartition("/nodeseal/")[0], origin)
    numbers = {id(entry): sequence for sequence, entry in reading.entries}
    entries = [entry for _, entry in reading.entries]
    try:
        for entry, why in unsanctioned(entries, export.documents.get, place):
            reading.problem(FindingId.LOG_EXPORT, f"act {numbers[id(entry)]}", "approvals that counted", why)
    except MalformedInput as error:
        reading.problem(FindingId.LOG_EXPORT, "approvals", "documents that parse", str(error))


def _compare(export: AuditExport, reading: _Reading) -> tuple[int, int, int]:
    """Compare rows with those that the acts make; return how many follow, are unknown, and are older than the log."""
    said, made = _by_place(export.rows), _by_place(_replayed(export, reading))
    counts: Counter[str] = Counter()
    for place in sorted({**said, **made}):
        table, about = place
        subjects = subjects_of(table, said.get(place) or made[place])
        if reading.hidden.intersection(subjects):
            counts["unknown"] += 1
        elif said.get(place) == made.get(place):
            counts["compared"] += 1
        elif reading.closed and not reading.created.intersection(subjects[:1]):
            counts["older"] += 1
        else:
            _name_difference(f"{table}: {about}", said.get(place), made.get(place), reading)
    return counts["compared"], counts["unknown"], counts["older"]


def _name_difference(
    where: str, said: Mapping[str, Any] | None, made: Mapping[str, Any] | None, reading: _Reading
) -> None:
    if made is None or said is None:
        expected = "a row that an act made" if made is None else "the row that its acts made"
        reading.problem(FindingId.LOG_EXPORT, where, expected, "one that none made" if made is None else "none")
        return
    columns = [name for name in made if made[name] != said.get(name)]
    expected = ", ".join(f"{name} {str(made[name])[:80]!a}" for name in columns)
    seen = ", ".join(f"{str(said.get(name))[:80]!a}" for name in columns)
    reading.problem(FindingId.LOG_EXPORT, where, expected or "only columns that acts decide", seen or "others")


def _by_place(rows: Sequence[bytes]) -> dict[tuple[str, str], Mapping[str, Any]]:
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for raw in rows:
        document = json.loads(raw)
        try:
            table, row = document["table"], document["row"]
            place = (table, subjects_of(table, row)[0])
        except (KeyError, TypeError) as error:
            raise MalformedInput(f"export: not a row of what is in force: {raw[:80]!a}") from error
        if place in found:
            raise MalformedInput(f"export: {place[1]} has two rows in {table}")
        found[place] = row
    return found


def _replayed(export: AuditExport, reading: _Reading) -> tuple[bytes, ...]:
    """Return the rows that the acts make in an empty database."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    try:
        METADATA.create_all(engine)
        with engine.begin() as connection:
            for digest, content in export.documents.items():
                put_document(connection, digest, content)
            for sequence, entry in reading.entries:
                for problem in _projected(connection, entry, export.documents, reading):
                    reading.problem(FindingId.LOG_EXPORT, f"act {sequence}", "an act that can be replayed", problem)
            return tuple(state_rows(connection))
    finally:
        engine.dispose()


def _projected(
    connection: sa.Connection, entry: Entry, documents: Mapping[Digest, bytes], reading: _Reading
) -> Iterator[str]:
    try:
        with connection.begin_nested():
            project(connection, entry, documents)
    except (NodesealError, KeyError, sa.exc.DBAPIError) as error:
        if not reading.hidden.intersection(entry.versions):
            yield f"{type(error).__name__}: {str(error)[:200]}"
