"""A witness that answers in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodeseal.cli.audit_witness import Witness, listening
from nodeseal.tlog.note import VerifierKey


@dataclass(frozen=True, slots=True)
class RunningWitness:
    """Where a witness listens.

    Attributes:
        url: its address.
        key: file with its key.
    """

    url: str
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        """Options of commands that name it."""
        return ("--witness", self.url, "--witness-key", str(self.key))


@contextmanager
def a_witness(folder: Path, *logs: VerifierKey) -> Iterator[RunningWitness]:
    """Run a witness; its memory stays in the folder."""
    made = Witness(folder, "example.org/w1", {key.name: key for key in logs})
    with listening(made, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            (folder / "witness.vkey").write_text(made.key.text + "\n")
            yield RunningWitness(f"http://127.0.0.1:{server.server_address[1]}", folder / "witness.vkey")
        finally:
            server.shutdown()
            thread.join()
