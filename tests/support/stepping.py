"""Programs that kill themselves between two steps of an act: before, within or after a transaction, a fold, a file.

``python -m support.stepping STEP run --config FILE`` is ``nodeseal-verifier run`` that ends at step number ``STEP``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import sqlalchemy as sa

from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.record import Recorder
from nodeseal.verifier.ledger.tree.log_tree import LogTree
from nodeseal.verifier.store import database

CALLS = (
    (Journal, "write"),
    (Journal, "discard"),
    (Recorder, "record"),
    (Recorder, "write"),
    (Ledger, "_take_effect"),
    (Ledger, "_fold"),
    (Ledger, "_let_go"),
    (Fleet, "put_in_force"),
    (LogTree, "extend"),
    (LogTree, "publish"),
    (os, "link"),
    (os, "fsync"),
)


class Steps:
    """Counts steps of all threads and ends the process at one of them."""

    def __init__(self, last: int) -> None:
        self._steps = count(1)
        self._last = last

    def take(self) -> None:
        if next(self._steps) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, holder: Any, name: str) -> None:
        """Let every call of a function be two steps."""
        original = getattr(holder, name)

        def stepping(*arguments: Any, **named: Any) -> Any:
            self.take()
            result = original(*arguments, **named)
            self.take()
            return result

        setattr(holder, name, stepping)

    def install(self) -> None:
        for holder, name in CALLS:
            self.around(holder, name)
        transaction = database.run

        def run(engine: sa.Engine, work: Callable[[sa.Connection], Any]) -> Any:
            if not engine.get_execution_options().get("writes"):
                return transaction(engine, work)
            self.take()

            def stepping(connection: sa.Connection) -> Any:
                result = work(connection)
                self.take()
                return result

            result = transaction(engine, stepping)
            self.take()
            return result

        database.run = run


if __name__ == "__main__":
    Steps(int(sys.argv.pop(1))).install()
    from nodeseal.verifier.main import main

    main()
