"""Two people decide together, as they type it: with keys of ``ssh-keygen``, here and on a machine without network."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.main import app
from nodeseal.verifier.states import PEOPLE
from support.ssh import keygen, keygen_sign
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")

RULES = """\
format: "nodeseal/rules/1"
version: 2
rule: "quorum"
approvals: 1
user_verification: false
approvals_last_hours: 72
needs_proposal: ["all"]
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """A person's terminal and SSH key."""

    terminal: Terminal
    key: Path


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("verifier")) as running:
        yield running


@pytest.fixture(scope="module")
def desks(verifier: RunningVerifier, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Desk]:
    """Kim and lee; the rule solo ends while they are set up."""
    found = {}
    verifier.add_person("ann", *PEOPLE)
    for name in ("kim", "lee"):
        folder = tmp_path_factory.mktemp(name)
        found[name] = Desk(Terminal(verifier.add_person(name, *PEOPLE), folder), keygen(folder, "-t", "ed25519"))
    kim, lee = found.values()
    assert "solo (version 1): one person decides alone" in kim.terminal.type("rules", "show").stdout
    assert "solo" in kim.terminal.type("doctor").stdout
    for name, desk in found.items():
        kim.terminal.type("person", "key-add", name, f"{desk.key}.pub")
    _invited_alone(kim.terminal, tmp_path_factory.mktemp("zoe"))
    (kim.terminal.folder / "rules.yaml").write_text(RULES)
    assert "1 other person" in kim.terminal.type("rules", "check", "rules.yaml").stdout
    made = kim.terminal.json("propose", "rules", "rules.yaml", "--reason", "two of us", "--ssh-key", str(kim.key))
    assert made["missing"] == ["1 more of 1 approvals"]
    assert made["effects"][1].startswith("In force now: solo")
    approved = lee.terminal.json("proposal", "approve", made["proposal"][:8], "--ssh-key", str(lee.key))
    assert approved["outcome"] == "executed"
    shown = lee.terminal.type("rules", "show").stdout
    assert "quorum (version 2): 1 other person must approve" in shown
    assert "without kim nobody can meet these rules" in shown
    return found


def _invited_alone(terminal: Terminal, folder: Path) -> None:
    """Under the rule solo one person invites and removes."""
    request = Terminal(folder, folder).json("person", "enrol", "zoe", "-o", str(folder / "zoe"))["request"]
    invitation = str(folder / "zoe.invitation")
    terminal.type("person", "invite", "zoe", request, "--role", "auditor", "--role", "viewer", "-o", invitation)
    newcomer = Terminal(folder / "zoe", folder)
    newcomer.type("person", "enrol", "zoe", "-o", str(folder / "zoe"), "--invitation", invitation)
    assert newcomer.json("doctor")["self"]["roles"] == ["auditor", "viewer"]
    terminal.type("person", "remove", "zoe")
    newcomer.type("node", "list", exit_code=1)


def test_one_person_alone_is_refused_and_an_approval_from_elsewhere_lets_it_happen(
    desks: dict[str, Desk], tmp_path: Path
) -> None:
    kim, lee = desks["kim"], desks["lee"]
    refused = kim.terminal.type("key", "create", "llama", exit_code=1).stderr
    assert "nodeseal propose key create KEY --reason WHY" in refused
    made = kim.terminal.json("propose", "key", "create", "llama", "--reason", "models", "--ssh-key", str(kim.key))
    assert (made["outcome"], made["words"]) == (
        "open",
        "Create model key llama in store file. Its leases survive 0 seconds of silence.",
    )
    assert made["proposal"] in lee.terminal.type("proposal", "list").stdout
    assert "quorum" in lee.terminal.type("proposal", "list").stdout
    away = tmp_path / "to-sign"
    exported = lee.terminal.json("proposal", "export", made["proposal"], "-o", str(away))
    assert exported["sign"].startswith("ssh-keygen -Y sign -n proposal@nodeseal -f YOUR_KEY ")
    nowhere = Terminal(tmp_path / "no-client", tmp_path)
    assert "Create model key llama" in nowhere.type("proposal", "show", str(away)).stdout
    unsigned = lee.terminal.type("proposal", "import", str(away), exit_code=1).stderr
    assert exported["sign"] in unsigned
    document = (away / "proposal.json").read_bytes()
    (away / "proposal.json.sig").write_bytes(keygen_sign(lee.key, document, "proposal@nodeseal"))
    assert lee.terminal.json("proposal", "import", str(away))["outcome"] == "executed"
    assert kim.terminal.json("key", "show", "llama")["revoked"] is False
    listed = kim.terminal.json("proposal", "list", "--all")
    assert {"executed"} <= {each["outcome"] for each in listed["proposals"]}


def test_ssh_keygen_signs_for_the_command_and_nobody_approves_alone(desks: dict[str, Desk]) -> None:
    kim, lee = desks["kim"], desks["lee"]
    made = kim.terminal.json("propose", "key", "create", "two", "--reason", "x", "--ssh-key", str(kim.key))["proposal"]
    own = kim.terminal.type("proposal", "approve", made, "--ssh-key", str(kim.key), exit_code=1).stderr
    assert "proposed it" in own
    withdrawn = kim.terminal.json("proposal", "withdraw", made, "--reason", "a mistake")
    assert (withdrawn["outcome"], withdrawn["why"]) == ("withdrawn", "a mistake")
    late = lee.terminal.type("proposal", "approve", made, "--ssh-key", str(lee.key), exit_code=1).stderr
    assert "is withdrawn" in late
    unsigned = kim.terminal.type("propose", "key", "create", "three", "--reason", "x", exit_code=1).stderr
    assert "person.approval" in unsigned
    assert kim.terminal.type("proposal", "show", "abc", exit_code=1).stderr.count("too short") == 1
    missing = kim.terminal.type("proposal", "approve", made, "--ssh-key", "nothing-there", exit_code=1).stderr
    assert "ssh-keygen did not sign" in missing


def test_a_golden_is_compared_with_the_active_one_before_it_is_approved(desks: dict[str, Desk]) -> None:
    kim, lee = desks["kim"], desks["lee"]
    for number in (1, 2):
        golden = Golden(name="rack", pcrs={HashAlg.SHA256: {4: frozenset({bytes([number]) * 32})}})
        (kim.terminal.folder / f"rack-{number}.yaml").write_bytes(dump_golden(golden))
    assert "propose golden activate" in kim.terminal.type("golden", "activate", "rack-1.yaml", exit_code=1).stderr
    words = ("propose", "golden", "activate")
    first = kim.terminal.json(*words, "rack-1.yaml", "--reason", "first", "--ssh-key", str(kim.key))["proposal"]
    assert lee.terminal.json("proposal", "approve", first, "--ssh-key", str(lee.key))["outcome"] == "executed"
    second = kim.terminal.json(*words, "rack-2.yaml", "--reason", "kernel", "--ssh-key", str(kim.key))
    assert any("Active beside it: rack" in line for line in second["effects"])
    (difference,) = lee.terminal.json("proposal", "diff", second["proposal"])
    assert ("02" * 32 in difference["then"], "01" * 32 in difference["now"]) == (True, True)
    rejected = lee.terminal.json("proposal", "reject", second["proposal"], "--reason", "which kernel?")
    assert (rejected["outcome"], rejected["why"]) == ("rejected", "lee: which kernel?")
    assert [golden["digest"] for golden in kim.terminal.json("golden", "list")] != []


def test_restricting_needs_one_person_and_resuming_two(desks: dict[str, Desk]) -> None:
    kim, lee = desks["kim"], desks["lee"]
    made = kim.terminal.json("propose", "key", "create", "spare", "--reason", "x", "--ssh-key", str(kim.key))[
        "proposal"
    ]
    lee.terminal.type("proposal", "approve", made, "--ssh-key", str(lee.key))
    shown = kim.terminal.type("key", "suspend", "spare", "--reason", "perhaps leaked").stdout
    assert "by person/kim, lapses" in shown
    assert "confirmed by a second" in lee.terminal.type("key", "suspend", "spare", "--reason", "yes").stdout
    assert "propose key resume" in kim.terminal.type("key", "resume", "spare", exit_code=1).stderr
    resume = ("propose", "key", "resume", "spare", "--reason", "no leak", "--ssh-key", str(kim.key))
    made = kim.terminal.json(*resume)["proposal"]
    lee.terminal.type("proposal", "approve", made, "--ssh-key", str(lee.key))
    assert "active" in kim.terminal.type("key", "show", "spare").stdout
    assert "propose key revoke" in kim.terminal.type("key", "revoke", "spare", "--reason", "x", exit_code=1).stderr
    revoke = ("propose", "key", "revoke", "spare", "--reason", "leaked", "--ssh-key", str(kim.key))
    made = kim.terminal.json(*revoke)["proposal"]
    lee.terminal.type("proposal", "approve", made, "--ssh-key", str(lee.key))
    assert kim.terminal.json("key", "show", "spare")["revoked"] is True


def test_people_are_listed_with_their_keys_and_locked_out(desks: dict[str, Desk], verifier: RunningVerifier) -> None:
    kim = desks["kim"]
    listed = kim.terminal.json("person", "list")
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", f"{kim.key}.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    keys = {person["name"]: [key["fingerprint"] for key in person["keys"]] for person in listed["people"]}
    assert (keys["kim"], keys["ann"]) == ([fingerprint], [])
    ann = Terminal(verifier.folder / "persons" / "ann", kim.terminal.folder)
    assert "suspended until" in kim.terminal.type("person", "suspend", "ann", "--reason", "away").stdout
    assert "person.suspended" in ann.type("node", "list", exit_code=1).stderr
    assert "propose person resume" in kim.terminal.type("person", "resume", "ann", exit_code=1).stderr


def test_a_newcomer_brings_a_key_of_their_own_and_two_people_invite_and_remove_them(
    desks: dict[str, Desk], tmp_path: Path
) -> None:
    kim, lee, newcomer = desks["kim"], desks["lee"], Terminal(tmp_path / "eve", tmp_path)
    request = newcomer.json("person", "enrol", "eve", "-o", str(tmp_path / "eve"))["request"]
    assert (tmp_path / "eve" / "person.key").stat().st_mode & 0o077 == 0
    invite = ("person", "invite", "eve", request, "--role", "viewer")
    assert "propose person invite" in kim.terminal.type(*invite, "-o", "eve.invitation", exit_code=1).stderr
    proposed = kim.terminal.json("propose", *invite, "--reason", "joins", "--ssh-key", str(kim.key))
    assert proposed["words"].startswith("Let person eve operate the verifier with the roles viewer")
    early = kim.terminal.type("proposal", "invitation", proposed["proposal"], "-o", "eve.invitation", exit_code=1)
    assert "is open, and invites nobody" in early.stderr
    lee.terminal.type("proposal", "approve", proposed["proposal"], "--ssh-key", str(lee.key))
    invitation = str(tmp_path / "eve.invitation")
    kim.terminal.type("proposal", "invitation", proposed["proposal"], "-o", invitation)
    newcomer.type("person", "enrol", "mallory", "-o", str(tmp_path / "mallory"))
    other = ("person", "enrol", "eve", "-o", str(tmp_path / "mallory"), "--invitation", invitation)
    assert "for somebody else, or for another key" in newcomer.type(*other, exit_code=1).stderr
    newcomer.type("person", "enrol", "eve", "-o", str(tmp_path / "eve"), "--invitation", invitation)
    assert newcomer.json("doctor")["self"]["roles"] == ["viewer"]
    assert "propose person remove" in kim.terminal.type("person", "remove", "eve", exit_code=1).stderr
    remove = ("propose", "person", "remove", "eve", "--reason", "left", "--ssh-key", str(kim.key))
    removal = kim.terminal.json(*remove)["proposal"]
    lee.terminal.type("proposal", "approve", removal, "--ssh-key", str(lee.key))
    assert "person.unknown" in newcomer.type("node", "list", exit_code=1).stderr


def test_nobody_is_removed_without_whom_nobody_could_meet_the_rules(desks: dict[str, Desk]) -> None:
    kim, lee = desks["kim"], desks["lee"]
    last = ("propose", "person", "remove", "lee", "--reason", "x", "--ssh-key", str(kim.key))
    needed = kim.terminal.json(*last)["proposal"]
    failed = lee.terminal.json("proposal", "approve", needed, "--ssh-key", str(lee.key))
    assert (failed["outcome"], "without lee nobody could meet the rules" in failed["why"]) == ("failed", True)


def test_the_host_says_the_rules_and_recovers_only_when_stopped(
    desks: dict[str, Desk], verifier: RunningVerifier, tmp_path: Path
) -> None:
    runner, config = CliRunner(), str(verifier.folder / "verifier.yaml")
    assert "quorum (version 2)" in runner.invoke(app, ["rules", "show", "--config", config]).stdout
    listed = runner.invoke(app, ["person", "list", "--config", config])
    assert "rules: quorum" in listed.stderr
    key = f"{desks['kim'].key}.pub"
    for words in (
        ["person", "key-add", "kim", key, "--config", config],
        ["person", "add", "eve", "--role", "approver", "-o", str(tmp_path / "eve"), "--config", config],
        ["rules", "recover", "--config", config],
    ):
        with chdir(tmp_path):
            done = runner.invoke(app, words)
        assert done.exit_code != 0, words
        assert not (tmp_path / "eve").exists()
    assert "running" in str(done.exception) or "uses" in str(done.exception)
