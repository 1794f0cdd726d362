"""The operator's command against a running verifier, as a person types it: output, JSON and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.states import PEOPLE, Role
from support.answering import answering
from support.fake_node import FakeNode, a_node
from support.terminal import Terminal
from support.verifier import RunningVerifier

NOBODY = "n-" + "a" * 26
ABSENT_DIGEST = "0" * 64


@pytest.fixture(scope="module")
def client(verifier: RunningVerifier) -> Path:
    return verifier.add_person("alice", *PEOPLE)


@pytest.fixture
def admin(client: Path, tmp_path: Path) -> Terminal:
    return Terminal(client, tmp_path)


def test_nodes_are_listed_shown_admitted_quarantined_and_retired(
    verifier: RunningVerifier, node: FakeNode, admin: Terminal
) -> None:
    other = a_node(verifier)
    asyncio.run(other.enrol())
    states = {found["node_id"]: found["state"] for found in admin.json("node", "list")}
    assert states[other.node_id] == "pending"
    assert admin.json("node", "admit", other.node_id)["state"] in ("stale", "untrusted")
    quarantined = admin.json("node", "quarantine", other.node_id, "--reason", "chassis opened")
    assert (quarantined["state"], quarantined["reason"]) == ("quarantined", "chassis opened")
    assert "chassis opened" in admin.type("node", "show", other.node_id).stdout
    admin.type("node", "retire", other.node_id, "--reason", "returned")
    assert admin.json("node", "show", other.node_id)["state"] == "retired"
    assert node.node_id in admin.type("node", "list").stdout


def test_goldens_go_from_captured_to_retired(node: FakeNode, admin: Terminal) -> None:
    async def attested() -> None:
        async with answering(node):
            capture = ("golden", "capture", node.node_id, "--name", "rack", "--pcrs", "0,4", "-o", "rack.yaml")
            await asyncio.to_thread(admin.type, *capture)

    asyncio.run(attested())
    activated = admin.json("golden", "activate", "rack.yaml")
    digest = activated["digest"]
    assert [golden["digest"] for golden in admin.json("golden", "list")] == [digest]
    assert admin.type("golden", "show", digest).stdout == (admin.folder / "rack.yaml").read_text()
    assert admin.type("golden", "diff", "rack.yaml", digest).stdout.strip() == "the goldens judge alike"
    text = (admin.folder / "rack.yaml").read_text()
    other = text.replace('"0":', '"5":')
    (admin.folder / "other.yaml").write_text(other)
    changed = admin.type("golden", "diff", "rack.yaml", "other.yaml", exit_code=1).stdout
    assert "sha256:0" in changed
    assert "sha256:5" in changed
    assert admin.json("golden", "retire", digest)["active"] is False
    assert "retired" in admin.type("golden", "list", "--retired").stdout


def test_things_are_called_by_the_beginning_of_their_ids_and_by_name(
    verifier: RunningVerifier, admin: Terminal
) -> None:
    other = a_node(verifier)
    asyncio.run(other.enrol())
    start, whole = other.node_id[:12], other.node_id
    assert admin.json("node", "show", start)["node_id"] == whole
    assert admin.json("node", "admit", start)["node_id"] == whole
    assert f"{start} is node {whole}" in admin.type("node", "label", start, "rack=z").stderr
    assert "too short" in admin.type("node", "retire", whole[:4], "--reason", "r", exit_code=1).stderr
    admin.type("key", "create", "called")
    granted = admin.json("key", "grant", "called", "--node", start)["grants"]
    assert [grant["node_id"] for grant in granted] == [whole]
    assert admin.json("key", "revoke", "called", "--node", start, "--reason", "r")["grants"] == []
    assert admin.json("audit", "list", "--subject", f"node/{start}") == admin.json(
        "audit", "list", "--subject", f"node/{whole}"
    )
    golden = Golden(name="called-so", pcrs={HashAlg.SHA256: {4: frozenset({bytes(32)})}})
    (admin.folder / "called.yaml").write_bytes(dump_golden(golden))
    admin.type("golden", "activate", "called.yaml")
    assert admin.type("golden", "show", "called-so").stdout.encode() == dump_golden(golden)
    assert admin.type("golden", "diff", "called-so", golden.digest[:8]).stdout.strip() == "the goldens judge alike"
    assert admin.json("golden", "retire", golden.digest[:10])["digest"] == golden.digest
    missing = admin.json("node", "show", "n-aaaaaaaaaa", exit_code=1)["error"]
    assert (missing["message"], missing["remedy"]) == ("there is no node 'n-aaaaaaaaaa'", "nodeseal node list")


def test_a_golden_larger_than_messages_goes_to_the_verifier_and_back(admin: Terminal) -> None:
    files = {f"/opt/software/file-{n}": (FileDigest(digest=n.to_bytes(32, "big")),) for n in range(20_000)}
    pcrs = {HashAlg.SHA256: {4: frozenset({bytes(32)})}}
    golden = Golden(name="large", pcrs=pcrs, runtime=RuntimeRules(files=files))
    (admin.folder / "large.yaml").write_bytes(dump_golden(golden))
    assert admin.json("golden", "activate", "large.yaml")["digest"] == golden.digest
    assert admin.type("golden", "show", golden.digest).stdout.encode() == dump_golden(golden)
    assert admin.type("golden", "diff", "large.yaml", golden.digest).stdout.strip() == "the goldens judge alike"
    admin.type("golden", "retire", golden.digest)


def test_keys_are_created_granted_and_revoked(node: FakeNode, admin: Terminal) -> None:
    created = admin.json("key", "create", "llama", "--public", "llama.pub")
    assert created["suite"].startswith("MLKEM768-X25519")
    public = (admin.folder / "llama.pub").read_bytes()
    assert json.loads(public)["key_id"] == "llama"
    admin.type("key", "show", "llama", "-o", "again.pub")
    assert (admin.folder / "again.pub").read_bytes() == public
    granted = admin.json("key", "grant", "llama", "--node", node.node_id, "--max-leases", "3")
    assert granted["grants"] == [{"node_id": node.node_id, "max_leases": 3}]
    assert admin.json("key", "revoke", "llama", "--node", node.node_id, "--reason", "job ended")["grants"] == []
    assert admin.json("key", "revoke", "llama", "--reason", "leaked")["revoked"] is True
    assert "revoked" in admin.type("key", "list").stdout


def test_a_sealed_model_is_registered_and_listed(admin: Terminal) -> None:
    (admin.folder / "plain").mkdir()
    (admin.folder / "plain" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    admin.type("key", "create", "tiny", "--public", "tiny.pub")
    sealed = admin.json("seal", "plain", "--key", "tiny.pub", "-o", "sealed", "--id", "tiny")
    registered = admin.json("model", "register", "sealed")
    assert registered["digest"] == sealed["model_digest"]
    assert registered["digest"] in [model["digest"] for model in admin.json("model", "list")]
    assert "tiny" in admin.type("model", "show", registered["digest"]).stdout


def test_a_registered_model_is_retired_and_comes_back_on_purpose(admin: Terminal) -> None:
    (admin.folder / "plain").mkdir()
    (admin.folder / "plain" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    admin.type("key", "create", "old", "--public", "old.pub")
    admin.type("seal", "plain", "--key", "old.pub", "-o", "sealed", "--id", "old")
    digest = admin.json("model", "register", "sealed")["digest"]
    assert "retired     -" in admin.type("model", "show", digest).stdout
    since = admin.json("model", "retire", digest, "--reason", "flawed")["retired"]
    assert "status      retired" in admin.type("model", "show", digest).stdout
    assert admin.json("model", "show", digest)["retired"] == since
    listed = admin.type("model", "list").stdout
    assert since[:10] in next(line for line in listed.splitlines() if digest in line and "retired" in line)
    assert "nodeseal model list" in admin.type("model", "retire", digest, "--reason", "x", exit_code=1).stderr
    refused = admin.type("model", "register", "sealed", exit_code=1).stderr
    assert "retired" in refused
    assert "--again" in refused
    assert "retired" not in admin.json("model", "register", "sealed", "--again")


def test_the_log_is_listed_with_its_leaf_hashes(node: FakeNode, admin: Terminal) -> None:
    records = admin.json("audit", "list")
    assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
    assert all(len(bytes.fromhex(record["leaf_hash"])) == 32 for record in records)
    assert records[0]["content"]["kind"] == "log.opened"
    enrolled = [record["content"]["subjects"] for record in records if record["content"]["kind"] == "node.enrolled"]
    assert any(f"node/{node.node_id}" in subjects for subjects in enrolled)
    later = admin.json("audit", "list", "--after", "2", "--limit", "1")
    assert [record["sequence"] for record in later] == [3]
    printed = admin.type("audit", "list").stdout
    assert "Person alice was added with the roles approver, auditor, operator, viewer." in printed
    assert admin.type("audit", "list", "--closed").stdout == "no records\n"


def test_the_log_is_searched_by_subject_actor_and_kind(node: FakeNode, admin: Terminal) -> None:
    admin.type("node", "label", node.node_id, "rack=a")
    filters = ("--subject", f"node/{node.node_id}"), ("--actor", "person/alice"), ("--kind", "node.labelled")
    (found,) = admin.json("audit", "list", "--limit", "1", *(text for pair in filters for text in pair))
    assert found["body"]["fields"]["node_id"] == node.node_id
    sequence = found["sequence"]
    for option, wanted in filters:
        assert sequence in [record["sequence"] for record in admin.json("audit", "list", option, wanted)]
        assert admin.json("audit", "list", option, f"{wanted}x") == []


def test_an_act_is_shown_whole_with_the_labels_that_it_names(node: FakeNode, admin: Terminal) -> None:
    admin.type("node", "label", node.node_id, "rack=b")
    (listed,) = admin.json("audit", "list", "--kind", "node.labelled", "--limit", "1")
    sequence = str(listed["sequence"])
    shown = admin.json("audit", "show", sequence)
    documents = shown.pop("documents")
    assert shown == listed
    assert documents[listed["body"]["fields"]["labels"]]["rack"] == "b"
    printed = admin.type("audit", "show", sequence).stdout
    assert listed["leaf_hash"] in printed
    assert listed["text"] in printed


@pytest.mark.parametrize("sequence", ["999999", str(2**64 - 1)])
def test_an_act_that_is_not_there_is_not_shown(admin: Terminal, sequence: str) -> None:
    refusal = admin.type("audit", "show", sequence, exit_code=1).stderr
    assert f"there is no act {sequence}" in refusal
    assert "nodeseal audit list" in refusal


def sequences(printed: str) -> list[int]:
    return [int(line.split()[0]) for line in printed.splitlines() if not line.startswith("      ")]


@pytest.mark.usefixtures("node")
def test_the_newest_records_are_listed_in_the_order_of_the_log_and_the_way_to_older_ones_is_said(
    admin: Terminal,
) -> None:
    everything = admin.type("audit", "list", "--after", "0")
    assert (admin.type("audit", "list").stderr, everything.stderr) == ("", "")
    shown = admin.type("audit", "list", "--limit", "1")
    (newest,) = sequences(shown.stdout)
    assert newest >= len(sequences(everything.stdout)) >= 3
    assert shown.stderr == f"older acts: nodeseal audit list --after {newest - 2} --limit 1\n"
    read_on = shown.stderr.split()[3:]
    assert [record["sequence"] for record in admin.json(*read_on)] == [newest - 1]
    assert admin.type(*read_on).stderr == f"older acts: nodeseal audit list --after {newest - 3} --limit 1\n"
    most = admin.type("audit", "list", "--limit", str(newest - 1))
    shown_first, *others = sequences(most.stdout)
    assert others == list(range(shown_first + 1, shown_first + newest - 1))
    assert most.stderr == f"older acts: nodeseal audit list --after 0 --limit {shown_first - 1}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param(("node", "show", NOBODY), NOBODY, id="an unknown node"),
        pytest.param(("golden", "show", ABSENT_DIGEST), ABSENT_DIGEST, id="an unknown golden"),
        pytest.param(("key", "show", "nothing"), "nothing", id="an unknown key"),
        pytest.param(("model", "show", ABSENT_DIGEST), ABSENT_DIGEST, id="an unknown model"),
        pytest.param(("model", "retire", ABSENT_DIGEST, "--reason", "x"), ABSENT_DIGEST, id="no model to retire"),
        pytest.param(("model", "register", "."), "nodeseal seal", id="a folder that is not sealed"),
        pytest.param(("golden", "diff", "absent.yaml", "absent.yaml"), "absent.yaml", id="a file that is not there"),
    ],
)
def test_refusals_end_with_1_and_say_why_on_stderr(admin: Terminal, argv: tuple[str, ...], said: str) -> None:
    done = admin.type(*argv, exit_code=1)
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(("node", "show", "../../etc"), id="something that is no node id"),
        pytest.param(("golden", "show", "abc/"), id="something that is no digest and no name"),
        pytest.param(("golden", "capture", NOBODY, "--name", "g", "--pcrs", "0,99"), id="a PCR that does not exist"),
        pytest.param(("golden", "capture", NOBODY, "--name", "A B"), id="a golden name with a space"),
        pytest.param(("key", "create", "UPPER"), id="a key name in upper case"),
        pytest.param(("key", "grant", "k", "--node", NOBODY, "--max-leases", "0"), id="a grant of no lease"),
        pytest.param(("key", "revoke", "k", "--node", "x/", "--reason", "r"), id="a revocation for no node"),
        pytest.param(("node", "quarantine", NOBODY), id="a quarantine without a reason"),
        pytest.param(("model", "retire", ABSENT_DIGEST), id="a model that is retired without a reason"),
        pytest.param(("nonsense",), id="a command that does not exist"),
    ],
)
def test_misuse_ends_with_2_before_the_verifier_is_asked(tmp_path: Path, argv: tuple[str, ...]) -> None:
    Terminal(tmp_path / "no-such-client", tmp_path).type(*argv, exit_code=2)


def test_a_role_that_may_not_is_told_so(verifier: RunningVerifier, tmp_path: Path) -> None:
    viewer = Terminal(verifier.add_person("viewer", Role.VIEWER), tmp_path)
    viewer.type("node", "list")
    refusal = viewer.type("key", "create", "mine", exit_code=1).stderr
    assert "/nodeseal.v1.Keys/CreateKey" in refusal
    assert "do:" in refusal


def test_without_a_client_folder_the_error_names_the_remedy(tmp_path: Path) -> None:
    stderr = Terminal(tmp_path / "absent", tmp_path).type("node", "list", exit_code=1).stderr
    assert "nodeseal-verifier person add" in stderr


def test_without_a_verifier_the_error_says_so(client: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(client, tmp_path / "client")
    (folder / "client.yaml").write_text(
        'verifier: "127.0.0.1:1"\nca: "ca.pem"\ncertificate: "person.pem"\nkey: "person.key"\n'
    )
    assert "is nodeseal-verifier running there" in Terminal(folder, tmp_path).type("node", "list", exit_code=1).stderr


def test_every_command_explains_itself_with_an_example() -> None:
    from typer.main import get_command  # noqa: PLC0415 - as above

    from nodeseal.cli.later import Later  # noqa: PLC0415 - as above
    from nodeseal.cli.main import app  # noqa: PLC0415 - as above

    def walk(named: Any, path: str) -> Iterator[tuple[str, Any]]:
        command = named.loaded() if isinstance(named, Later) else named
        children = getattr(command, "commands", {})
        if not children:
            yield path, command
        for name, child in children.items():
            yield from walk(child, f"{path} {name}")

    silent = [path for path, command in walk(get_command(app), "nodeseal") if path not in (command.epilog or "")]
    assert not silent


def completed(client: Path, line: str) -> list[str]:
    """Return what a shell is offered at the end of a line."""
    done = subprocess.run(
        [sys.executable, "-c", "from nodeseal.cli.main import main; import sys; sys.argv[0] = 'nodeseal'; main()"],
        env={
            **os.environ,
            "NODESEAL_CLIENT": str(client),
            "_NODESEAL_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_is_offered_ids_and_names(verifier: RunningVerifier, client: Path, admin: Terminal) -> None:
    other = a_node(verifier)
    asyncio.run(other.enrol())
    assert other.node_id in completed(client, f"nodeseal node show {other.node_id[:4]}")
    assert completed(client, f"nodeseal node show {other.node_id[:20]}") == [other.node_id]
    admin.type("key", "create", "complete-me")
    assert completed(client, "nodeseal key show complete") == ["complete-me"]
    assert completed(client, f"nodeseal key grant complete-me --node {other.node_id[:20]}") == [other.node_id]


def test_a_shell_is_offered_nothing_without_a_verifier(client: Path, tmp_path: Path) -> None:
    assert completed(tmp_path / "nowhere", "nodeseal node show n-") == []
    folder = Path(shutil.copytree(client, tmp_path / "client"))
    settings = (folder / "client.yaml").read_text().splitlines()
    silent = ['verifier: "127.0.0.1:1"' if line.startswith("verifier:") else line for line in settings]
    (folder / "client.yaml").write_text("\n".join(silent))
    assert completed(folder, "nodeseal node show n-") == []
