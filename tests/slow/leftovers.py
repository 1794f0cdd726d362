"""What is left of the demo and of a test run that a signal ends: no process, and no files that nobody removes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from signal import Signals
from typing import Final

from slow.run import Run, pytest, say, started, tests, until

from support.sealed import PLAIN_WEIGHTS

_SIGNALS: Final = (Signals.SIGHUP, Signals.SIGINT, Signals.SIGTERM, Signals.SIGKILL)
_OF_TERMINALS: Final = (Signals.SIGHUP, Signals.SIGINT)
"""A terminal sends these to all processes in the foreground, not to one."""
_ACTS: Final = ("2. The verifier", "4. What counts", "6. node-1 opens")
"""Once the machines run, once the agents run as well, and while a model is opened."""
_CROWDS: Final = (3, 4)
"""Upon so many processes a test run is ended; two are its own, the others verifiers, agents and software TPMs."""
_MOMENT_SECONDS: Final = 900
_TESTS: Final = ("test_agent_process.py", "test_verifier_attestation.py", "test_crash_agent.py")
_KEPT: Final = ("nodeseal-demo-", "pytest-of-")
"""The demo's folder, which people may look at, and the one in which pytest keeps files of its last three runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a run is ended.

    Attributes:
        name: what people call it.
        argv: the command line of the run.
        reached: whether it has come.
    """

    name: str
    argv: Sequence[str]
    reached: Callable[[Run], bool]


def check() -> list[str]:
    """Return what was left, of which run, ended at which moment by which signal."""
    with tempfile.TemporaryDirectory(prefix="model") as model:
        Path(model, "model.safetensors").write_bytes(PLAIN_WEIGHTS)
        pairs = product((*_of_demo(model), *_of_tests()), _SIGNALS)
        return [fault for moment, number in pairs for fault in _left(moment, number)]


def _of_demo(model: str) -> Iterator[Moment]:
    argv = (str(Path(sys.executable).with_name("nodeseal")), "demo", "--model", model)
    for act in _ACTS:
        yield Moment(name=f"the demo in act {act}", argv=argv, reached=partial(_has_said, act))


def _of_tests() -> Iterator[Moment]:
    argv = pytest("-n", "0", *tests(*_TESTS))  # workers would end their tests in order when they lose the run
    for crowd in _CROWDS:
        yield Moment(name=f"a test run of {crowd} processes", argv=argv, reached=partial(_has_grown_to, crowd))


def _has_said(act: str, run: Run) -> bool:
    return act in run.output()


def _has_grown_to(crowd: int, run: Run) -> bool:
    return len(run.running()) >= crowd


def _left(moment: Moment, number: Signals) -> list[str]:
    say(f"leftovers: {number.name} for {moment.name}")
    with started(*moment.argv) as run:
        if not until(lambda: moment.reached(run) or run.process.poll() is not None, _MOMENT_SECONDS):
            return [f"{moment.name} did not come"]
        if run.process.poll() is not None:
            return [f"{moment.name} did not come, the run ended:\n{run.output()}"]
        send = os.killpg if number in _OF_TERMINALS else os.kill
        send(run.process.pid, number)
        left = [f"runs on: {line}" for line in run.left()]
        left += [f"stays: {path.name}" for path in run.folder.iterdir() if not path.name.startswith(_KEPT)]
        return [f"{number.name} for {moment.name}: {each}" for each in left]
