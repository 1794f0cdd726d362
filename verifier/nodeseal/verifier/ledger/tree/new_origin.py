"""A new log for a database that was put back: nothing that it brings back to life counts by itself.

The old log cannot go on: acts under its last checkpoints are gone, and other acts in their places would be a second
tree. So a new log begins, whose leaf 0 names the old one. What was revoked, removed or retired after the copy was made
is in force again in the rows. Therefore all of it is taken away in the same transaction: every grant is withdrawn,
every golden and model retired, every node quarantined, every lease ended, and everybody removed who is not named.
People then decide anew, by the rules for widening trust.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from nodeseal.errors import MalformedInput, NotFound, OutOfOrder
from nodeseal.ids import PersonId
from nodeseal.tlog.checkpoint import Checkpoint, SignedCheckpoint
from nodeseal.tlog.tree import RootBuilder, hash_leaf
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.record import Authorship, record
from nodeseal.verifier.ledger.restrictions import ended_by
from nodeseal.verifier.ledger.tree.log_tree import LogTree, read_checkpoint_file
from nodeseal.verifier.ledger.tree.sequencer import number_all
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.acts import log_size
from nodeseal.verifier.store.database import run
from nodeseal.verifier.store.nodes import load_nodes
from nodeseal.verifier.store.persons import list_persons
from nodeseal.verifier.store.policy import list_goldens, list_keys, list_models
from nodeseal.verifier.store.tree import newest_checkpoint, numbered_envelopes

_WHY = "the database was put back"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrigin:
    """Who begins a new log, and why.

    Attributes:
        actor: who.
        at: when.
        reason: what they wrote.
        keep: people who stay.
    """

    actor: str
    at: datetime
    reason: str
    keep: Collection[PersonId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What was done.

    Attributes:
        signed: the first checkpoint of the new log.
        before: the last known checkpoint of the old one.
        kept: acts of the old log that are there.
        taken: each thing that was taken away, in plain words.
    """

    signed: SignedCheckpoint
    before: Checkpoint
    kept: int
    taken: tuple[str, ...]


def begin_anew(engine: sa.Engine, mac_key: MacKey, tree: LogTree, file: Path, plan: NewOrigin) -> Begun:
    """Begin a new log, and take away all that the database brings back to life.

    Raises:
        OutOfOrder: the database goes on from the last checkpoint, so nothing is wrong with it.
        NotFound: somebody who is to stay is not there.
        MalformedInput: an act was not written by this verifier.
        Unavailable: database or file cannot be read or written.
    """
    if _goes_on(engine, tree):
        raise OutOfOrder("the database goes on from the last checkpoint: no new log is needed")
    return run(engine.execution_options(writes=True), partial(_begin, mac_key=mac_key, tree=tree, file=file, plan=plan))


def _goes_on(engine: sa.Engine, tree: LogTree) -> bool:
    try:
        run(engine, tree.last)
    except MalformedInput:
        return False
    return True


def _begin(connection: sa.Connection, *, mac_key: MacKey, tree: LogTree, file: Path, plan: NewOrigin) -> Begun:
    people = {person.name for person in list_persons(connection)}
    if missing := sorted(set(plan.keep) - people):
        raise NotFound(f"nobody is called {missing[0]}", remedy="nodeseal-verifier person list")
    number_all(connection, mac_key, None)
    before, kept, root = _known(connection, tree, file)
    changed = acts.OriginChanged(
        origin=before.origin,
        signed_size=before.size,
        signed_root=before.root,
        kept_size=kept,
        kept_root=root,
        reason=plan.reason,
    )
    first = log_size(connection)
    taken = tuple(_taken(connection, plan.keep))
    authorship = Authorship(actor=plan.actor, at=plan.at)
    record(connection, Decided(None, (changed, *taken)), authorship, mac_key)
    number_all(connection, mac_key, None)
    signed = tree.begin(connection, first)
    tree.publish(signed)
    return Begun(signed=signed, before=before, kept=kept, taken=tuple(act.sentence() for act in taken))


def _known(connection: sa.Connection, tree: LogTree, file: Path) -> tuple[Checkpoint, int, bytes]:
    """Return the last known checkpoint of the old log, and size and root of what is left of it."""
    found = newest_checkpoint(connection)
    first = found[0] if found else 0
    left = RootBuilder()
    for page in numbered_envelopes(connection, first):
        for envelope in page:
            left.add(hash_leaf(envelope))
    known = [tree.head(connection).signed.checkpoint] if found else []
    try:
        kept = read_checkpoint_file(file, tree.public).checkpoint
        known += [kept] if not known or kept.origin == known[0].origin else []
    except MalformedInput:  # that is why there is a new log
        pass
    if not known:
        raise MalformedInput("store: the log has no tree", remedy="run nodeseal-verifier upgrade")
    return max(known, key=lambda each: each.size), left.size, left.root()


def _taken(connection: sa.Connection, keep: Collection[PersonId]) -> Iterator[acts.Act]:
    for person in list_persons(connection):
        if person.name not in keep:
            roles = tuple(sorted(role.value for role in person.roles))
            yield acts.PersonRemoved(name=person.name, roles=roles, certificate_sha256=person.certificate_sha256)
    for node in load_nodes(connection):
        if node.standing.state is not NodeState.RETIRED:
            quarantined = acts.NodeQuarantined(node_id=node.record.node_id, reason=_WHY)
            yield quarantined
            yield from ended_by(connection, quarantined)
    for key in list_keys(connection):
        for node_id, _ in key.grants:
            yield acts.GrantWithdrawn(key_id=key.key_id, node_id=node_id, reason=_WHY)
    for golden in list_goldens(connection, include_retired=False):
        yield acts.GoldenRetired(digest=golden.digest, name=golden.name)
    for model in list_models(connection):
        if model.retired is None:
            yield acts.ModelRetired(
                digest=model.digest, model_id=model.model_id, model_version=model.version, reason=_WHY
            )
