"""The demo's machines: software TPMs, boot logs, and kernels that measure what runs."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.cli.demo.narrator import Narrator
from nodeseal.cli.demo.stage import Stage
from nodeseal.swtpm.client import extending
from nodeseal.swtpm.ima import Ima
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.vendor import TpmVendor

PROGRAMS: Final = {
    "/usr/bin/python3": hashlib.sha256(b"an interpreter").digest(),
    "/opt/vllm/bin/vllm": hashlib.sha256(b"a model server").digest(),
}
"""The programs of every machine: digests of their files, as the kernel measures them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoNode:
    """One machine with its agent.

    Attributes:
        name: name in the story.
        home: folder of the machine.
        tcti: address of its TPM.
        boot_log: log of its firmware and loaders.
        ima_log: log of its kernel.
    """

    name: str
    home: Path
    tcti: str
    boot_log: Path
    ima_log: Path

    @property
    def socket(self) -> Path:
        """Key socket of the agent."""
        return self.home / "keys.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The three nodes of the story.

    Attributes:
        good: boots and runs what the golden allows, until somebody tampers with it.
        other: booted with another boot loader.
        busy: boots what the golden allows, and later runs an unknown program.
    """

    good: DemoNode
    other: DemoNode
    busy: DemoNode

    def all(self) -> tuple[DemoNode, DemoNode, DemoNode]:
        """Return the nodes in the order of their names."""
        return self.good, self.other, self.busy


def build_machines(stage: Stage, narrator: Narrator) -> Nodes:
    """Manufacture three machines, boot them, the second with another boot loader, and let programs run."""
    narrator.act("Three machines with TPMs")
    narrator.say(
        "Each gets a TPM (swtpm) with an endorsement key that its maker certified, like a real TPM from the factory."
    )
    vendor = TpmVendor.create(stage.directory / "tpm-vendor")
    nodes = Nodes(
        good=_build(stage, vendor, "node-1", SampleBoot()),
        other=_build(stage, vendor, "node-2", SampleBoot(boot_loader=b"a boot loader that somebody replaced")),
        busy=_build(stage, vendor, "node-3", SampleBoot()),
    )
    narrator.say(
        "All have booted: firmware, loaders and kernel measured every step into the TPM's PCRs and logged it. One"
        " event differs:"
    )
    stage.type(
        "nodeseal", "log", "diff", _shown(stage, nodes.good.boot_log), _shown(stage, nodes.other.boot_log), expect=1
    )
    narrator.say("Since then the kernel measures every program that runs (IMA), so far the same on all three:")
    stage.type("nodeseal", "log", "show", _shown(stage, nodes.good.ima_log))
    return nodes


def _build(stage: Stage, vendor: TpmVendor, name: str, chain: SampleBoot) -> DemoNode:
    machine = Machine.manufacture(stage.directory, name=name, vendor=vendor)
    (machine.directory / "boot.log").write_bytes(sample_boot_log(chain))
    (machine.directory / "boot_id").write_text(f"{uuid.uuid4()}\n")
    argv = ("python", "-m", "nodeseal.swtpm", "run", str(machine.directory))
    stage.start(f"{name}-machine", *argv, "--boot", str(machine.directory / "boot.log"))
    log = stage.log(f"{name}-machine")
    stage.until(f"{name} has booted", lambda: machine.tcti in log.read_text())
    with extending(machine.socket) as extend:
        ima = Ima(machine.ima_log_file, extend)
        for path, digest in PROGRAMS.items():
            ima.measure(path.encode(), digest)
    return DemoNode(
        name=name,
        home=machine.directory,
        tcti=machine.tcti,
        boot_log=machine.boot_log_file,
        ima_log=machine.ima_log_file,
    )


def _shown(stage: Stage, path: Path) -> str:
    return str(path.relative_to(stage.directory.resolve()))
