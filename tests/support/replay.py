"""Replays a verifier's acts: rows made anew from them, and memory folded from them, must be what the verifier has."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nodeseal.appraisal.model import Policy
from nodeseal.ids import Digest, digest_of
from nodeseal.verifier.fleet.fold import fold
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.ledger.decided import Recorded
from nodeseal.verifier.ledger.leaf import Entry, leaf_hash, read_entry
from nodeseal.verifier.ledger.projectors import project
from nodeseal.verifier.store.acts import all_versions, every_act, put_document
from nodeseal.verifier.store.database import made_engine, opened_engine, run
from nodeseal.verifier.store.schema import DOCUMENTS, GOLDENS, METADATA, MODELS, PROPOSALS

DECIDED = {
    "nodes": (
        "node_id state reason findings goldens ek_name ak_name ak_public certificate_sha256 next_certificate_sha256 "
        "hostname boot_id tpm_manufacturer tpm_firmware enrolled certified_manufacturer ek_algorithm labels"
    ),
    "goldens": "digest name document activated retired",
    "model_keys": (
        "key_id version suite public created revoked place silence_seconds suspended suspended_until suspended_by"
    ),
    "grants": "key_id node_id max_leases",
    "models": "digest model_id version size files content registered retired",
    "leases": "lease_id node_id key_id model_digest issued ended end_reason cause silence_seconds",
    "persons": (
        "name roles certificate_sha256 added removed expires next_certificate_sha256 next_expires "
        "suspended suspended_until suspended_by"
    ),
    "person_keys": "blob name fingerprint in_token added",
    "rules": "version document since",
    "proposals": "proposal document signature attachment made expires outcome why settled result",
    "approvals": "proposal person signature at",
}
"""The columns that acts decide, by table. Progress of steady rounds has columns of its own."""


def replay(database: Path, scratch: Path) -> int:
    """Check that rows and memory follow from the acts of a database; return how many acts there are.

    Databases of the first release have rows that no act made; they are not for this.
    """
    entries, documents, contents = _read(database)
    with made_engine(scratch) as engine:
        METADATA.create_all(engine)
        run(engine.execution_options(writes=True), lambda made: _project(made, entries, documents, contents))
    for table, columns in DECIDED.items():
        assert _rows(scratch, table, columns) == _rows(database, table, columns), table
    _compare(_folded(entries, documents, contents), database)
    scratch.unlink()
    return len(entries)


def _read(database: Path) -> tuple[list[Entry], Mapping[Digest, bytes], Mapping[Digest, bytes]]:
    def work(rows: sa.Connection) -> tuple[list[Entry], Mapping[Digest, bytes], Mapping[Digest, bytes]]:
        entries = [read_entry(row.envelope, row.body) for row in every_act(rows)]
        documents = {row.digest: row.content for row in rows.execute(sa.select(DOCUMENTS))}
        contents = [row.document for row in rows.execute(sa.select(GOLDENS.c.document))]
        contents += [row.content for row in rows.execute(sa.select(MODELS.c.content))]
        contents += [row.attachment for row in rows.execute(sa.select(PROPOSALS.c.attachment))]
        return entries, documents, {digest_of(content): content for content in contents}

    with opened_engine(database) as engine:
        return run(engine, work)


def _project(
    made: sa.Connection,
    entries: list[Entry],
    documents: Mapping[Digest, bytes],
    contents: Mapping[Digest, bytes],
) -> None:
    for digest, content in documents.items():
        put_document(made, digest, content)
    for entry in entries:
        project(made, entry, contents)


def _rows(database: Path, table: str, columns: str) -> list[tuple[Any, ...]]:
    names = ", ".join(columns.split())
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.execute(f"SELECT {names} FROM {table}"), key=repr)  # noqa: S608 - names of our own


def _folded(entries: list[Entry], documents: Mapping[Digest, bytes], contents: Mapping[Digest, bytes]) -> Memory:
    memory = Memory(Policy(goldens=(), trust_seconds=120))
    for entry in entries:
        fold(memory, Recorded(entry, leaf_hash(b""), {**documents, **contents}))
    return memory


def _compare(memory: Memory, database: Path) -> None:
    with opened_engine(database) as engine:
        versions = run(engine, all_versions)
    nodes = {
        row[0]: row[1:]
        for row in _rows(database, "nodes", "node_id state reason ak_name certificate_sha256 next_certificate_sha256")
    }
    assert {
        node_id: (
            node.state.value,
            node.reason,
            node.record.ak_name,
            node.record.certificate_sha256,
            node.record.next_certificate_sha256,
        )
        for node_id, node in memory.nodes.items()
    } == nodes
    assert {node_id: node.version for node_id, node in memory.nodes.items()} == {
        node_id: versions[f"node/{node_id}"] for node_id in nodes
    }
    people = [person for name in memory.people if (person := memory.person(name)) is not None]
    assert {(person.name, person.certificate_sha256, person.next_certificate_sha256) for person in people} == {
        row[:3]
        for row in _rows(database, "persons", "name certificate_sha256 next_certificate_sha256 removed")
        if row[3] is None
    }
    assert memory.keys == {key for key, revoked in _rows(database, "model_keys", "key_id revoked") if revoked is None}
    running = {lease for lease, ended in _rows(database, "leases", "lease_id ended") if ended is None}
    assert {lease for node in memory.nodes.values() for lease in node.leases} == running
    active = {digest for digest, retired in _rows(database, "goldens", "digest retired") if retired is None}
    assert {golden.digest for golden in memory.policy.goldens} == active
