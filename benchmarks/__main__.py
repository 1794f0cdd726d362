"""``python -m benchmarks [KEY]``: everything, written to ``results/``; or one figure, printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.harness import FAILED, Result, measure

_ROOT: Final = Path(__file__).resolve().parents[1]
_AS_THE_VERIFIER: Final = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"
"""What nodeseal-verifier sets for itself: without it, the load generator is busy with handing over between threads."""
_RESULTS: Final = Path(__file__).with_name("results")


def main(arguments: list[str]) -> int:
    """Run all benchmarks, or the one that ``arguments`` name; return the exit status: 1 if one failed."""
    benchmarks = _benchmarks()
    if len(arguments) > 1 or not set(arguments) <= benchmarks.keys():
        print(f"usage: python -m benchmarks [{' | '.join(benchmarks)}]", file=sys.stderr)  # noqa: T201 - a command
        return 2
    at, commit = datetime.now(UTC), report.commit_of(_ROOT)
    results: dict[str, Result] = {}
    for key in arguments or benchmarks:
        results[key] = _measured(key, benchmarks[key])
        if not arguments:
            _RESULTS.mkdir(exist_ok=True)
            (_RESULTS / "latest.json").write_bytes(report.document(results, at, commit))
            (_RESULTS / "latest.md").write_bytes(report.table(results, at, commit))
    return int(any(result.note.startswith(FAILED) for result in results.values()))


def _measured(key: str, benchmark: Callable[[], Result]) -> Result:
    # gRPC's asyncio part serves one event loop in the life of a process; a pool's process would outlive its parent
    context = get_context("spawn")
    results, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(benchmark, sender))
    process.start()
    sender.close()
    try:
        result: Result = results.recv()
    except EOFError:
        result = Result.missing(f"{FAILED}its process ended early")
    process.join()
    print(report.line(key, result), flush=True)  # noqa: T201 - what it is for
    return result


def _benchmarks() -> Mapping[str, Callable[[], Result]]:
    return {**_of_the_service(), **_of_the_loader()}


def _of_the_service() -> Mapping[str, Callable[[], Result]]:
    from benchmarks import (  # noqa: PLC0415 - gRPC reads its environment when it is loaded
        appraisal,
        boot_log,
        egress,
        floods,
        ima,
        latency,
        ledger,
        rounds,
        start,
        tree,
    )

    return {
        "appraise_over_p256_verify": appraisal.over_p256_verify,
        "appraise_over_keylime_checkquote": appraisal.over_keylime_checkquote,
        "rounds_over_p256_verify": rounds.over_p256_verify,
        "round_p99_ms_half_load": rounds.p99_at_half_load,
        "enrol_overhead_ms": latency.enrol_overhead,
        "release_overhead_ms": latency.release_overhead,
        "acts_over_fsync": ledger.acts_over_fsync,
        "audit_proof_us": tree.audit_proof_us,
        "kib_per_node": rounds.kib_per_node,
        "boot_log_in_verifies": boot_log.in_verifies,
        "ima_over_hashlib": ima.over_hashlib,
        "ima_over_keylime": ima.over_keylime,
        "ima_cost_by_news": ima.cost_by_news,
        "person_p99_ms_flood": floods.person_p99,
        "honest_p99_ms_flood": floods.honest_p99,
        "egress_claims_us": egress.claims_us,
        "egress_rate_error": egress.rate_error,
        "cli_start_over_python": start.cli_over_python,
        "round_cost_10k_over_100": rounds.cost_of_many_over_few,
    }


def _of_the_loader() -> Mapping[str, Callable[[], Result]]:
    from benchmarks import cold, loading, loading_peers, sealing  # noqa: PLC0415 - PyTorch takes a second

    return {
        "cold_load_over_safetensors": cold.over_safetensors,
        "cold_load_over_disk": cold.over_disk,
        "cold_load_over_streamer": cold.over_streamer,
        "load_direct_over_safetensors": loading.direct_over_safetensors,
        "load_verified_over_safetensors": loading.verified_over_safetensors,
        "load_direct_over_raw": loading.direct_over_raw,
        "load_verified_over_raw": loading.verified_over_raw,
        "load_over_no_cipher": loading.over_no_cipher,
        "load_over_cryptotensors": loading_peers.over_cryptotensors,
        "load_over_tensorizer": loading_peers.over_tensorizer,
        "load_2t_over_1t": loading.two_threads_over_one,
        "load_peak_memory_over_model": loading.peak_memory_over_model,
        "seal_over_openssl_gcm": sealing.over_openssl_gcm,
        "first_tensor_ms": loading.first_tensor,
    }


if __name__ == "__main__":
    os.environ.setdefault("GRPC_EXPERIMENTS", _AS_THE_VERIFIER)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(main(sys.argv[1:]))
