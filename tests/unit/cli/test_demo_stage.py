"""What the demo's stage starts: it ends with the demo, however that ends, and can be halted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from nodeseal.cli.demo import leash
from nodeseal.cli.demo.narrator import Narrator
from nodeseal.cli.demo.stage import DemoFailed, Stage

ENDLESS = "import signal, sys; pipe = open(sys.argv[1], 'w'); print('runs', file=pipe, flush=True); signal.pause()"
DEMO = """
import signal, sys
from pathlib import Path
from rich.console import Console
from nodeseal.cli.demo.command import _end_in_order_on
from nodeseal.cli.demo.narrator import Narrator
from nodeseal.cli.demo.stage import Stage

folder, endless, pipe = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this test was started with
signal.signal(signal.SIGHUP, signal.SIG_DFL)
_end_in_order_on(signal.SIGHUP, signal.SIGTERM)
with Stage(Path(folder), Narrator(Console())) as stage:
    stage.start("program", "python", "-c", endless, pipe)
    stage.type("python", "-c", endless, pipe)
"""


def a_stage(folder: Path) -> Stage:
    return Stage(folder, Narrator(Console(file=StringIO())))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_programs_and_commands_end_with_the_demo_that_started_them(tmp_path: Path, number: signal.Signals) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", DEMO, str(tmp_path / "stage"), ENDLESS, str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo, pipe.open() as said:
        assert [said.readline(), said.readline()] == ["runs\n", "runs\n"]
        demo.send_signal(number)
        assert said.read() == ""  # which ends when no program has the pipe any more


def test_a_program_whose_parent_has_ended_already_is_not_run(tmp_path: Path) -> None:
    touch = ["touch", str(tmp_path / "ran")]
    subprocess.run([sys.executable, leash.__file__, str(os.getppid()), *touch], check=True)
    assert not (tmp_path / "ran").exists()
    subprocess.run(leash.leashed(touch), check=True)
    assert (tmp_path / "ran").exists()


def test_a_halted_program_stands_still_until_the_end_of_the_block(tmp_path: Path) -> None:
    with a_stage(tmp_path / "stage") as stage:
        stage.start("program", "python", "-c", "import signal; signal.pause()")
        process = stage._servers["program"]
        with stage.halted("program"):
            assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT) is not None
        assert os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT) is not None


def test_a_demo_that_fails_says_where_the_logs_are(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed) as caught, a_stage(tmp_path / "stage"):
        raise DemoFailed("something else came of it")
    assert caught.value.remedy == f"read {tmp_path / 'stage' / 'logs'}"
