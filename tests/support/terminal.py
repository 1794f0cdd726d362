"""The command ``nodeseal``, as a person types it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

from nodeseal.cli.main import main


class Terminal:
    """Runs commands as one person, in one folder, on a terminal of ``columns``.

    A process for each command would cost a hundred times what most commands do, so they run in this one, one at a
    time. What a process adds is checked where ``processes`` says so.
    """

    def __init__(self, client: Path, folder: Path, *, columns: int = 200, processes: bool = False) -> None:
        self.folder = folder
        self._variables = {"NODESEAL_CLIENT": str(client), "COLUMNS": str(columns)}
        self._run = self._in_a_process if processes else self._here

    def type(self, *argv: str, exit_code: int = 0) -> CompletedProcess[str]:
        """Type a command, which must end with ``exit_code``."""
        done = self._run(argv)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    def json(self, *argv: str, exit_code: int = 0) -> Any:
        """Type a command and return its JSON output."""
        return json.loads(self.type(*argv, "--json", exit_code=exit_code).stdout)

    def _here(self, argv: tuple[str, ...]) -> CompletedProcess[str]:
        output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with (
            patch.dict(os.environ, self._variables),
            patch.object(sys, "argv", ["nodeseal", *argv]),
            chdir(self.folder),
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            code = _exit_code()
        shown = (stream.buffer.getvalue().decode() for stream in (output, errors))
        return CompletedProcess(argv, code, *shown)

    def _in_a_process(self, argv: tuple[str, ...]) -> CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from nodeseal.cli.main import main; main()", *argv],
            env={**os.environ, **self._variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def _exit_code() -> int:
    """Run the command line as its process does, and return how that would end."""
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
