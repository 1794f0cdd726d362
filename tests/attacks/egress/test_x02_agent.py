"""x02 with a whole agent: it asks for a round by itself when its table changes, and again when it was put right."""

from __future__ import annotations

import subprocess
import sys

from support.data import ROOT
from support.namespaces import World, inside, run


def test_x02_an_agent_starts_a_round_when_its_table_changes(cable: World) -> None:
    limits = b'enclave: ["10.77.0.0/24"]\nuplinks: ["up0"]\n' + b"".join(
        level + b": {rate: 400000, burst: 65536, volume: 600000}\n" for level in (b"normal", b"tight")
    )
    cable.limits(limits).close()
    command = [sys.executable, "-m", "support.egress_agent", str(cable.folder / "egress.yaml")]
    with inside(cable.node):
        done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "nodeseal" in run("nft", "list", "tables", "netdev"), "the table outlives the agent"
    rounds = [line.removeprefix("round: ") for line in done.stdout.splitlines() if line.startswith("round: ")]
    assert rounds[0] == "0"
    assert "1; unexpected outside: accept" in rounds
    assert rounds[-1] == "1"
