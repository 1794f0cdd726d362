"""Sealed files against what others load encrypted: the same tensors from the page cache, 1 GB at a time.

Both sides fill parameters that exist already, as in all figures of loading and as serving stacks do; the peers' tensors
are copied for that. In the same turns both give new tensors, which is what the peers' own calls do: there the kernel's
finding pages hides most of what ciphers cost. Times are on the wall.
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks.harness import PAIRS, Missing, Result
from benchmarks.loading import ask, plain_and_sealed, worker

_WAYS: Final = ("sealed", "peer", "sealed into parameters", "peer into parameters")


def over_cryptotensors() -> Result:
    """Over AES-256-GCM in chunks of 2 MiB, a thread a core."""
    return _over("cryptotensors", "cryptotensors 0.2, AES-256-GCM: cryptotensors.torch.load_file")


def over_tensorizer() -> Result:
    """Over XSalsa20-Poly1305, a reader a core."""
    return _over("tensorizer", "tensorizer 2.12, XSalsa20-Poly1305: TensorDeserializer with num_readers=2")


def _over(peer: str, how: str) -> Result:
    with plain_and_sealed() as folder, worker("loading_peers_worker.py", folder) as loader:
        if (answer := ask(loader, peer)) != "ready":
            raise Missing(answer)
        turns = [{way: float(ask(loader, way)) for way in _WAYS} for _ in range(PAIRS)]
    speeds = ", ".join(f"{way} {statistics.median(turn[way] for turn in turns):.2f} GB/s" for way in _WAYS)
    new = statistics.median(turn["sealed"] / turn["peer"] for turn in turns)
    return Result.of(
        tuple(turn["sealed into parameters"] / turn["peer into parameters"] for turn in turns),
        against=f"{how} and Tensor.copy_; parameters that exist on both sides, 2 threads, page cache",
        note=f"new tensors on both sides: {new:.2f}; {speeds}",
    )
