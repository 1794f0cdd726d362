"""What the figures on other loaders are made of, with a script in place of the loaders."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks import loading, loading_peers
from benchmarks.harness import PAIRS, Missing

READY = """#!/bin/sh
read -r peer && echo ready
while read -r way; do
    echo "$way" >>"$2/asked"
    case $way in
    sealed) echo 6 ;;
    peer) echo 2 ;;
    "sealed into parameters") echo 10 ;;
    "peer into parameters") echo 2.5 ;;
    esac
done
"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    python = folder / "python"
    python.write_text(script)
    python.chmod(0o700)
    monkeypatch.setattr(loading, "_PYTHON", python)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(loading_peers, "plain_and_sealed", lambda: nullcontext(folder))


def test_parameters_that_exist_make_the_figure_and_new_tensors_the_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, READY)
    result = loading_peers.over_cryptotensors()
    assert result.runs == (4.0,) * PAIRS
    assert "new tensors on both sides: 3.00" in result.note
    ways = ["sealed", "peer", "sealed into parameters", "peer into parameters"]
    assert (tmp_path / "asked").read_text().splitlines() == ways * PAIRS


def test_a_peer_that_does_not_run_is_missing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, '#!/bin/sh\nread -r peer && echo "$peer does not run here: no libsodium"\n')
    with pytest.raises(Missing, match="tensorizer does not run here: no libsodium"):
        loading_peers.over_tensorizer()


def test_a_worker_that_ends_without_an_answer_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "#!/bin/sh\nread -r peer\n")
    with pytest.raises(RuntimeError, match="stopped"):
        loading_peers.over_tensorizer()
