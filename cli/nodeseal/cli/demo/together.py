"""The demo's last act: two people, one of whom tries alone and fails, and an approval by SSH key."""

from __future__ import annotations

import json
import shutil

from nodeseal.cli.demo.narrator import Narrator
from nodeseal.cli.demo.stage import DemoFailed, Stage

_PEOPLE = ("kim", "lee")
_RULES = """\
format: "nodeseal/rules/1"
version: 2
rule: "quorum"
approvals: 1                  # another person than the one who proposes
user_verification: false      # true: only FIDO2 keys that asked for PIN, finger or face
approvals_last_hours: 72
needs_proposal: ["all"]
"""


def decide_together(stage: Stage, narrator: Narrator) -> None:
    """Ask for two people, let one of them try alone, and let the other approve."""
    narrator.act("Two people decide what widens trust")
    if shutil.which("ssh-keygen") is None:
        narrator.say("Left out: ssh-keygen is not installed, and people approve with SSH keys.")
        return
    narrator.say("Until now one person decided alone: the rule is solo. Kim and Lee want to be asked both.")
    for name in _PEOPLE:
        _introduce(stage, name)
    (stage.directory / "rules.yaml").write_text(_RULES)
    _agreed(stage, _proposal(stage, "rules", "rules.yaml", "--reason", "two of us"), shown=False)
    stage.type("nodeseal", "rules", "show", "--client", "kim")
    answer = stage.type("nodeseal", "key", "create", "second", "--client", "kim", expect=1)
    if "person.quorum" not in answer:
        raise DemoFailed("kim was refused for another reason")
    narrator.proved("one person alone is refused, and told which command proposes it")
    proposal = _proposal(stage, "key", "create", "second", "--reason", "another model", shown=True)
    _agreed(stage, proposal, shown=True)
    keys = json.loads(stage.type("nodeseal", "key", "list", "--client", "kim", "--json", shown=False))
    if "second" not in {key["key_id"] for key in keys}:
        raise DemoFailed("the approved proposal had no effect")
    narrator.proved("Lee's signature over the proposal let it take effect; the act carries both signatures")


def _introduce(stage: Stage, name: str) -> None:
    """Add a person with an SSH key of theirs."""
    roles = ("--role", "approver", "--role", "auditor")
    config = ("--config", "verifier/verifier.yaml")
    stage.type("nodeseal-verifier", "person", "add", name, *roles, "-o", name, *config, shown=False)
    stage.type("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{name}.ssh", shown=False)
    stage.type("nodeseal", "person", "key-add", name, f"{name}.ssh.pub", shown=True)


def _proposal(stage: Stage, *words: str, shown: bool = False) -> str:
    """Let Kim propose something; return the proposal's id."""
    who = ("--ssh-key", "kim.ssh", "--client", "kim")
    stage.type("nodeseal", "propose", *words, *who, shown=shown)
    open_ones = json.loads(stage.type("nodeseal", "proposal", "list", "--client", "lee", "--json", shown=False))
    return str(open_ones["proposals"][-1]["proposal"])


def _agreed(stage: Stage, proposal: str, *, shown: bool) -> None:
    """Let Lee approve a proposal, and insist that it takes effect."""
    said = stage.type(
        *("nodeseal", "proposal", "approve", proposal[:10]), *("--ssh-key", "lee.ssh", "--client", "lee"), shown=shown
    )
    if "executed" not in said:
        raise DemoFailed("the approval did not let the proposal take effect")
