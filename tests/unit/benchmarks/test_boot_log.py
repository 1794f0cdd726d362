"""Where the benchmark of boot logs takes them from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import boot_log
from nodeseal.appraisal.kinds.boot import conclude_boot


def test_without_real_logs_one_of_our_own_is_as_long_and_judged_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(boot_log, "_REAL_LOGS", tmp_path)
    (raw,), what = boot_log._logs()
    state, claims = conclude_boot(*boot_log._round(raw))
    assert what == f"a log of nodeseal's own with {boot_log.EVENTS[0]} events"
    assert [verdict.findings for verdict in state.verdicts.values()] == [()]
    assert claims is not None
    assert claims.signers
