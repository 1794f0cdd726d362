"""The command ``nodeseal``, run in a process as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Terminal:
    """Runs commands as one person, in one folder, on a terminal of ``columns``."""

    def __init__(self, client: Path, folder: Path, *, columns: int = 200) -> None:
        self.folder = folder
        self._environment = {**os.environ, "NODESEAL_CLIENT": str(client), "COLUMNS": str(columns)}

    def type(self, *argv: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """Type a command, which must end with ``exit_code``."""
        done = subprocess.run(
            [sys.executable, "-c", "from nodeseal.cli.main import main; main()", *argv],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    def json(self, *argv: str, exit_code: int = 0) -> Any:
        """Type a command and return its JSON output."""
        return json.loads(self.type(*argv, "--json", exit_code=exit_code).stdout)
