"""What a test run leaves behind: nothing, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import keeper

TESTS = Path(__file__).resolve().parents[1]
ENDLESS = "import signal, sys; pipe = open(sys.argv[1], 'w'); print('runs', file=pipe, flush=True); signal.pause()"
RUN = """
import os, signal, subprocess, sys, tempfile
from support import keeper

signal.signal(signal.SIGHUP, signal.SIG_DFL)
keeper.start(grace_seconds=0)
print(tempfile.mkdtemp(), flush=True)
program = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_programs_and_temporary_files_go_with_the_run(tmp_path: Path, number: signal.Signals) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, ENDLESS, pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as run:
        with pipe.open() as program:
            assert program.readline() == "runs\n"
            run.send_signal(number)
            assert program.read() == ""  # which ends when the program has ended
        folder, named = run.communicate(timeout=60)  # which ends when the keeper has
    assert named.startswith(b"nodeseal tests: still running after the tests, ended now: ")
    assert not Path(os.fsdecode(folder.strip())).parent.exists()


@pytest.mark.parametrize(("mark", "ended"), [("a run", True), ("another run", False)])
def test_a_process_without_the_mark_of_the_run_is_left_alone(
    mark: str, *, ended: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = os.environ | {keeper.VARIABLE: "a run"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as program:
        while keeper.VARIABLE.encode() not in Path(f"/proc/{program.pid}/environ").read_bytes():
            time.sleep(0.01)  # Popen returns a moment before the kernel shows the new program's environment
        keeper.end(program.pid, mark)
        assert program.communicate(b"\n")[0] is None
    assert program.returncode == (-signal.SIGKILL if ended else 0)
    assert (keeper.ENDED in capfd.readouterr().err) == ended
