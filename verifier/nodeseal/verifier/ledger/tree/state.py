"""What is in force, as canonical JSON rows: the columns of the database that acts decide.

Whoever replays the acts of an export into an empty database gets the same rows. Large columns stand as their digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from nodeseal.documents import encode_json
from nodeseal.verifier.ledger import acts

_COLUMNS: Final[Mapping[str, str]] = {
    "goldens": "digest name document activated retired",
    "grants": "key_id node_id max_leases",
    "leases": "lease_id node_id key_id model_digest issued ended end_reason cause silence_seconds",
    "approvals": "proposal person signature at",
    "model_keys": (
        "key_id version suite public created revoked place silence_seconds suspended suspended_until suspended_by"
    ),
    "models": "digest model_id version size files content registered retired",
    "nodes": (
        "node_id state reason findings goldens ek_name ak_name ak_public certificate_sha256 next_certificate_sha256 "
        "hostname boot_id tpm_manufacturer tpm_firmware enrolled certified_manufacturer ek_algorithm labels"
    ),
    "person_keys": "blob name fingerprint in_token added",
    "persons": (
        "name roles certificate_sha256 added removed expires next_certificate_sha256 next_expires "
        "suspended suspended_until suspended_by"
    ),
    "proposals": "proposal document signature attachment made expires outcome why settled result",
    "rules": "version document since",
}
"""Columns that acts decide, by table. Progress of steady rounds has columns of its own."""
_LARGE: Final = frozenset({"document", "content", "findings", "signature", "attachment", "result"})
_SUBJECTS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[str, ...]]]] = {
    "goldens": lambda row: (f"golden/{row['digest']}",),
    "grants": lambda row: (f"grant/{row['key_id']}/{row['node_id']}", f"key/{row['key_id']}"),
    "leases": lambda row: (f"lease/{row['lease_id']}",),
    "model_keys": lambda row: (f"key/{row['key_id']}",),
    "models": lambda row: (f"model/{row['digest']}",),
    "nodes": lambda row: tuple(f"node/{row['node_id']}{part}" for part in ("", "/identity", "/certificate", "/labels")),
    "approvals": lambda row: (f"proposal/{row['proposal']}/{row['person']}", f"proposal/{row['proposal']}"),
    "person_keys": lambda row: (
        f"person/{row['name']}/keys/{row['fingerprint']}",
        f"person/{row['name']}/keys",
        f"person/{row['name']}",
    ),
    "persons": lambda row: (f"person/{row['name']}",),
    "proposals": lambda row: (f"proposal/{row['proposal']}",),
    "rules": lambda row: (f"rules/{row['version']}", "rules"),
}


CREATING: Final = frozenset(
    act.kind
    for act in (
        acts.NodeEnrolled,
        acts.LeaseIssued,
        acts.GoldenActivated,
        acts.KeyCreated,
        acts.KeyGranted,
        acts.ModelRegistered,
        acts.PersonAdded,
        acts.PersonKeyAdded,
        acts.ProposalMade,
        acts.RulesSet,
    )
)
"""Kinds of acts that make a row."""
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "approvals": ("proposal", "person"),
    "goldens": ("digest",),
    "grants": ("key_id", "node_id"),
    "leases": ("lease_id",),
    "model_keys": ("key_id",),
    "models": ("digest",),
    "nodes": ("node_id",),
    "person_keys": ("name", "fingerprint", "blob"),
    "persons": ("name",),
    "proposals": ("proposal",),
    "rules": ("version",),
}


class RowPlace(NamedTuple):
    """Where a row stands.

    Attributes:
        table: its table.
        names: values of the columns by which rows of the table are told apart.
    """

    table: str
    names: tuple[str | int | bytes, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects whose acts decide the row; the first is what it is about."""
        return subjects_of(self.table, dict(zip(_KEYS[self.table], self.names, strict=True)))

    def __str__(self) -> str:
        return f"{self.table}: {self.subjects[0]}"


def places_in(connection: sa.Connection, table: str) -> Iterator[RowPlace]:
    """Yield the places of all rows of a table."""
    for row in connection.execute(sa.text(f"SELECT {', '.join(_KEYS[table])} FROM {table}")):  # noqa: S608 - our names
        yield RowPlace(table, tuple(row))


def state_row(connection: sa.Connection, place: RowPlace, *, large: bool) -> bytes | None:
    """Return the row of a place as a document; None: there is none.

    Args:
        connection: of the database.
        place: the row.
        large: whether large columns are part of it.
    """
    names = [name for name in _COLUMNS[place.table].split() if large or name not in _LARGE]
    where = " AND ".join(f"{name} = :{name}" for name in _KEYS[place.table])
    query = sa.text(f"SELECT {', '.join(names)} FROM {place.table} WHERE {where}")  # noqa: S608 - names of our own
    row = connection.execute(query, dict(zip(_KEYS[place.table], place.names, strict=True))).one_or_none()
    if row is None:
        return None
    return encode_json({name: _plain(name, value) for name, value in row._mapping.items()})  # noqa: SLF001 - public


def state_rows(connection: sa.Connection) -> Iterator[bytes]:
    """Yield every row that acts decide, as a document with ``table`` and ``row``."""
    for table, names in _COLUMNS.items():
        query = sa.text(f"SELECT {', '.join(names.split())} FROM {table} ORDER BY 1, 2")  # noqa: S608 - names of our own
        for row in connection.execute(query):
            plain = {name: _plain(name, value) for name, value in row._mapping.items()}  # noqa: SLF001 - public
            yield encode_json({"table": table, "row": plain})


def subjects_of(table: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the subjects whose acts decide a row; the first is what it is about."""
    return _SUBJECTS[table](row)


def _plain(name: str, value: object) -> object:
    if isinstance(value, bytes):
        return sha256(value).hexdigest() if name in _LARGE else value.hex()
    return str(value) if isinstance(value, int) and abs(value) >= 2**53 else value
