"""The demo's story: three machines, one golden, one real model, and what happens when a machine is tampered with.

Every line that starts with ``$`` is a command that the demo runs; every line with a tick is a checked fact.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from nodeseal.cli.demo.machines import DemoNode, Nodes
from nodeseal.cli.demo.narrator import Narrator
from nodeseal.cli.demo.stage import DemoFailed, Stage, free_port
from nodeseal.loader import AgentKeys, open_model, open_tensors
from nodeseal.loader.safetensors import decode_header
from nodeseal.tpm.pcr_usage import EPOCH_PCR

_INTERVAL_SECONDS = 6
_TRUST_SECONDS = 120
_MODEL = "model.safetensors"
_TAMPERED_PCR = 8
"""GRUB measures every command and the kernel's command line into it."""
_UNKNOWN = "/tmp/copy-weights"  # noqa: S108 - a name in a log, no file

_AGENT = """\
verifier:
  address: "127.0.0.1:{port}"
  enrol_address: "127.0.0.1:{enrol_port}"
  ca_file: "{ca}"
tcti: "{tcti}"
state_directory: "{home}/agent"
socket: "{home}/keys.sock"
boot_id_file: "{home}/boot_id"
boot_log: "{boot_log}"
ima_log: "{ima_log}"
firmware_directory: "{home}"
hostname: "{name}"
log_format: "console"
callers:
  - uid: {uid}          # the user who runs this demo may ask for keys
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The verifier's two ports."""

    main: int
    enrol: int


def start_verifier(stage: Stage, narrator: Narrator) -> Ports:
    """Set the verifier up and start it on loopback."""
    narrator.act("The verifier")
    ports = Ports(main=free_port(), enrol=free_port())
    stage.type(
        *("nodeseal-verifier", "init", "verifier", "--trust-domain", "demo.example"),
        *("--server-name", "127.0.0.1", "--ek-roots", "tpm-vendor/roots", "--admin", "admin"),
        *("--listen", f"127.0.0.1:{ports.main}", "--listen-enrol", f"127.0.0.1:{ports.enrol}"),
    )
    config = stage.directory / "verifier" / "verifier.yaml"
    config.write_text(_hurried(config.read_text()))
    stage.start("verifier", "nodeseal-verifier", "run", "--config", str(config))
    stage.until("the verifier answers", lambda: _verifier_answers(stage))
    narrator.say(
        f"It trusts one TPM maker and asks every node for a fresh quote each {_INTERVAL_SECONDS} seconds"
        f" (30 by default). A node that falls silent is trusted for {_TRUST_SECONDS} seconds, no longer."
    )
    return ports


def _hurried(config: str) -> str:
    """Shorten the times, so that the story does not take minutes."""
    for name, seconds in {"interval": _INTERVAL_SECONDS, "trust": _TRUST_SECONDS}.items():
        config = re.sub(rf"{name}_seconds: \d+", f"{name}_seconds: {seconds}", config)
    return config


def _verifier_answers(stage: Stage) -> bool:
    try:
        return stage.type("nodeseal", "node", "list", "--json", shown=False).strip() == "[]"
    except DemoFailed:
        return False


def enrol(stage: Stage, narrator: Narrator, nodes: Nodes, ports: Ports) -> dict[str, str]:
    """Start the agents and return the node ids by name."""
    narrator.act("Enrolment: a node is its endorsement key")
    for node in nodes.all():
        config = node.home / "agent.yaml"
        facts = {"port": ports.main, "enrol_port": ports.enrol, "ca": stage.directory / "verifier" / "ca.pem"}
        logs = {"boot_log": node.boot_log, "ima_log": node.ima_log}
        facts |= logs | {"tcti": node.tcti, "home": node.home, "name": node.name, "uid": os.geteuid()}
        config.write_text(_AGENT.format(**facts))
        stage.start(f"{node.name}-agent", "nodeseal-agent", "run", "--config", str(config))
    found = stage.until("the nodes have enrolled", lambda: _enrolled(stage))
    stage.type("nodeseal", "node", "list")
    narrator.proved("all TPMs proved that they hold a certified endorsement key and the attestation key")
    return found


def _nodes(stage: Stage) -> list[dict[str, object]]:
    return list(json.loads(stage.type("nodeseal", "node", "list", "--json", shown=False)))


def _enrolled(stage: Stage) -> dict[str, str]:
    found = {str(node["hostname"]): str(node["node_id"]) for node in _nodes(stage) if node.get("last_seen")}
    return found if len(found) == 3 else {}  # noqa: PLR2004 - three nodes


def decide_trust(stage: Stage, narrator: Narrator, nodes: Nodes, ids: dict[str, str]) -> None:
    """Admit the nodes and make node-1's measurements the golden ones."""
    narrator.act("What counts as trustworthy")
    narrator.say("Nothing is trusted yet, since no golden measurement is active. node-1 is known to be good:")
    for node_id in ids.values():
        stage.type("nodeseal", "node", "admit", node_id, "--json", shown=False)
    good, other = ids[nodes.good.name], ids[nodes.other.name]
    stage.type("nodeseal", "golden", "capture", good, "--name", "demo", "--runtime", "-o", "golden.yaml")
    narrator.say(
        "It pins what node-1 booted, allows the programs that ran there by path and digest, and keeps the events of"
        " its boot. No rule uses the events; they explain differences of other nodes."
    )
    stage.type("nodeseal", "golden", "activate", "golden.yaml")
    wanted = dict.fromkeys(ids.values(), "trusted") | {other: "untrusted"}
    stage.until("node-2 alone is not trusted", lambda: _states(stage) == wanted and _compared(stage, other))
    stage.type("nodeseal", "node", "list")
    events = [line for line in stage.type("nodeseal", "node", "show", other).splitlines() if "event" in line]
    if not any("grubx64.efi" in line for line in events):
        raise DemoFailed("no finding names node-2's boot loader")
    narrator.proved(
        "node-2's boot loader is measured into PCR 4, PCR 4 is what differs, and the finding names the file"
    )


def _states(stage: Stage) -> dict[str, object]:
    return {str(node["node_id"]): node["state"] for node in _nodes(stage)}


def _compared(stage: Stage, node_id: str) -> bool:
    """Tell whether a node was compared with the golden: before one was active, nodes were untrusted without one."""
    found = json.loads(stage.type("nodeseal", "node", "show", node_id, "--json", shown=False))["findings"]
    return all(finding["id"] != "golden.none" for finding in found)


def seal(stage: Stage, narrator: Narrator, model: Path, ids: dict[str, str]) -> Path:
    """Seal the model and let all nodes ask for it; return the sealed folder."""
    narrator.act("A real model is sealed")
    narrator.say("Sealing takes only a public key: no secret, no network, no TPM.")
    stage.type("nodeseal", "key", "create", "demo-model", "--public", "demo-model.pub")
    stage.type("nodeseal", "seal", str(model), "--key", "demo-model.pub", "-o", "sealed", "--id", "all-minilm-l6-v2")
    stage.type("nodeseal", "model", "register", "sealed")
    for node_id in ids.values():
        stage.type("nodeseal", "key", "grant", "demo-model", "--node", node_id)
    return stage.directory / "sealed"


def open_on_good_node(stage: Stage, narrator: Narrator, node: DemoNode, model: Path, sealed: Path) -> None:
    """Open on node-1 and compare every tensor with the original."""
    narrator.act("node-1 opens it")
    stage.type("nodeseal", "open", "sealed", "--socket", str(node.socket))
    original = (model / _MODEL).read_bytes()
    header = decode_header(memoryview(original), len(original), _MODEL)
    data = memoryview(original)[header.size :]
    expected = {entry.name: data[entry.start : entry.stop] for entry in header.tensors}
    with open_model(sealed, AgentKeys(node.socket)) as opened, open_tensors(opened, _MODEL) as file:
        tensors = file.get_tensors()
        same_file = hashlib.sha256(opened.read(_MODEL)).digest() == hashlib.sha256(original).digest()
    same = all(tensors[name].tobytes() == raw for name, raw in expected.items())
    if tensors.keys() != expected.keys() or not same or not same_file:
        raise DemoFailed("the tensors differ from the originals")
    narrator.proved(f"all {len(tensors)} tensors, {len(original):,} bytes, equal the originals bit for bit")
    if original[:1024] in (sealed / f"{_MODEL}.sealed").read_bytes():
        raise DemoFailed("the sealed file holds plaintext")
    narrator.proved("the file on disk holds none of them readable")


def refuse_bad_node(stage: Stage, narrator: Narrator, node: DemoNode) -> None:
    """Ask for the same model on node-2."""
    narrator.act("node-2 is refused")
    answer = stage.type("nodeseal", "open", "sealed", "--socket", str(node.socket), expect=1)
    if "pcr.mismatch" not in answer:
        raise DemoFailed("node-2 was refused for another reason")
    narrator.proved("same grant, same model, same agent: only the boot differs")


def tamper(stage: Stage, narrator: Narrator, node: DemoNode, node_id: str) -> None:
    """Tamper with node-1 while a loader holds the model."""
    narrator.act("node-1 is tampered with while it holds the key")
    narrator.say("A loader keeps the model open. Then somebody changes a measurement of the boot:")
    holder = _hold(stage, narrator, node)
    _await_round(stage, node_id)
    narrator.say("The verifier is halted, so it cannot tell node-1 anything.")
    digest = hashlib.sha256(b"init=/bin/sh").hexdigest()
    with stage.halted("verifier"):
        stage.type("tpm2_pcrextend", "-T", node.tcti, f"{_TAMPERED_PCR}:sha256={digest}")
        answer = stage.type("nodeseal", "open", "sealed", "--socket", str(node.socket), expect=1)
    if "release.tpm-refused" not in answer:
        raise DemoFailed("the second loader was refused for another reason")
    narrator.proved("the lease still runs, nobody knows yet, and the TPM already refuses to use the key")
    _await_loss(stage, narrator, node, holder)
    narrator.proved("the next round ended the lease, and the loader was told")
    stage.until("node-1 is shown as untrusted", lambda: _states(stage)[node_id] == "untrusted")
    stage.type("nodeseal", "node", "list")


def end_by_force(stage: Stage, narrator: Narrator, node: DemoNode, node_id: str) -> None:
    """Take the model away from node-3 while a loader holds it, then let the node open it again."""
    narrator.act("node-3 loses the model, and needs no reboot to open it again")
    holder = _hold(stage, narrator, node)
    narrator.say("Every release key is bound to PCR 23, the lease epoch. This is its value while the lease runs:")
    before = _epoch(stage, node, shown=True).lower()
    stage.type("nodeseal", "node", "quarantine", node_id, "--reason", "chassis opened", "--json", shown=False)
    narrator.say("A person puts node-3 in quarantine. The agent wipes the key and begins a new epoch:")
    _await_loss(stage, narrator, node, holder)
    gone = {before, f"0x{bytes(32).hex()}"}
    stage.until("a new epoch has begun", lambda: _epoch(stage, node, shown=False).lower() not in gone)
    _epoch(stage, node, shown=True)
    narrator.proved("nobody can give PCR 23 its old value, so the TPM refuses every key of the lease, copied ones too")
    stage.type("nodeseal", "node", "admit", node_id, "--json", shown=False)
    narrator.say("The chassis was fine. The person admits node-3 again.")
    stage.until("node-3 is trusted again", lambda: _states(stage)[node_id] == "trusted")
    stage.type("nodeseal", "open", "sealed", "--socket", str(node.socket))
    narrator.proved("node-3 opens the model again without a reboot")


def run_unknown(stage: Stage, narrator: Narrator, node: DemoNode, node_id: str) -> None:
    """Run a program on node-3 that the golden does not list, while a loader holds the model."""
    narrator.act("node-3 runs a program that the golden does not list")
    holder = _hold(stage, narrator, node)
    narrator.say("The kernel measures the program before it runs: a line in its log, an extend of PCR 10.")
    stage.type("python", "-m", "nodeseal.swtpm", "measure", node.home.name, _UNKNOWN)
    _await_loss(stage, narrator, node, holder)
    stage.until("node-3 is shown as untrusted", lambda: _states(stage)[node_id] == "untrusted")
    answer = stage.type("nodeseal", "node", "show", node_id)
    if "ima.unknown-file" not in answer or _UNKNOWN not in answer:
        raise DemoFailed("no finding names the program")
    narrator.proved(f"the next round ended the lease, and the finding names the program: {_UNKNOWN}")


def _hold(stage: Stage, narrator: Narrator, node: DemoNode) -> Popen[bytes]:
    """Let a loader keep the model open."""
    argv = ("nodeseal", "open", "sealed", "--socket", str(node.socket), "--hold")
    narrator.command(" ".join(argv) + "   # in the background")
    holder, log = stage.begin(_holder(node), *argv), stage.log(_holder(node))
    stage.until("the loader has the model open", lambda: "open until" in log.read_text())
    return holder


def _await_loss(stage: Stage, narrator: Narrator, node: DemoNode, holder: Popen[bytes]) -> None:
    stage.until("the loader lost the model", lambda: holder.poll() is not None)
    narrator.result(stage.log(_holder(node)).read_text().splitlines()[-1])


def _holder(node: DemoNode) -> str:
    return f"{node.name}-loader"


def _epoch(stage: Stage, node: DemoNode, *, shown: bool) -> str:
    """Return the value of PCR 23 in hex."""
    said = stage.type("tpm2_pcrread", "-T", node.tcti, f"sha256:{EPOCH_PCR}", shown=shown)
    return said.split()[-1]


def _await_round(stage: Stage, node_id: str) -> None:
    """Wait for the end of a round, so that the lease lasts for the next steps."""
    before = _last_seen(stage, node_id)
    stage.until("another round", lambda: _last_seen(stage, node_id) != before)


def _last_seen(stage: Stage, node_id: str) -> object:
    return next(node["last_seen"] for node in _nodes(stage) if node["node_id"] == node_id)


def show_records(stage: Stage, narrator: Narrator) -> None:
    """Print the audit log."""
    narrator.act("What was recorded")
    stage.type("nodeseal", "audit", "list")
    narrator.say("Each record was on disk before its effect. Only taking trust away does not wait for its record.")


def tell_where(stage: Stage, narrator: Narrator, node: DemoNode, *, running: bool) -> None:
    """Say where everything lies and what to try next."""
    narrator.act("Where everything lies")
    for name, meaning in {
        "verifier/": "configuration, certificates, database, key store",
        "node-1/ to node-3/": "TPM state, logs, agent",
        "golden.yaml": "the golden measurement",
        "sealed/": "the sealed model; try: nodeseal inspect sealed",
        "logs/": "the log of each program",
    }.items():
        narrator.result(f"{stage.directory}/{name:<18} {meaning}")
    if running:
        narrator.say("All programs still run. In another terminal:")
        narrator.result(f"export PATH={Path(sys.executable).parent}:$PATH NODESEAL_CLIENT={stage.client}")
        narrator.result(f"cd {stage.directory}")
        narrator.result("nodeseal node list; nodeseal audit list; nodeseal golden list")
        narrator.result(f"nodeseal open sealed --socket {node.socket}")
        narrator.result(f"tpm2_pcrread -T {node.tcti} sha256:4,8,23")
        narrator.say("Ctrl-C ends it.")
    else:
        narrator.say("Everything is stopped. --keep leaves it running, so that you can look around.")
