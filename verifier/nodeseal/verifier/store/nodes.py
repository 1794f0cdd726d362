"""Nodes in the database: identity, labels, state, and what the next round must continue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from nodeseal.appraisal.kinds.ima import ImaMark
from nodeseal.appraisal.model import UNKNOWN_TPM, Baseline, TpmFacts
from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.findings import BY_CODE, Finding
from nodeseal.ids import Digest, NodeId, parse_digest
from nodeseal.tpm.algorithms import HASHES_BY_NAME
from nodeseal.tpm.attest import ClockInfo
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.prepared import Prepared
from nodeseal.verifier.store.schema import NODES, VERSIONS
from nodeseal.wire.findings import parse_finding, plain_findings

# Most decisions run these; SQLAlchemy takes longer to build a statement than to run it.
_OF_NODE: Final = NODES.c.node_id == sa.bindparam("id")
_FIND: Final = sa.select(NODES).where(_OF_NODE)
_STANDING: Final = ("state", "reason", "findings", "goldens", "trusted_until")
_PROGRESS: Final = ("last_seen", "clock", "ima_mark")
_RECORD: Final = tuple(column.name for column in NODES.c if column.name not in _PROGRESS)


def _put() -> Prepared:
    added = insert(NODES)
    replaced = {name: added.excluded[name] for name in _RECORD if name not in {"node_id", "ek_name"}}
    return Prepared(added.on_conflict_do_update(index_elements=[NODES.c.node_id], set_=replaced), *_RECORD)


def _setting(*columns: str) -> sa.Update:
    return NODES.update().where(_OF_NODE).values({name: sa.bindparam(f"new_{name}") for name in columns})


def _moving() -> sa.Update:
    version = sa.select(VERSIONS.c.version).where(
        VERSIONS.c.subject == sa.literal_column("'node/'").concat(NODES.c.node_id)
    )
    return _setting("trusted_until", *_PROGRESS).where(
        NODES.c.state == sa.bindparam("seen_state"),
        sa.func.coalesce(version.scalar_subquery(), sa.literal_column("0")) == sa.bindparam("seen_version"),
    )


_PUT: Final = _put()
_SET_STANDING: Final = Prepared(_setting(*_STANDING))
_SET_PROGRESS: Final = Prepared(_setting(*_PROGRESS))
_SET_CLOCK: Final = Prepared(_setting("clock", "ima_mark"))
_SET_CERTIFICATES: Final = Prepared(_setting("certificate_sha256", "next_certificate_sha256"))
_SET_LABELS: Final = Prepared(_setting("labels"))
_MOVE: Final = Prepared(_moving())


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node said of itself when it enrolled; for people to read."""

    hostname: str
    boot_id: str
    tpm_manufacturer: str
    tpm_firmware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One enrolled node.

    Attributes:
        node_id: derived from the endorsement key.
        ek_name: TPM name of the endorsement key.
        ak_name: TPM name of the attestation key.
        ak_public: its public area (TPMT_PUBLIC).
        certificate_sha256: the TLS certificate that speaks for the node.
        next_certificate_sha256: a renewed one that the node has not used yet.
        facts: what it said of itself.
        enrolled: when it enrolled last.
        tpm: what enrolment proved about its TPM.
        labels: chosen by people; goldens select nodes by them.
    """

    node_id: NodeId
    ek_name: bytes
    ak_name: bytes
    ak_public: bytes
    certificate_sha256: bytes
    next_certificate_sha256: bytes | None
    facts: NodeFacts
    enrolled: datetime
    tpm: TpmFacts = UNKNOWN_TPM
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStanding:
    """What was decided about a node; acts change it.

    Attributes:
        state: one of the seven.
        reason: why, where a person or an event decided.
        findings: of the last round.
        goldens: digests of the goldens that it matched.
        trusted_until: end of trust, while trusted.
    """

    state: NodeState
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    goldens: tuple[Digest, ...] = ()
    trusted_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """What steady rounds move, and no act.

    Attributes:
        last_seen: last authentic evidence.
        baseline: clock, boot id and IMA mark of the last believable round; all that the database keeps of a baseline.
    """

    last_seen: datetime | None = None
    baseline: Baseline | None = None


class StoredNode(NamedTuple):
    """A node as the database has it."""

    record: NodeRecord
    standing: NodeStanding
    progress: NodeProgress


class Moved(NamedTuple):
    """Progress of a node, valid while its decision is the one that was seen.

    Attributes:
        node_id: the node.
        version: of the decision that was seen.
        state: that was seen.
        trusted_until: end of trust.
        progress: the rest.
    """

    node_id: NodeId
    version: int
    state: NodeState
    trusted_until: datetime | None
    progress: NodeProgress


def load_nodes(connection: sa.Connection) -> list[StoredNode]:
    """Return all nodes."""
    return [_stored(row) for row in connection.execute(sa.select(NODES))]


def find_node(connection: sa.Connection, node_id: NodeId) -> StoredNode | None:
    """Return a node, if it is enrolled."""
    row = connection.execute(_FIND, {"id": node_id}).one_or_none()
    return None if row is None else _stored(row)


def put_node(connection: sa.Connection, record: NodeRecord, standing: NodeStanding) -> None:
    """Add a node, or replace its record and standing. Its progress stays."""
    names = {"node_id": record.node_id, "ek_name": record.ek_name}
    _PUT.run(connection, {**names, **_record_values(record), **_standing_values(standing)})


def save_standing(connection: sa.Connection, node_id: NodeId, standing: NodeStanding) -> None:
    """Store what was decided about a node."""
    _set(connection, _SET_STANDING, node_id, _standing_values(standing))


def forget_clock(connection: sa.Connection, node_id: NodeId) -> None:
    """Forget what the next round must continue."""
    _set(connection, _SET_CLOCK, node_id, {"clock": None, "ima_mark": None})


def put_progress(connection: sa.Connection, node_id: NodeId, progress: NodeProgress) -> None:
    """Store a node's progress, beside the decision that was made on it."""
    _set(connection, _SET_PROGRESS, node_id, _progress_values(progress))


def _set(connection: sa.Connection, statement: Prepared, node_id: NodeId, values: Mapping[str, object]) -> None:
    statement.run(connection, {"id": node_id, **{f"new_{name}": value for name, value in values.items()}})


def save_progress(connection: sa.Connection, moved: Iterable[Moved]) -> None:
    """Store the progress of many nodes at once, except of those about which something else was decided since."""
    _MOVE.run_all(connection, [_moved_values(each) for each in moved])


def save_certificates(connection: sa.Connection, node_id: NodeId, current: bytes, following: bytes | None) -> None:
    """Store the certificates that speak for a node."""
    values = {"certificate_sha256": current, "next_certificate_sha256": following}
    _set(connection, _SET_CERTIFICATES, node_id, values)


def save_labels(connection: sa.Connection, node_id: NodeId, labels: Mapping[str, str]) -> None:
    """Store the labels of a node."""
    _set(connection, _SET_LABELS, node_id, {"labels": encode_json(labels).decode()})


def decode_findings(raw: bytes) -> tuple[Finding, ...]:
    """Return stored findings without those whose id this version has retired; the next round judges anew.

    Raises:
        MalformedInput: they do not parse.
    """
    found = decode_json(raw, "findings")
    if not isinstance(found, list):
        raise MalformedInput("findings: not a list")
    known = (item for item in found if not isinstance(item, dict) or item.get("id") in BY_CODE)
    items = [Fields(item, "finding") for item in known]
    return tuple(parse_finding(item, partial(_any_text, item)) for item in items)


def decode_labels(raw: bytes) -> Mapping[str, str]:
    """Return stored labels.

    Raises:
        MalformedInput: they do not parse.
    """
    labels = Fields(decode_json(raw, "labels"), "labels")
    names = labels.keys()
    return {name: labels.text(name) for name in names}


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredNode:
    return StoredNode(_record(row), _standing(row), _progress(row))


def _record_values(record: NodeRecord) -> dict[str, object]:
    return {
        "ak_name": record.ak_name,
        "ak_public": record.ak_public,
        "certificate_sha256": record.certificate_sha256,
        "next_certificate_sha256": record.next_certificate_sha256,
        "enrolled": record.enrolled,
        "certified_manufacturer": record.tpm.manufacturer,
        "ek_algorithm": record.tpm.ek_algorithm,
        "labels": encode_json(record.labels).decode(),
        **asdict(record.facts),
    }


def _standing_values(standing: NodeStanding) -> dict[str, object]:
    return {
        "state": standing.state,
        "reason": standing.reason,
        "findings": encode_json(plain_findings(standing.findings)),
        "goldens": encode_json(list(standing.goldens)).decode(),
        "trusted_until": standing.trusted_until,
    }


def _moved_values(moved: Moved) -> dict[str, object]:
    return {
        "id": moved.node_id,
        "seen_version": moved.version,
        "seen_state": moved.state,
        "new_trusted_until": moved.trusted_until,
        **{f"new_{name}": value for name, value in _progress_values(moved.progress).items()},
    }


def _progress_values(progress: NodeProgress) -> dict[str, object]:
    baseline = progress.baseline
    mark = baseline.kept_of(ImaMark) if baseline else None
    return {
        "last_seen": progress.last_seen,
        "clock": None if baseline is None else _encode_clock(baseline),
        "ima_mark": _encode_mark(mark) if mark else None,
    }


def _record(row: sa.Row[tuple[object, ...]]) -> NodeRecord:
    return NodeRecord(
        node_id=row.node_id,
        ek_name=row.ek_name,
        ak_name=row.ak_name,
        ak_public=row.ak_public,
        certificate_sha256=row.certificate_sha256,
        next_certificate_sha256=row.next_certificate_sha256,
        facts=NodeFacts(
            hostname=row.hostname,
            boot_id=row.boot_id,
            tpm_manufacturer=row.tpm_manufacturer,
            tpm_firmware=row.tpm_firmware,
        ),
        enrolled=row.enrolled,
        tpm=TpmFacts(manufacturer=row.certified_manufacturer, ek_algorithm=row.ek_algorithm),
        labels=decode_labels(row.labels.encode()),
    )


def _standing(row: sa.Row[tuple[object, ...]]) -> NodeStanding:
    return NodeStanding(
        state=row.state,
        reason=row.reason,
        findings=decode_findings(row.findings),
        goldens=_decode_goldens(row.goldens),
        trusted_until=row.trusted_until,
    )


def _progress(row: sa.Row[tuple[object, ...]]) -> NodeProgress:
    baseline = None if row.clock is None else _decode_baseline(row.clock, row.ima_mark)
    return NodeProgress(last_seen=row.last_seen, baseline=baseline)


def _decode_goldens(text: str) -> tuple[Digest, ...]:
    found = decode_json(text.encode(), "goldens")
    return tuple(parse_digest(str(item), "golden") for item in found) if isinstance(found, list) else ()


def _any_text(fields: Fields, key: str) -> str:
    return str(fields.take(key))


def _encode_clock(baseline: Baseline) -> bytes:
    # 64-bit counters do not fit JSON's numbers, so the clock is text.
    info = baseline.clock_info
    return encode_json(
        {
            "boot_id": baseline.boot_id,
            "clock": str(info.clock),
            "reset_count": info.reset_count,
            "restart_count": info.restart_count,
            "safe": info.safe,
        }
    )


def _decode_clock(raw: bytes) -> Baseline:
    fields = Fields(decode_json(raw, "clock"), "clock")
    info = ClockInfo(
        clock=int(fields.text("clock", max_length=20)),
        reset_count=fields.integer("reset_count", low=0, high=2**32 - 1),
        restart_count=fields.integer("restart_count", low=0, high=2**32 - 1),
        safe=fields.boolean("safe"),
    )
    return Baseline(clock_info=info, boot_id=fields.text("boot_id"))


def _decode_baseline(clock: bytes, mark: bytes | None) -> Baseline:
    baseline = _decode_clock(clock)
    return baseline if mark is None else baseline._replace(kept=(_decode_mark(mark),))


def _encode_mark(mark: ImaMark) -> bytes:
    return encode_json(
        {
            "aggregates": {bank.hashlib_name: value.hex() for bank, value in mark.aggregates.items()},
            "first_at": mark.first_at.isoformat(),
            "last_at": mark.last_at.isoformat(),
            "offset": mark.offset,
        }
    )


def _decode_mark(raw: bytes) -> ImaMark:
    fields = Fields(decode_json(raw, "IMA mark"), "IMA mark")
    aggregates = fields.fields("aggregates")
    names = aggregates.keys()
    return ImaMark(
        offset=fields.integer("offset", low=0, high=2**53 - 1),
        aggregates={
            HASHES_BY_NAME[name]: aggregates.hex(name, size=HASHES_BY_NAME[name].digest_size) for name in names
        },
        first_at=datetime.fromisoformat(fields.text("first_at")),
        last_at=datetime.fromisoformat(fields.text("last_at")),
    )
