"""Mutation test of what decides: codecs, quotes and appraisal. Prints the score and every mutant that survived.

cosmic-ray changes files in place, so each worker has a copy of the tree. Mutants inside annotations are left out:
no test can tell them from the original. The sample is the same for the same tree.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COSMIC_RAY = ROOT / ".venv-mutants" / "bin" / "cosmic-ray"
PARTS = ("agent", "cli", "client", "common", "loader", "protos", "swtpm", "tests", "verifier", "pyproject.toml")
# What is mutated, and the tests that must notice.
TARGETS = {
    "common/nodeseal/tpm": "tests/unit/tpm tests/property/test_tpm_decoders.py",
    "common/nodeseal/x509": "tests/unit/x509 tests/property/test_decoders.py tests/property/test_certificates.py",
    "common/nodeseal/uefi": "tests/unit/uefi tests/property/test_decoders.py",
    "common/nodeseal/ima": "tests/unit/ima tests/property/test_decoders.py",
    "common/nodeseal/evidence/quote.py": "tests/unit/evidence/test_quote.py",
    "common/nodeseal/appraisal": "tests/unit/appraisal tests/property/test_appraisal.py",
}
PYTEST = (
    "-m pytest -x -q --no-header -p no:randomly -p no:cacheprovider -p no:xdist"
    " --hypothesis-seed=0 --hypothesis-profile=mutants"
)
CONFIG = """\
[cosmic-ray]
module-path = "{target}"
timeout = 60.0
excluded-modules = ["**/__init__.py"]
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
"""
Jobs = list[tuple[str, str]]


def main() -> int:
    """Run the mutants; the exit code is 0 whatever survives, for the score is a figure and not a verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", default="300", help="how many mutants, or all")
    sample = parser.parse_args().sample
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="nodeseal-mutants-") as folder:
        original, *copies = [_copy(Path(folder) / str(number)) for number in range(workers + 1)]
        jobs = [(target, job) for target in TARGETS for job in _find(original, target)]
        chosen = _choose(jobs, sample)
        sys.stdout.write(f"{len(chosen)} of {len(jobs)} mutants, {workers} at a time\n")
        with ThreadPoolExecutor(workers) as pool:
            shares = (chosen[number::workers] for number in range(workers))
            results = [result for found in pool.map(_work, [original] * workers, copies, shares) for result in found]
    _report(results)
    return 0


def _copy(folder: Path) -> Path:
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder)
    return folder


def _run(copy: Path, *command: str | Path) -> None:
    roots = os.pathsep.join(str(copy / part) for part in PARTS)
    environment = os.environ | {"PYTHONPATH": roots}
    subprocess.run(command, cwd=copy, env=environment, check=True)  # noqa: S603 - ours


def _session(copy: Path, target: str) -> Path:
    return copy / (target.replace("/", "-") + ".sqlite")


def _find(original: Path, target: str) -> Iterator[str]:
    tests = [tests for tests in TARGETS[target].split() if (original / tests).exists()]
    command = [str(ROOT / ".venv" / "bin" / "python"), *PYTEST.split(), *tests]
    _run(original, *command)  # a test that fails without a mutant would count every mutant as killed
    config = _session(original, target).with_suffix(".toml")
    config.write_text(CONFIG.format(target=target, command=" ".join(command)))
    _run(original, COSMIC_RAY, "init", config.name, _session(original, target).name)
    with closing(sqlite3.connect(_session(original, target))) as session:
        rows = session.execute(
            "SELECT job_id, module_path, start_pos_row, start_pos_col FROM mutation_specs"
        ).fetchall()
    spans = {module: list(_annotations(original / module)) for _, module, _, _ in rows}
    for job, module, row, column in rows:
        if not any(first <= (row, column) < last for first, last in spans[module]):
            yield job


def _annotations(path: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        notes = [getattr(node, name, None) for name in ("annotation", "returns")]
        for note in notes:
            if isinstance(note, ast.expr):
                yield (note.lineno, note.col_offset), (note.end_lineno or 0, note.end_col_offset or 0)


def _choose(jobs: Jobs, sample: str) -> Jobs:
    if sample == "all" or int(sample) >= len(jobs):
        return jobs
    # The ids are random; the order in which cosmic-ray finds mutants is not.
    return random.Random(0).sample(jobs, int(sample))  # noqa: S311 - a sample, not a secret


def _work(original: Path, copy: Path, jobs: Jobs) -> list[tuple[str, str]]:
    results: list[tuple[str, str]] = []
    for target in TARGETS:
        mine = [job for of, job in jobs if of == target]
        session = Path(shutil.copy(_session(original, target), copy))
        config = Path(shutil.copy(_session(original, target).with_suffix(".toml"), copy))
        with closing(sqlite3.connect(session)) as connection:
            marks = ",".join("?" * len(mine))
            for table in ("mutation_specs", "work_items"):
                connection.execute(f"DELETE FROM {table} WHERE job_id NOT IN ({marks})", mine)  # noqa: S608 - only marks
            connection.commit()
            _run(copy, COSMIC_RAY, "exec", config.name, session.name)
            results += connection.execute("SELECT test_outcome, diff FROM work_results").fetchall()
    return results


def _report(results: list[tuple[str, str]]) -> None:
    survivors = [diff for outcome, diff in results if outcome == "SURVIVED"]
    for diff in survivors:
        sys.stdout.write(diff + "\n")
    killed = len(results) - len(survivors)
    sys.stdout.write(f"killed {killed} of {len(results)}: score {100 * killed / max(len(results), 1):.1f} %\n")


if __name__ == "__main__":
    raise SystemExit(main())
