"""A pytest plugin that runs mutants in place of the tests: it collects once, and forks for each mutant.

Collecting loads the product and its tests, which takes longer than most tests do. A child of the loaded process gets a
mutant's code into the functions that are there already (`__code__`), and runs those tests alone that reach the changed
lines, the quickest first, until one fails. What runs at import (constants, decorators, class bodies) cannot be put in
afterwards: ``__main__`` runs such mutants in a process that has loaded libraries only.

`NODESEAL_MUTANTS` names the file of mutants, `NODESEAL_MUTANTS_MODULES` all modules of which there are some,
`NODESEAL_MUTANTS_OUT` the folder of results.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import pytest_sessionfinish

from tools.mutants.code import Mutant, changed_functions, read_mutants

OURS = ("nodeseal", "tests", "support", "conftest", "__main__", "__mp_main__", "tools")
AT_ONCE = 2
MEMORY = 8 << 30
_FAILED: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that failed, in whatever phase."""
    if report.failed:
        _FAILED.append(report.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Measure what each test reaches, then run every mutant in a child."""
    mutants = read_mutants(Path(os.environ["NODESEAL_MUTANTS"]))
    out = Path(os.environ["NODESEAL_MUTANTS_OUT"])
    libraries = [name for name in sys.modules if name.split(".")[0] not in OURS]
    gc.collect()
    gc.freeze()
    modules = {Path(name) for name in os.environ["NODESEAL_MUTANTS_MODULES"].split(os.pathsep)}
    reach = _Reach(session.items, modules, out / "reach.jsonl")
    functions = _live_functions({mutant.path for mutant in mutants})
    (out / "imports.json").write_text(json.dumps({"libraries": libraries, "files": reach.files}), encoding="utf-8")
    with (out / "results.jsonl").open("a", encoding="utf-8") as results:
        for mutant, outcome in _Runs(session, functions, reach).run(mutants):
            results.write(json.dumps({**mutant.key, "digest": mutant.digest, **outcome}) + "\n")
            results.flush()
    return True


class _Reach:
    """Which tests run which lines, and how long they take; measured in a child, so that this process stays as loaded.

    What was measured stands in a file, for the next run on the same sources and tests.
    """

    def __init__(self, items: Sequence[pytest.Item], paths: set[Path], file: Path) -> None:
        self.lines: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.seconds = [0.0] * len(items)
        self.files: dict[str, Counter[str]] = defaultdict(Counter)
        state = _state(items, paths)
        if not file.exists() or file.read_text(encoding="utf-8").partition("\n")[0] != state:
            _measure_in_child(items, paths, file, state)
        for text in file.read_text(encoding="utf-8").splitlines()[1:]:
            index, seconds, failed, lines = json.loads(text)
            self.seconds[index] = seconds
            if failed:
                print(f"fails without a mutant, left out: {items[index].nodeid}", file=sys.__stdout__)
                continue
            for path, line in lines:
                self.lines[path, line].add(index)
            for path in {path for path, _ in lines}:
                self.files[path][items[index].nodeid.split("::")[0]] += 1

    def tests(self, mutant: Mutant) -> list[int]:
        """Return the tests that reach the mutant, the quickest first."""
        found: set[int] = set()
        for line in mutant.lines:
            found |= self.lines.get((str(mutant.path), line), set())
        return sorted(found, key=lambda index: self.seconds[index])


def _state(items: Sequence[pytest.Item], paths: set[Path]) -> str:
    files = sorted({str(item.path) for item in items} | {str(path) for path in paths})
    content = b"".join(sha256(Path(file).read_bytes()).digest() for file in files)
    return sha256(content + "".join(item.nodeid for item in items).encode()).hexdigest()


def _measure_in_child(items: Sequence[pytest.Item], paths: set[Path], file: Path, state: str) -> None:
    child = os.fork()
    if child == 0:
        silence()
        draft = file.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(state + "\n")
            for line in _measure(items, {str(path) for path in paths}):
                stream.write(json.dumps(line) + "\n")
        draft.replace(file)
        os._exit(0)
    os.waitpid(child, 0)


def _measure(items: Sequence[pytest.Item], paths: set[str]) -> Iterator[tuple[int, float, bool, list[tuple[str, int]]]]:
    seen: set[tuple[str, int]] = set()
    known = {path: path for path in paths}

    def local(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def calls(frame: FrameType, _event: str, _argument: object) -> Any:
        if frame.f_code.co_filename in known:
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            return local
        return None

    for index, item in enumerate(items):
        seen.clear()
        _FAILED.clear()
        threading.settrace(calls)
        sys.settrace(calls)
        began = time.perf_counter()
        following = items[index + 1] if index + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds = time.perf_counter() - began
        sys.settrace(None)
        yield index, seconds, bool(_FAILED), sorted(seen)


def _live_functions(paths: set[Path]) -> dict[tuple[str, str, int], list[FunctionType]]:
    names = {str(path) for path in paths}
    found: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    gc.unfreeze()
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename in names:
            found[_place(thing.__code__)].append(thing)
    gc.freeze()
    return found


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


@dataclass
class _Child:
    """A process that runs the tests of one mutant."""

    mutant: Mutant
    pid: int
    ends: float
    tests: int


class _Runs:
    """Runs mutants, some at once: tests wait for much of their time."""

    def __init__(
        self, session: pytest.Session, functions: dict[tuple[str, str, int], list[FunctionType]], reach: _Reach
    ) -> None:
        self._session = session
        self._functions = functions
        self._reach = reach
        self._killers: dict[Path, list[int]] = defaultdict(list)
        self._children: dict[int, _Child] = {}

    def run(self, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, dict[str, object]]]:
        """Give each mutant with what became of it, as they end."""
        for mutant in mutants:
            while len(self._children) >= AT_ONCE:
                yield from self._ended()
            outcome = self._begin(mutant)
            if outcome is not None:
                yield mutant, outcome
        while self._children:
            yield from self._ended()

    def _begin(self, mutant: Mutant) -> dict[str, object] | None:
        """Start a child; or return what is known without one."""
        try:
            changed = changed_functions(mutant)
        except SyntaxError:
            return {"outcome": "killed", "by": "it does not compile"}
        if isinstance(changed, str):
            return {"outcome": changed}
        pairs = [(function, code) for before, code in changed for function in self._functions.get(_place(before), ())]
        if not pairs or any(code.co_freevars != function.__code__.co_freevars for function, code in pairs):
            return {"outcome": "import"}
        tests = self._reach.tests(mutant)
        if not tests:
            return {"outcome": "unreached"}
        known = set(tests)
        first = [index for index in reversed(self._killers[mutant.path][-20:]) if index in known]
        self._fork(mutant, pairs, list(dict.fromkeys([*first, *tests])))
        return None

    def _fork(self, mutant: Mutant, pairs: Sequence[tuple[FunctionType, CodeType]], order: Sequence[int]) -> None:
        seconds = 60 + 4 * sum(self._reach.seconds[index] for index in order)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.setsid()
            silence()
            bound()
            for function, code in pairs:
                function.__code__ = code
            os.write(writer, str(_run(self._session, order, self._reach.seconds)).encode())
            os._exit(0)
        os.close(writer)
        self._children[reader] = _Child(mutant, child, time.monotonic() + seconds, len(order))

    def _ended(self) -> Iterator[tuple[Mutant, dict[str, object]]]:
        soonest = min(child.ends for child in self._children.values())
        ready, _, _ = select.select(list(self._children), [], [], max(0.0, soonest - time.monotonic()))
        late = [reader for reader, child in self._children.items() if child.ends <= time.monotonic()]
        for reader in {*ready, *late}:
            child = self._children.pop(reader)
            answer = os.read(reader, 100) if reader in ready else b""
            os.close(reader)
            _end(child.pid)
            yield child.mutant, self._outcome(child, answer)

    def _outcome(self, child: _Child, answer: bytes) -> dict[str, object]:
        if answer == b"None":
            return {"outcome": "survived", "tests": child.tests}
        if not answer:
            return {"outcome": "killed", "by": "time, memory or a crash"}
        self._killers[child.mutant.path].append(int(answer))
        return {"outcome": "killed", "by": self._session.items[int(answer)].nodeid}


def _end(child: int) -> None:
    """End a child and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _run(session: pytest.Session, order: Sequence[int], seconds: Sequence[float]) -> int | None:
    _FAILED.clear()
    for position, index in enumerate(order):
        item = session.items[index]
        following = session.items[order[position + 1]] if position + 1 < len(order) else None
        limit = int(time.process_time() + 3 * seconds[index]) + 5
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if _FAILED:
            pytest_sessionfinish(session)
            return index
    return None


def silence() -> None:
    """Send what this process prints to nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nothing, stream)


def bound() -> None:
    """Bound the memory of this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
