"""The sealing benchmark measures what it says; nothing here asserts how fast anything is."""

from __future__ import annotations

from itertools import count

import pytest

from benchmarks import sealing
from benchmarks.harness import PAIRS


def test_every_pair_seals_once_and_leaves_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    cipher = count(1)
    monkeypatch.setattr(sealing, "_SIZE", 4 << 20)
    monkeypatch.setattr(sealing, "gcm_bytes_per_second", lambda: float(next(cipher)))
    result = sealing.over_openssl_gcm()
    assert len(result.runs) == PAIRS == next(cipher) - 1
    assert "on the wall" in result.note
