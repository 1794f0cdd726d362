"""Nodes in the database: identity, labels, state, and what the next round must continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from nodeseal.appraisal.kinds.ima import ImaMark
from nodeseal.appraisal.model import UNKNOWN_TPM, Baseline, TpmFacts
from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.findings import BY_CODE, Finding
from nodeseal.ids import NodeId
from nodeseal.tpm.algorithms import HASHES_BY_NAME
from nodeseal.tpm.attest import ClockInfo
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.schema import NODES
from nodeseal.wire.findings import parse_finding, plain_findings


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
    """The standing of a node: its state, and the reasons.

    Attributes:
        state: one of the seven.
        reason: why, where a person or an event decided.
        findings: of the last round.
        trusted_until: end of trust, while trusted.
        last_seen: last authentic evidence.
        baseline: clock, boot id and IMA mark of the last believable round; all that the database keeps of a baseline.
    """

    state: NodeState
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    trusted_until: datetime | None = None
    last_seen: datetime | None = None
    baseline: Baseline | None = None


def load_nodes(connection: sa.Connection) -> list[tuple[NodeRecord, NodeStanding]]:
    """Return all nodes."""
    return [(_record(row), _standing(row)) for row in connection.execute(sa.select(NODES))]


def put_node(connection: sa.Connection, record: NodeRecord, standing: NodeStanding) -> None:
    """Add a node, or replace its record and standing."""
    values = {**_record_values(record), **_standing_values(standing)}
    changed = connection.execute(NODES.update().where(NODES.c.node_id == record.node_id).values(**values))
    if changed.rowcount == 0:
        connection.execute(NODES.insert().values(node_id=record.node_id, ek_name=record.ek_name, **values))


def save_standing(connection: sa.Connection, node_id: NodeId, standing: NodeStanding) -> None:
    """Store the standing of a node."""
    connection.execute(NODES.update().where(NODES.c.node_id == node_id).values(**_standing_values(standing)))


def save_standings(connection: sa.Connection, standings: Mapping[NodeId, NodeStanding]) -> None:
    """Store the standings of many nodes at once, which is far faster than one by one."""
    rows = [{"id": node_id, **_standing_values(standing)} for node_id, standing in standings.items()]
    if rows:
        connection.execute(NODES.update().where(NODES.c.node_id == sa.bindparam("id")), rows)


def save_certificates(connection: sa.Connection, node_id: NodeId, current: bytes, following: bytes | None) -> None:
    """Store the certificates that speak for a node."""
    values = {"certificate_sha256": current, "next_certificate_sha256": following}
    connection.execute(NODES.update().where(NODES.c.node_id == node_id).values(**values))


def save_labels(connection: sa.Connection, node_id: NodeId, labels: Mapping[str, str]) -> None:
    """Store the labels of a node."""
    connection.execute(NODES.update().where(NODES.c.node_id == node_id).values(labels=encode_json(labels).decode()))


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
    mark = standing.baseline.kept_of(ImaMark) if standing.baseline else None
    return {
        "state": standing.state,
        "reason": standing.reason,
        "findings": encode_json(plain_findings(standing.findings)),
        "trusted_until": standing.trusted_until,
        "last_seen": standing.last_seen,
        "clock": None if standing.baseline is None else _encode_clock(standing.baseline),
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
        labels=_decode_labels(row.labels),
    )


def _standing(row: sa.Row[tuple[object, ...]]) -> NodeStanding:
    return NodeStanding(
        state=row.state,
        reason=row.reason,
        findings=_decode_findings(row.findings),
        trusted_until=row.trusted_until,
        last_seen=row.last_seen,
        baseline=None if row.clock is None else _decode_baseline(row.clock, row.ima_mark),
    )


def _decode_findings(raw: bytes) -> tuple[Finding, ...]:
    """Return the findings without those whose id this version has retired; the next round judges anew."""
    found = decode_json(raw, "findings")
    plain = found if isinstance(found, list) else []
    items = [Fields(item, "finding") for item in plain if isinstance(item, dict) and item.get("id") in BY_CODE]
    return tuple(parse_finding(item, partial(_any_text, item)) for item in items)


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


def _decode_labels(text: str) -> Mapping[str, str]:
    labels = Fields(decode_json(text.encode(), "labels"), "labels")
    names = labels.keys()
    return {name: labels.text(name) for name in names}
