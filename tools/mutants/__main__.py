"""``python -m tools.mutants``: run the mutants that have no result yet, and report all."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from tools.mutants.code import Mutant, read_mutants, read_source

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / ".mutants"
SPECS_PYTHON = ROOT / ".venv-mutants" / "bin" / "python"
TARGETS = (
    "verifier/nodeseal/verifier/release",
    "agent/nodeseal/agent/release",
    "common/nodeseal/appraisal",
    "common/nodeseal/crypto",
    "agent/nodeseal/agent",
    "common/nodeseal/evidence",
    "common/nodeseal/tpm",
    "common/nodeseal/x509",
    "common/nodeseal/uefi",
    "common/nodeseal/ima",
)
# Tests that run the product in their own process. Which of them a mutant needs is measured.
TESTS = ("tests/unit", "tests/property")
_NOT = (
    *("benchmarks", "cli", "loader", "sealed", "swtpm", "test_architecture.py", "test_keeper.py", "test_make.py"),
    *("test_mutants.py", "test_repository.py", "test_slow.py", "test_start_up.py", "test_words.py"),
)
WITHOUT = tuple(f"--ignore=tests/unit/{name}" for name in _NOT)
_OFF = ("randomly", "cacheprovider", "xdist", "terminalreporter")
OPTIONS = (
    *("-q", "-x", "--no-header", "--tb=line", "--assert=plain", "--timeout=60"),
    *("--hypothesis-seed=0", "--hypothesis-profile=mutants", *(f"-pno:{name}" for name in _OFF)),
)
FILES = 6  # test files that a mutant of import time is shown


def main() -> int:
    """Run the mutants that have no result yet; the exit code is 0 whatever survives: a figure is no verdict."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("targets", nargs="*", help="modules or folders; all if none is named")
    parser.add_argument("--tests", default=" ".join(TESTS), help="files and folders of tests that may notice")
    parser.add_argument("--report", action="store_true", help="only print what has been found so far")
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    modules = list(dict.fromkeys(_modules(arguments.targets or TARGETS)))
    mutants = _specify(modules)
    if not arguments.report:
        _run_inside(_missing(mutants), modules, arguments.tests.split())
        _run_imports([mutant for mutant in mutants if _results().get(_name(mutant), {}).get("outcome") == "import"])
    _report(mutants)
    return 0


def _modules(targets: Iterable[str]) -> Iterator[Path]:
    for target in targets:
        path = ROOT / target
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield from (module.relative_to(ROOT) for module in found if module.name != "__init__.py")


def _specify(modules: list[Path]) -> list[Mutant]:
    """Have cosmic-ray make the mutants of each module once for each text of it."""
    found: list[Mutant] = []
    for module in modules:
        digest = hashlib.sha256((ROOT / module).read_bytes()).hexdigest()[:16]
        specs = OUT / f"{str(module).replace('/', '.')}.{digest}.jsonl"
        if not specs.exists():
            command = [SPECS_PYTHON, Path(__file__).with_name("specs.py"), module]
            made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)  # noqa: S603 - ours
            specs.write_bytes(made.stdout)
        found += read_mutants(specs)
    return found


def _name(mutant: Mutant) -> str:
    return json.dumps([str(mutant.path), mutant.first, mutant.last, mutant.text, mutant.digest])


def _results() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    with suppress(FileNotFoundError), (OUT / "results.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            found[json.dumps([row["path"], row["first"], row["last"], row["text"], row["digest"]])] = row
    return found


def _missing(mutants: list[Mutant]) -> list[Mutant]:
    known = _results()
    return [mutant for mutant in mutants if _name(mutant) not in known]


def _run_inside(mutants: list[Mutant], modules: list[Path], tests: Sequence[str]) -> None:
    if not mutants:
        return
    chosen = OUT / "chosen.jsonl"
    chosen.write_text("".join(json.dumps(mutant.key) + "\n" for mutant in mutants), encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "NODESEAL_MUTANTS": str(chosen),
        "NODESEAL_MUTANTS_MODULES": os.pathsep.join(str(ROOT / module) for module in modules),
        "NODESEAL_MUTANTS_OUT": str(OUT),
    }
    command = [sys.executable, "-m", "pytest", "-p", "tools.mutants.loop", *OPTIONS, *WITHOUT, *tests]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)  # noqa: S603 - ours


def _run_imports(mutants: list[Mutant]) -> None:
    """Run what happens at import in children of a process that has loaded libraries, and nothing of ours."""
    if not mutants:
        return
    reach = json.loads((OUT / "imports.json").read_text(encoding="utf-8"))
    os.chdir(ROOT)
    for name in reach["libraries"]:
        with suppress(Exception):
            import_module(name)
    with (OUT / "results.jsonl").open("a", encoding="utf-8") as results:
        for mutant in mutants:
            files = _files(mutant, reach["files"].get(str(mutant.path), {}))
            outcome = "unreached" if not files else "killed" if _child(mutant, files) else "survived"
            row = {**mutant.key, "digest": mutant.digest, "outcome": outcome, "by": " ".join(files)}
            results.write(json.dumps(row) + "\n")
            results.flush()


def _files(mutant: Mutant, counts: dict[str, int]) -> list[str]:
    """Return the test files that reach this module: the one of its name first, then those that reach it most."""
    own = f"test_{mutant.path.name}"
    return sorted(counts, key=lambda file: (Path(file).name != own, -counts[file]))[:FILES]


def _child(mutant: Mutant, files: list[str]) -> bool:
    """Return whether a test failed."""
    child = os.fork()
    if child == 0:
        from tools.mutants.loop import bound, silence  # noqa: PLC0415 - a child alone wants pytest's internals

        silence()
        bound()
        _replace(mutant)
        import pytest  # noqa: PLC0415 - loaded long ago

        os._exit(1 if pytest.main([*OPTIONS, *files]) else 0)
    _, status = os.waitpid(child, 0)
    return status != 0


def _replace(mutant: Mutant) -> None:
    """Have the import of one module compile the mutant's text."""
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
        if Path(loader.get_filename(fullname)) != mutant.path:
            return original(loader, fullname)
        return compile(mutant.source, str(mutant.path), "exec", dont_inherit=True)

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - mypy forbids what this child does


def _report(mutants: list[Mutant]) -> None:
    known = _results()
    rows = [(mutant, known.get(_name(mutant), {"outcome": "not run"})) for mutant in mutants]
    for mutant, row in rows:
        if row["outcome"] in ("survived", "unreached"):
            sys.stdout.write(f"{row['outcome']}: {describe(mutant)}\n")
    counts = Counter(str(row["outcome"]) for _, row in rows)
    run = len(rows) - counts["not run"] - counts["same"]
    sys.stdout.write(
        f"{dict(counts)}: killed {counts['killed']} of {run}, {100 * counts['killed'] / max(run, 1):.1f} %\n"
    )


def describe(mutant: Mutant) -> str:
    """Return a mutant as file, line, the line as it is, and what becomes of it."""
    source = read_source(mutant.path)
    start = source.rfind("\n", 0, mutant.first) + 1
    end = source.find("\n", mutant.last)
    before, after = source[start : mutant.first], source[mutant.last : end]
    was = source[mutant.first : mutant.last]
    place = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
    return f"{place}: {before.lstrip()}[{was} -> {mutant.text}]{after}"


if __name__ == "__main__":
    raise SystemExit(main())
