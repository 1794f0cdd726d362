"""What an auditor of a running verifier has: a terminal, the key of the log, an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from nodeseal.verifier.main import app
from support.terminal import Terminal
from support.verifier import RunningVerifier


@dataclass(frozen=True, slots=True)
class Audit:
    """What an auditor has.

    Attributes:
        verifier: whose log it is.
        terminal: of the auditor.
        key: file with the key of the log.
        folder: an export of its own for each test.
    """

    verifier: RunningVerifier
    terminal: Terminal
    key: Path
    folder: Path

    def said(self, *words: str, exit_code: int) -> str:
        """Return what a command of the auditor's says."""
        done = self.terminal.type("audit", *words, "--key", str(self.key), exit_code=exit_code)
        return done.stdout + done.stderr

    def verify(self, *options: str, exit_code: int = 0) -> str:
        """Verify the export."""
        return self.said("verify", str(self.folder), *options, exit_code=exit_code)


def log_key_of(verifier: RunningVerifier) -> str:
    """Return the key of a verifier's log, as its host prints it."""
    shown = CliRunner().invoke(app, ["log-key", "--config", str(verifier.folder / "verifier.yaml")])
    assert shown.exit_code == 0, shown.output
    return shown.output
