"""Results as a document for programs (``latest.json``) and a table for people (``latest.md``)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from benchmarks.harness import Result

REACH: Final[Mapping[str, str]] = {
    "appraise_over_p256_verify": "≥ 0.75",
    "appraise_over_keylime_checkquote": "≥ 1.3",
    "rounds_over_p256_verify": "report",
    "boot_log_in_verifies": "≤ 30",
    "ima_over_hashlib": "≥ 0.40",
    "ima_over_keylime": "≥ 4",
    "ima_cost_by_news": "report",
    "acts_over_fsync": "≥ 5",
    "audit_proof_us": "≤ 1000",
    "cli_start_over_python": "≤ 10",
    "egress_claims_us": "≤ 300",
    "egress_rate_error": "0.95 to 1.02",
    "kib_per_node": "≤ 110",
    "cold_load_over_safetensors": "≥ 1.8",
    "cold_load_over_disk": "≥ 0.95",
    "cold_load_over_streamer": "≥ 2.5",
    "load_direct_over_safetensors": "report",
    "load_verified_over_safetensors": "report",
    "load_direct_over_raw": "≥ 0.95",
    "load_verified_over_raw": "≥ 0.95",
    "load_over_no_cipher": "≥ 0.85",
    "load_over_cryptotensors": "≥ 3",
    "load_over_tensorizer": "≥ 6",
    "load_2t_over_1t": "≥ 1.7",
    "load_peak_memory_over_model": "≤ 1.05",
    "seal_over_openssl_gcm": "≥ 0.6",
    "first_tensor_ms": "≤ 50",
    "round_cost_10k_over_100": "≤ 1.10",
    "round_p99_ms_half_load": "report",
    "person_p99_ms_flood": "≤ 1,000",
    "honest_p99_ms_flood": "report",
    "enrol_overhead_ms": "≤ 15",
    "release_overhead_ms": "≤ 10",
}
"""Every figure there is, and what it is to reach."""


def document(results: Mapping[str, Result], at: datetime, commit: str) -> bytes:
    """Return ``latest.json``."""
    content = {
        "machine": machine(),
        "date": at.isoformat(timespec="seconds"),
        "commit": commit,
        "results": {key: _rounded(result) for key, result in results.items()},
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def table(results: Mapping[str, Result], at: datetime, commit: str) -> bytes:
    """Return ``latest.md``."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        "# Benchmark results",
        "",
        f"{at:%Y-%m-%d}, commit {commit}, on: {facts}. What each figure means: [README](../README.md).",
        "",
        "| figure | value | reach | lowest to highest | remarks |",
        "|---|---|---|---|---|",
        *(_row(key, result) for key, result in results.items()),
    ]
    return ("\n".join(lines) + "\n").encode()


def line(key: str, result: Result) -> str:
    """Return one figure as text for a terminal."""
    return f"{key} {_value(result)} (reach {REACH[key]}; {_spread(result)}) {result.note}"


def machine() -> dict[str, object]:
    """Return what matters of this machine for its figures."""
    cpu = [row.partition(":")[2].strip() for row in _lines("/proc/cpuinfo") if row.startswith("model name")]
    kib = [row.split()[1] for row in _lines("/proc/meminfo") if row.startswith("MemTotal")]
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(kib[0]) / 2**20) if kib else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 1),
    }


def commit_of(root: Path) -> str:
    """Return the commit that is checked out, with ``+`` behind it when product code or benchmarks differ from it."""
    named = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return named + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - git with fixed arguments
    return done.stdout.strip() or ("unknown" if arguments[0] == "rev-parse" else "")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _rounded(result: Result) -> dict[str, object]:
    fields = asdict(result)
    fields["value"] = None if result.value is None else _round(result.value)
    fields["runs"] = [_round(run) for run in result.runs]
    return fields


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def _value(result: Result) -> str:
    if result.value is None:
        return "-"
    return f"{_round(result.value):g}" + ("" if result.unit == "ratio" else f" {result.unit}")


def _spread(result: Result) -> str:
    return f"{_round(min(result.runs)):g} to {_round(max(result.runs)):g}" if result.runs else "-"


def _row(key: str, result: Result) -> str:
    against = result.against and ("less " if result.unit == "ms" else "over ") + result.against
    remark = "; ".join(text for text in (against, result.note) if text)
    return f"| `{key}` | {_value(result)} | {REACH[key]} | {_spread(result)} | {remark.replace('|', '/')} |"
