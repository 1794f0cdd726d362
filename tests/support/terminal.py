"""The operator's command as a person types it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Terminal:
    """Types commands as one person, in one folder."""

    def __init__(self, client: Path, folder: Path) -> None:
        self._client = client
        self.folder = folder

    def type(self, *argv: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """Type a command, which must end with ``exit_code``."""
        done = subprocess.run(
            [sys.executable, "-c", "from nodeseal.cli.main import main; main()", *argv],
            env={**os.environ, "NODESEAL_CLIENT": str(self._client), "COLUMNS": "200"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    def json(self, *argv: str, exit_code: int = 0) -> Any:
        """Type a command and return what it prints as JSON."""
        return json.loads(self.type(*argv, "--json", exit_code=exit_code).stdout)
