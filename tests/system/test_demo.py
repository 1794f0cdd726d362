"""The demo as a test: it runs green, and what it promised can be seen afterwards."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest

from support.log import acts_of
from support.machines import need
from support.sealed import PLAIN_WEIGHTS

_SECONDS = 3600
"""A bound for machines that are busy with other work; alone, the demo takes less than two minutes."""


PROMISES = (
    "all TPMs proved",
    "PCR 4 is what differs, and the finding names the file",
    "equal the originals bit for bit",
    "the file on disk holds none of them readable",
    "same grant, same model, same agent",
    "the TPM refuses every key of the lease",
    "node-3 opens the model again without a reboot",
    "the finding names the program: /tmp/copy-weights",
    "the TPM already refuses to use the key",
    "the loader was told",
    "one person alone is refused, and told which command proposes it",
    "Lee's signature over the proposal let it take effect",
)
"""In the order in which they are kept; the demo says each only after it has checked it."""


@pytest.mark.timeout(_SECONDS + 5)
def test_the_demo_keeps_its_promises_and_leaves_nothing_running() -> None:
    need("swtpm", "tpm2_pcrextend")
    with tempfile.TemporaryDirectory(prefix="demo") as folder:
        stage = Path(folder) / "stage"
        said = _play(_model(Path(folder) / "model"), stage)
        assert re.search(".*".join(("", *map(re.escape, PROMISES))), said), said
        assert said.count("✓") >= len(PROMISES)
        _released_to_the_good_nodes_alone(stage / "verifier" / "verifier.sqlite")
        assert _processes_of(stage) == []


def _model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(PLAIN_WEIGHTS)
    (folder / "config.json").write_bytes(b'{"architectures":["Tiny"]}')
    return folder


def _play(model: Path, stage: Path) -> str:
    """Run the demo and return what it printed, in one line."""
    done = subprocess.run(
        [Path(sys.executable).with_name("nodeseal"), "demo", "--directory", stage, "--model", model],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def _released_to_the_good_nodes_alone(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        records = [act.plain for act in acts_of(connection)]
        running = connection.execute("SELECT count(*) FROM leases WHERE ended IS NULL").fetchone()
    names = {
        record["subject"]: record["details"]["hostname"] for record in records if record["action"] == "node.enrolled"
    }
    issued = [names[record["actor"]] for record in records if record["action"] == "lease.issued"]
    denied = {names[record["actor"]] for record in records if record["action"] == "release.denied"}
    assert set(issued) == {"node-1", "node-3"}
    assert len(issued) == sum(record["action"] == "lease.ended" for record in records)
    assert ("node-2" in denied, running) == (True, (0,))


def _processes_of(stage: Path) -> list[bytes]:
    """Return the command lines of running processes that name the demo's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process that has just ended
            found.append(path.read_bytes())
    return [line for line in found if str(stage).encode() in line]
