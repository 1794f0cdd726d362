"""Fuzzes every decoder for a time each, from good examples and from what earlier runs found (fuzz-corpus/)."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
CORPUS = ROOT / "fuzz-corpus"
MAX_INPUT = 8192


def main() -> int:
    """Run all targets, as many at a time as there are processors; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", help="some of them; default: all")
    arguments = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    from support.decoders import DECODERS  # noqa: PLC0415 - found by the line before

    names = arguments.targets or list(DECODERS)
    for name in names:
        _seed(CORPUS / name, DECODERS[name].good)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fine = list(pool.map(lambda name: _fuzz(name, arguments.seconds), names))
    failed = fine.count(False)
    sys.stdout.write(f"{len(names) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


def _seed(folder: Path, good: tuple[bytes, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for raw in good:
        (folder / hashlib.sha256(raw).hexdigest()[:16]).write_bytes(raw)


def _fuzz(name: str, seconds: int) -> bool:
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-timeout=10", "-rss_limit_mb=2048"]
    prefix = f"-artifact_prefix={CORPUS / name}-crash-"
    command = [sys.executable, str(TESTS / "fuzz" / "fuzz_decoders.py"), name, *limits, prefix, str(CORPUS / name)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    lines = run.stderr.splitlines()
    count = next((line.split()[1] for line in reversed(lines) if line.startswith("Done ")), "?")
    sys.stdout.write(f"{name:<16} {count:>9} runs  {'ok' if run.returncode == 0 else 'FAILED'}\n")
    sys.stdout.write("\n".join(lines[-40:]) + "\n" if run.returncode else "")
    return run.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
