"""Rotation while people change their minds: what held when a slot was opened must hold when it is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from nodeseal.appraisal.model import Policy
from nodeseal.crypto.hpke import Wrapped
from nodeseal.errors import NodesealError, NotFound, OutOfOrder, PolicyRefused
from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.model_key import ModelKey
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.keys.keystore import HeldKey
from nodeseal.verifier.ledger.acts import Act, key_subject
from nodeseal.verifier.ledger.decided import Decide
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.release.rotation import _SLOTS_OF_AN_ACT, Rewrap, Rotation, _acts
from nodeseal.verifier.store.schema import KEYS, METADATA, MODELS
from support.mandates import KIM
from support.sealed import DATA_KEY, model_key

T = TypeVar("T")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
MODEL = Digest("ab" * 32)
OLD, NEW = model_key(key_id="old")[1], model_key(key_id="new")[1]
REWRAP = Rewrap(model_digest=MODEL, slots=(OLD.slot(MODEL, DATA_KEY),), keys=(NEW,), by=KIM)


class Bench:
    """A verifier with a database in memory, and a key store that opens any slot after ``meanwhile``."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.store = SimpleNamespace(read=self._run)
        explained = SimpleNamespace(require=lambda *_: None)  # its rows have no acts
        self.ledger = SimpleNamespace(commit=self._commit, explained=explained)
        self.memory = Memory(Policy(goldens=(), trust_seconds=120))
        self.acts: list[Act] = []
        self.data_key = bytearray(DATA_KEY)
        self.meanwhile: Callable[[], object] = lambda: None
        self.afterwards: Callable[[], object] = lambda: None

    async def _run(self, work: Callable[[sa.Connection], T]) -> T:
        return work(self.connection)

    async def _commit(self, actor: str, decide: Decide[T]) -> None:
        assert actor == KIM.actor
        self.acts += decide(self.connection).acts
        self.afterwards()

    def open_slot(self, _held: HeldKey, _model: Digest, _slot: Wrapped) -> bytearray:
        self.meanwhile()
        return self.data_key

    def actions(self) -> list[str]:
        return [act.kind for act in self.acts]

    def rewrap(self) -> object:
        fleet: Any = self
        return asyncio.run(Rotation(fleet, fleet).rewrap(REWRAP))


@pytest.fixture
def bench() -> Iterator[Bench]:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for key in (OLD, NEW):
            connection.execute(KEYS.insert().values(**_row(key)))
        facts = {"model_id": "llama", "version": 1, "size": 1, "files": 1, "content": b"{}", "registered": NOW}
        connection.execute(MODELS.insert().values(digest=MODEL, **facts))
        yield Bench(connection)
    engine.dispose()


def _row(key: ModelKey) -> dict[str, object]:
    public = {"suite": key.public.suite.value, "public": key.public.raw, "created": NOW, "place": "file"}
    return {"key_id": key.key_id, "version": key.key_version, **public}


def _revoke(connection: sa.Connection, key_id: KeyId) -> None:
    connection.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(revoked=NOW))


def test_a_rotation_is_recorded_and_its_data_key_is_wiped(bench: Bench) -> None:
    assert bench.rewrap()
    assert bench.actions() == ["model.rewrapped"]
    assert not any(bench.data_key)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda connection: _revoke(connection, OLD.key_id), PolicyRefused),
        (lambda connection: _revoke(connection, NEW.key_id), NotFound),
        (lambda connection: connection.execute(MODELS.delete()), PolicyRefused),
        (lambda connection: connection.execute(MODELS.update().values(retired=NOW)), PolicyRefused),
    ],
    ids=["the old key is revoked", "the new key is revoked", "the model is gone", "the model is retired"],
)
def test_nothing_is_given_out_when_meanwhile(
    bench: Bench, change: Callable[[sa.Connection], object], error: type[NodesealError]
) -> None:
    bench.meanwhile = lambda: change(bench.connection)
    with pytest.raises(error):
        bench.rewrap()
    assert "model.rewrapped" not in bench.actions()
    assert bench.actions() == (["model.rewrap-denied"] if error is PolicyRefused else [])
    assert not any(bench.data_key)


def test_nothing_is_given_out_once_a_key_was_taken_away_although_the_record_of_that_waits(bench: Bench) -> None:
    restriction: Any = SimpleNamespace()
    taken: Restriction = restriction
    bench.afterwards = lambda: bench.memory.withhold(key_subject(NEW.key_id), taken)
    with pytest.raises(OutOfOrder, match="was taken away"):
        bench.rewrap()


@pytest.mark.parametrize("count", [1, 32, 33, 100])
def test_acts_name_every_slot_that_was_made_once_and_not_too_many_each(count: int) -> None:
    opened, made = OLD.slot(MODEL, DATA_KEY), tuple(NEW.slot(MODEL, DATA_KEY) for _ in range(1)) * count
    acts = list(_acts(MODEL, opened, made))
    assert [name for act in acts for name in act.made] == ["new version 1"] * count
    assert {act.opened for act in acts} == {"old version 1"}
    assert all(0 < len(act.made) <= _SLOTS_OF_AN_ACT for act in acts)
    assert len(acts) == -(-count // _SLOTS_OF_AN_ACT)


@pytest.mark.parametrize("taken", [OLD, NEW], ids=["the old key", "the new key"])
def test_a_rotation_uses_no_key_that_was_taken_away(bench: Bench, taken: ModelKey) -> None:
    restriction: Any = SimpleNamespace()
    bench.memory.withhold(key_subject(taken.key_id), restriction)
    with pytest.raises(OutOfOrder, match="was taken away"):
        bench.rewrap()


def test_a_key_with_another_public_half_is_refused(bench: Bench) -> None:
    bench.connection.execute(KEYS.update().where(KEYS.c.key_id == NEW.key_id).values(public=OLD.public.raw))
    with pytest.raises(NotFound):
        bench.rewrap()
