"""The ledger: the one way to change anything, and the order in which changes take effect.

:meth:`Ledger.commit` runs a decision inside a transaction, on the rows of that moment, and records its acts. Only then
does memory follow. Decisions that wait together share one transaction, and so one sync of the disk; each has a
savepoint of its own.

:meth:`Ledger.restrict` is for what takes trust away. A restriction is in force at once, then in the journal, then in
the log. Until it is recorded, every transaction begins with it, so nothing that widens trust can overtake it: where the
store cannot take the restriction, it takes nothing else either.

The sequencer (:mod:`nodeseal.verifier.ledger.tree.sequencer`) gives recorded acts their index in the log, and has the
tree signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

import sqlalchemy as sa
import structlog

from nodeseal.errors import MalformedInput, NodesealError, NotFound, NotRecorded, OutOfOrder, Unavailable
from nodeseal.ids import NodeId
from nodeseal.tlog.checkpoint import SignedCheckpoint
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.ledger.acts import NodeJudged
from nodeseal.verifier.ledger.decided import Committed, Decide, Decided, Recorded, T
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.record import Authorship, Recorder
from nodeseal.verifier.ledger.restrictions import Restriction, decide_restriction
from nodeseal.verifier.ledger.shares import Shares
from nodeseal.verifier.ledger.tree.explained import Explained
from nodeseal.verifier.ledger.tree.sequencer import Sequencer, Tree
from nodeseal.verifier.store.acts import has_act
from nodeseal.verifier.store.database import Savepoint, Store
from nodeseal.verifier.store.prepared import concerns_disk

RESERVED_BYTES: Final = 64 * 1024 * 1024
"""Room on the disk that only restrictions by people may use."""
_AT_ONCE: Final = 256
"""Decisions of one transaction."""
_RETRY_SECONDS: Final = 0.5
_SEQUENCE_SECONDS: Final = 0.05
_OTHERS_EVERY: Final = 20
"""Turns of the sequencer between two looks for acts that another program, such as ``person add``, has recorded."""
_log: Final = structlog.get_logger()


class Follower(Protocol):
    """What follows the ledger in memory."""

    def fold(self, recorded: Recorded) -> None:
        """Take over an act that is recorded."""

    def put_in_force(self, restriction: Restriction) -> None:
        """Let a restriction hold, before it is recorded."""

    def lift(self, restriction: Restriction) -> None:
        """Let go of a restriction whose act was folded, or which has nothing to restrict any more."""


@dataclass(slots=True, eq=False)
class _Proposal:
    """A decision that waits for its transaction, and who waits for the outcome."""

    decide: Decide[Any]
    actor: str
    outcome: asyncio.Future[Committed[Any]]
    share: NodeId | None
    restriction: Restriction | None = None

    def authorship(self, at: datetime) -> Authorship:
        if self.restriction is None:
            return Authorship(actor=self.actor, at=at)
        return Authorship(actor=self.actor, at=self.restriction.at, salt=self.restriction.salt)

    def settle(self, outcome: Committed[Any] | Exception) -> None:
        if self.outcome.done():
            return
        if isinstance(outcome, Exception):
            self.outcome.set_exception(outcome)
            self.outcome.exception()  # whoever asked may be gone
        else:
            self.outcome.set_result(outcome)


_Outcome: TypeAlias = Committed[Any] | Exception


class Ledger:
    """The ledger of one worker. Use it from one event loop."""

    def __init__(self, store: Store, mac_key: MacKey, journal: Journal, clock: Clock, tree: Tree) -> None:
        self.store: Final = store
        self._sequencer: Final = Sequencer(store, mac_key, tree)
        self.clock: Final = clock
        self.explained: Final = Explained(mac_key)
        self.shares: Final = Shares()
        self._mac_key: Final = mac_key
        self._journal: Final = journal
        self._journal_thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._follower: Follower | None = None
        self._restrictions: list[_Proposal] = []
        self._waiting: list[_Proposal] = []
        self._writing: asyncio.Task[None] | None = None
        self._tasks: Final[set[asyncio.Task[Any]]] = set()
        self._fault: NodesealError | None = None
        self._broken: Exception | None = None
        self._unnumbered = True

    def follow(self, follower: Follower) -> None:
        """Let ``follower`` know of all that happens from now on."""
        self._follower = follower

    async def commit(
        self, actor: str, decide: Decide[T], *, share: NodeId | None = None, proved: bool = True
    ) -> Committed[T]:
        """Record what ``decide`` decides, and let memory follow.

        Args:
            actor: who asked for it.
            decide: runs in the database's thread, inside the transaction.
            share: the node whose share of the log it uses.
            proved: whether that node's TPM has proved what is recorded; see :meth:`Shares.require`.

        Raises:
            NodesealError: the refusal of ``decide``; nothing was recorded.
            TooManyRequests: the share is used up.
            Unavailable: the store cannot take it now; nothing has changed.
        """
        if self._fault is not None:
            raise self._fault
        if share is not None:
            self.shares.require(share, self.clock.steady(), proved=proved)
        proposal = _Proposal(decide, actor, asyncio.get_running_loop().create_future(), share)
        self._waiting.append(proposal)
        self.wake()
        return await asyncio.shield(proposal.outcome)

    async def restrict(self, restriction: Restriction) -> Committed[None]:
        """Let a restriction hold at once, and record it as soon as the store can take it.

        Raises:
            NotFound: what it restricts does not exist; nothing was recorded.
            OutOfOrder: it was taken away before; nothing was recorded.
            NotRecorded: it is in force here; the message says whether a restart of the verifier keeps it.
        """
        proposal = self._put_in_force(restriction)
        kept = restriction.by_time or await asyncio.shield(self._in_background(self._keep(restriction)))
        if proposal not in self._restrictions:  # another decision took it along
            await self._discard(restriction)
        self.wake()
        try:
            return await asyncio.shield(proposal.outcome)
        except Unavailable as error:
            raise _not_recorded(error, kept=kept) from error

    def _put_in_force(self, restriction: Restriction) -> _Proposal:
        def decide(connection: sa.Connection) -> Decided[None]:
            if has_act(connection, restriction.salt):
                return Decided(None)
            return decide_restriction(connection, restriction)

        outcome = asyncio.get_running_loop().create_future()
        caused_by = restriction.act.node_id if isinstance(restriction.act, NodeJudged) else None
        proposal = _Proposal(decide, restriction.actor, outcome, caused_by, restriction)
        self._restrictions.append(proposal)
        self._following.put_in_force(restriction)
        return proposal

    async def resume(self) -> None:
        """Put what the journal holds in force again, and record it if the store can take it.

        One that is recorded has a file left over; what was decided since must not be undone by it.

        Raises:
            MalformedInput: a file of the journal does not parse.
            Unavailable: journal or database cannot be read.
        """
        found = await self._in_journal_thread(self._journal.read)
        over = await self.store.read(lambda connection: {each.salt for each in found if has_act(connection, each.salt)})
        for restriction in found:
            if restriction.salt in over:
                await self._discard(restriction)
            else:
                self._put_in_force(restriction)
        self.wake()
        await self.settle()

    @property
    def published(self) -> SignedCheckpoint | None:
        """The last checkpoint of the log that may be given out; None: acts are not numbered yet."""
        return self._sequencer.published

    @property
    def waiting(self) -> tuple[Restriction, ...]:
        """Restrictions that are in force and not recorded yet, the oldest first."""
        return tuple(each.restriction for each in self._restrictions if each.restriction is not None)

    async def settle(self) -> None:
        """Wait for decisions whose callers have gone."""
        while under_way := {*self._tasks, *({self._writing} if self._writing else ())}:
            await asyncio.wait(under_way)

    async def close(self) -> None:
        """Wait for what is under way, and number what is recorded."""
        await self.settle()
        try:
            await self.sequence()
        except NodesealError as error:
            _log.error("acts could not be numbered", error=str(error))
        self._journal_thread.shutdown(wait=True)
        self.explained.close()

    async def keep_recording(self) -> None:
        """Try again to record restrictions until cancelled.

        Raises:
            RuntimeError: memory may lack what is recorded, by a fault of this program; only a new start reads it again.
        """
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            if self._broken is not None:
                raise RuntimeError("memory does not follow the log") from self._broken
            if self._restrictions:
                self.wake()

    async def keep_sequencing(self) -> None:
        """Number recorded acts until cancelled."""
        for turn in count():
            await asyncio.sleep(_SEQUENCE_SECONDS)
            if self._unnumbered or turn % _OTHERS_EVERY == 0:
                try:
                    await self.sequence()
                except NodesealError as error:
                    _log.error("acts could not be numbered yet", error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)

    async def sequence(self) -> None:
        """Give every recorded act its index in the log.

        Raises:
            MalformedInput: a row, or the tree, is not what this verifier wrote. From now on nothing but restrictions is
                recorded.
            Unavailable: the store cannot take it now.
        """
        self._unnumbered = False
        try:
            for recorded in await self._sequencer.number():
                self._following.fold(recorded)
        except NodesealError as error:
            self._unnumbered = True
            if isinstance(error, MalformedInput):
                self._fault = Unavailable(str(error), remedy=error.remedy)
            raise

    @property
    def _following(self) -> Follower:
        if self._follower is None:
            raise RuntimeError("nobody follows the ledger")
        return self._follower

    def wake(self) -> None:
        """Record what waits, as far as the store can take it."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            await self._write_some()  # restrictions that were refused before, too
            while self._waiting or any(not each.outcome.done() for each in self._restrictions):
                await self._write_some()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the verifier
            self._broken = error
        finally:
            self._writing = None

    async def _write_some(self) -> None:
        """Record restrictions, then what waits; each of them is answered, whether or not the store takes it."""
        restrictions, waiting = tuple(self._restrictions), tuple(self._waiting[:_AT_ONCE])
        del self._waiting[: len(waiting)]
        try:
            low = self.store.free_bytes() < RESERVED_BYTES
            batch = tuple(filter(_of_person, restrictions)) if low else (*restrictions, *waiting)
            outcomes = await self.store.write(lambda connection: self._record(connection, batch)) if batch else ()
        except Unavailable as error:
            for proposal in (*restrictions, *waiting):
                proposal.settle(error)
            return
        self._take_effect(batch, outcomes)
        for proposal in {*restrictions, *waiting}.difference(batch):
            proposal.settle(_nearly_full())

    def _record(self, connection: sa.Connection, batch: Sequence[_Proposal]) -> Sequence[_Outcome]:
        recorder = Recorder(connection, self._mac_key)
        outcomes: list[_Outcome] = []
        stuck: Unavailable | None = None
        for proposal in batch:
            outcome = stuck if stuck and not proposal.restriction else self._record_one(connection, recorder, proposal)
            if proposal.restriction and not _is_over(outcome):
                outcome = stuck = Unavailable(f"a restriction cannot be recorded: {outcome}")
            outcomes.append(outcome)
        recorder.write()
        return outcomes

    def _record_one(self, connection: sa.Connection, recorder: Recorder, proposal: _Proposal) -> _Outcome:
        savepoint = Savepoint(connection)
        authorship = proposal.authorship(self.clock.wall())  # before it decides: what counts then counts at this time
        try:
            committed = recorder.record(proposal.decide(connection), authorship)
        except Exception as error:  # the failure of one decision is not the failure of the others
            if concerns_disk(error):
                raise  # the store's own failure: nothing of the batch is on the disk
            savepoint.undo()
            return error
        savepoint.keep()
        return committed

    def _take_effect(self, batch: Sequence[_Proposal], outcomes: Sequence[_Outcome]) -> None:
        for proposal, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Committed):
                self._fold(proposal, outcome)
            if proposal.restriction is not None:
                self._let_go(proposal, proposal.restriction, outcome)
            proposal.settle(outcome)

    def _fold(self, proposal: _Proposal, committed: Committed[Any]) -> None:
        self._unnumbered = self._unnumbered or bool(committed.recorded)
        if proposal.share is not None:
            self.shares.charge(proposal.share, committed.size, self.clock.steady())
        for recorded in committed.recorded:
            self._following.fold(recorded)

    def _let_go(self, proposal: _Proposal, restriction: Restriction, outcome: _Outcome) -> None:
        """Lift a restriction that is recorded, or that the rows say restricts nothing; any other stays in force."""
        if not _is_over(outcome):
            _log.error("a restriction cannot be recorded", kind=restriction.act.kind, error=str(outcome))
            return
        self._restrictions.remove(proposal)
        self._following.lift(restriction)
        if not restriction.by_time:
            self._in_background(self._discard(restriction))

    def _in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, restriction: Restriction) -> bool:
        try:
            await self._in_journal_thread(lambda: self._journal.write(restriction))
        except Unavailable as error:
            _log.error("a restriction is in force and not in the journal", kind=restriction.act.kind, error=str(error))
            return False
        return True

    async def _discard(self, restriction: Restriction) -> None:
        try:
            await self._in_journal_thread(lambda: self._journal.discard(restriction))
        except Unavailable as error:
            _log.error("a recorded restriction stays in the journal", error=str(error))

    async def _in_journal_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._journal_thread, work)


def _is_over(outcome: _Outcome) -> bool:
    """Tell whether a restriction is recorded, or the rows say that it restricts nothing."""
    return isinstance(outcome, (Committed, NotFound, OutOfOrder))


def _of_person(proposal: _Proposal) -> bool:
    return proposal.restriction is not None and proposal.restriction.of_person


def _nearly_full() -> Unavailable:
    room = RESERVED_BYTES // 1024 // 1024
    return Unavailable(
        f"store: less than {room} MiB are left on the database's disk, which are kept for people who take trust away",
        remedy="make room on that disk",
    )


def _not_recorded(error: Unavailable, *, kept: bool) -> NotRecorded:
    restart = "a restart of the verifier keeps it" if kept else "a restart of the verifier would lose it"
    return NotRecorded(
        f"in force on this verifier, not recorded yet ({error}); {restart}",
        remedy=error.remedy or "check the database's disk: space, permissions, load",
    )
