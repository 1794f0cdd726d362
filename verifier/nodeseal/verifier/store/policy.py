"""What people decided, in the database: goldens, model keys and their grants, registered models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.hpke import ModelPublicKey, Suite
from nodeseal.ids import Digest, KeyId, ModelId, NodeId
from nodeseal.sealed.model_key import ModelKey
from nodeseal.verifier.store.rows import find_record, read_records
from nodeseal.verifier.store.schema import GOLDENS, GRANTS, KEYS, MODELS

# Every release runs these; SQLAlchemy takes longer to build a statement than to run it.
_ACTIVE_DIGESTS: Final = sa.select(GOLDENS.c.digest).where(GOLDENS.c.retired.is_(None))
_FIND_KEY: Final = sa.select(KEYS).where(KEYS.c.key_id == sa.bindparam("id"))
_FIND_GRANT: Final = sa.select(GRANTS.c.max_leases).where(
    GRANTS.c.key_id == sa.bindparam("key"), GRANTS.c.node_id == sa.bindparam("node")
)
_FIND_MODEL: Final = sa.select(MODELS).where(MODELS.c.digest == sa.bindparam("id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRecord:
    """A golden as it was activated.

    Attributes:
        digest: its identity.
        name: for people.
        document: YAML, exact bytes; empty in lists, since it may be large.
        activated: when it was activated last.
        retired: when it was retired, or None while it is active.
    """

    digest: Digest
    name: str
    document: bytes
    activated: datetime
    retired: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A model key.

    Attributes:
        key_id: its name.
        version: counts rotations, from 1.
        suite: spelling of the HPKE suite.
        public: the public half.
        created: when.
        revoked: when it was revoked for good, or None.
        grants: how many leases each node may hold at once.
        place: where the private half is, in the spelling of :class:`nodeseal.verifier.keys.keystore.HeldKey`.
        silence_seconds: how long its leases survive silence of the verifier.
        suspended: since when nobody gets it, or None.
        suspended_until: when that lapses; None: not by itself.
        suspended_by: who suspended it.
    """

    key_id: KeyId
    version: int
    suite: str
    public: bytes
    created: datetime
    revoked: datetime | None = None
    grants: tuple[tuple[NodeId, int], ...] = ()
    place: str
    silence_seconds: int = 0
    suspended: datetime | None = None
    suspended_until: datetime | None = None
    suspended_by: str | None = None

    @property
    def model_key(self) -> ModelKey:
        """The public half, with its names."""
        public = ModelPublicKey(Suite(self.suite), self.public)
        return ModelKey(key_id=self.key_id, key_version=self.version, public=public)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A registered model.

    Attributes:
        digest: SHA-256 of ``content``.
        model_id: its name.
        version: of that name; never goes back, also not when the latest is retired.
        size: bytes of all files, decrypted.
        files: how many.
        content: ``nodeseal.model.json``, exact bytes.
        registered: when it was registered last.
        retired: when it was retired, or None while keys may be released for it.
    """

    digest: Digest
    model_id: ModelId
    version: int
    size: int
    files: int
    content: bytes
    registered: datetime
    retired: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What people decided so far about one model and the keys that its slots name.

    Attributes:
        model: the model, or None: it was never registered.
        keys: the keys that exist, revoked or not.
    """

    model: ModelRecord | None
    keys: Mapping[KeyId, KeyRecord]


def list_goldens(connection: sa.Connection, *, include_retired: bool) -> list[GoldenRecord]:
    """Return goldens by digest, without their documents."""
    nothing = sa.literal(b"").label("document")
    columns = (nothing if column is GOLDENS.c.document else column for column in GOLDENS.c)
    query = sa.select(*columns).order_by(GOLDENS.c.digest)
    if not include_retired:
        query = query.where(GOLDENS.c.retired.is_(None))
    return read_records(connection, query, GoldenRecord)


def read_active_goldens(connection: sa.Connection) -> list[GoldenRecord]:
    """Return the active goldens by digest, with their documents."""
    query = sa.select(GOLDENS).where(GOLDENS.c.retired.is_(None)).order_by(GOLDENS.c.digest)
    return read_records(connection, query, GoldenRecord)


def active_digests(connection: sa.Connection) -> frozenset[Digest]:
    """Return the digests of the active goldens."""
    return frozenset(Digest(row.digest) for row in connection.execute(_ACTIVE_DIGESTS))


def find_golden(connection: sa.Connection, digest: Digest) -> GoldenRecord | None:
    """Return one golden, active or not."""
    return find_record(connection, sa.select(GOLDENS).where(GOLDENS.c.digest == digest), GoldenRecord)


def activate_golden(connection: sa.Connection, golden: GoldenRecord) -> None:
    """Add a golden, or activate a retired one again."""
    connection.execute(GOLDENS.delete().where(GOLDENS.c.digest == golden.digest))
    connection.execute(
        GOLDENS.insert().values(
            digest=golden.digest, name=golden.name, document=golden.document, activated=golden.activated
        )
    )


def retire_golden(connection: sa.Connection, digest: Digest, at: datetime) -> None:
    """Mark a golden as retired."""
    connection.execute(GOLDENS.update().where(GOLDENS.c.digest == digest).values(retired=at))


def list_keys(connection: sa.Connection) -> list[KeyRecord]:
    """Return model keys with their grants, by id."""
    grants: dict[str, list[tuple[NodeId, int]]] = {}
    for row in connection.execute(sa.select(GRANTS).order_by(GRANTS.c.node_id)):
        grants.setdefault(row.key_id, []).append((row.node_id, row.max_leases))
    keys = read_records(connection, sa.select(KEYS).order_by(KEYS.c.key_id), KeyRecord)
    return [replace(key, grants=tuple(grants.get(key.key_id, ()))) for key in keys]


def find_key(connection: sa.Connection, key_id: KeyId) -> KeyRecord | None:
    """Return one model key, without its grants, which may be many."""
    return find_record(connection, _FIND_KEY, KeyRecord, {"id": key_id})


def find_key_with_grants(connection: sa.Connection, key_id: KeyId) -> KeyRecord | None:
    """Return one model key with all its grants."""
    key = find_key(connection, key_id)
    if key is None:
        return None
    query = sa.select(GRANTS).where(GRANTS.c.key_id == key_id).order_by(GRANTS.c.node_id)
    return replace(key, grants=tuple((grant.node_id, grant.max_leases) for grant in connection.execute(query)))


def read_facts(
    connection: sa.Connection, digest: Digest, key_ids: Iterable[KeyId], node_id: NodeId | None = None
) -> ReleaseFacts:
    """Return what a decision about releasing the model ``digest`` by one of the keys depends on.

    Args:
        connection: of the transaction.
        digest: the model.
        key_ids: the keys.
        node_id: the node whose grants count; None: no grant counts.
    """
    keys = [key for key_id in key_ids if (key := find_key(connection, key_id)) is not None]
    if node_id is not None:
        keys = [replace(key, grants=_grant(connection, key.key_id, node_id)) for key in keys]
    return ReleaseFacts(find_model(connection, digest), {key.key_id: key for key in keys})


def _grant(connection: sa.Connection, key_id: KeyId, node_id: NodeId) -> tuple[tuple[NodeId, int], ...]:
    granted = find_grant(connection, key_id, node_id)
    return ((node_id, granted),) if granted else ()


def add_key(connection: sa.Connection, key: KeyRecord) -> None:
    """Add a model key that nobody is granted yet."""
    connection.execute(
        KEYS.insert().values(
            key_id=key.key_id,
            version=key.version,
            suite=key.suite,
            public=key.public,
            created=key.created,
            place=key.place,
            silence_seconds=key.silence_seconds,
        )
    )


def set_silence(connection: sa.Connection, key_id: KeyId, seconds: int) -> None:
    """Store how long leases of a key survive silence."""
    connection.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(silence_seconds=seconds))


def suspend_key(
    connection: sa.Connection, key_id: KeyId, since: datetime | None, until: datetime | None, by: str | None
) -> None:
    """Suspend a key until a time, for good without one, or resume it without a beginning."""
    values = {"suspended": since, "suspended_until": until, "suspended_by": by}
    connection.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(values))


def confirm_key(connection: sa.Connection, key_id: KeyId) -> None:
    """Let the suspension of a key not lapse."""
    connection.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(suspended_until=None))


def lapsed_keys(connection: sa.Connection, now: datetime) -> list[KeyId]:
    """Return keys in force whose suspension has lapsed, without their grants, which may be many."""
    over = sa.and_(KEYS.c.revoked.is_(None), KEYS.c.suspended_until <= now)
    return [KeyId(row.key_id) for row in connection.execute(sa.select(KEYS.c.key_id).where(over))]


def find_grant(connection: sa.Connection, key_id: KeyId, node_id: NodeId) -> int:
    """Return how many leases of a key a node may hold at once; 0: it is not granted."""
    return connection.scalar(_FIND_GRANT, {"key": key_id, "node": node_id}) or 0


def revoke_key(connection: sa.Connection, key_id: KeyId, at: datetime) -> None:
    """Mark a key as revoked, for good, and delete its grants."""
    connection.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(revoked=at))
    connection.execute(GRANTS.delete().where(GRANTS.c.key_id == key_id))


def grant_key(connection: sa.Connection, key_id: KeyId, node_id: NodeId, max_leases: int) -> None:
    """Let a node hold up to ``max_leases`` leases of a key at once."""
    withdraw_grant(connection, key_id, node_id)
    connection.execute(GRANTS.insert().values(key_id=key_id, node_id=node_id, max_leases=max_leases))


def withdraw_grant(connection: sa.Connection, key_id: KeyId, node_id: NodeId) -> bool:
    """Delete a node's grant of a key; tell whether there was one."""
    gone = connection.execute(GRANTS.delete().where(GRANTS.c.key_id == key_id, GRANTS.c.node_id == node_id))
    return gone.rowcount > 0


def list_models(connection: sa.Connection) -> list[ModelRecord]:
    """Return models by name and version, retired or not."""
    query = sa.select(MODELS).order_by(MODELS.c.model_id, MODELS.c.version)
    return read_records(connection, query, ModelRecord)


def find_model(connection: sa.Connection, digest: Digest) -> ModelRecord | None:
    """Return one model, retired or not."""
    return find_record(connection, _FIND_MODEL, ModelRecord, {"id": digest})


def latest_version(connection: sa.Connection, model_id: ModelId) -> int | None:
    """Return the highest version of a model that was ever registered."""
    query = sa.select(sa.func.max(MODELS.c.version)).where(MODELS.c.model_id == model_id)
    highest: int | None = connection.execute(query).scalar_one()
    return highest


def add_model(connection: sa.Connection, model: ModelRecord) -> None:
    """Register a model."""
    connection.execute(
        MODELS.insert().values(
            digest=model.digest,
            model_id=model.model_id,
            version=model.version,
            size=model.size,
            files=model.files,
            content=model.content,
            registered=model.registered,
        )
    )


def retire_model(connection: sa.Connection, digest: Digest, at: datetime) -> None:
    """Mark a model as retired."""
    connection.execute(MODELS.update().where(MODELS.c.digest == digest).values(retired=at))


def restore_model(connection: sa.Connection, digest: Digest, at: datetime) -> None:
    """Register a retired model again."""
    connection.execute(MODELS.update().where(MODELS.c.digest == digest).values(registered=at, retired=None))
