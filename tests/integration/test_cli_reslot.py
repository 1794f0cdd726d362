"""``nodeseal key create --store`` and ``nodeseal reslot``, typed by people, against a running verifier."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.verifier.states import PEOPLE, Role
from support.sealed import plain_model
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("reslot")) as running:
        running.add_person("alice", *PEOPLE)
        running.add_person("olga", Role.OPERATOR)
        yield running


@pytest.fixture
def admin(verifier: RunningVerifier, tmp_path: Path) -> Terminal:
    return Terminal(verifier.folder / "persons" / "alice", tmp_path)


@pytest.fixture
def sealed(admin: Terminal, tmp_path: Path) -> str:
    """A registered model under a name of its own, sealed to a key of that name; a second key is there, too."""
    name = f"m{secrets.token_hex(4)}"
    plain_model(tmp_path / "plain")
    for key in (name, f"{name}-new"):
        admin.type("key", "create", key, "--public", f"{key}.pub")
    admin.type("seal", "plain", "--key", f"{name}.pub", "-o", name)
    admin.type("model", "register", name)
    return name


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reslot_puts_the_new_key_in_the_old_one_s_place(
    verifier: RunningVerifier, admin: Terminal, sealed: str, tmp_path: Path
) -> None:
    before = files(tmp_path / sealed)
    text = admin.type("reslot", sealed, "--key", f"{sealed}-new.pub", "--drop", sealed).stdout
    assert f"{sealed}-new, version 1" in text
    assert "nodeseal key revoke" in text
    after = files(tmp_path / sealed)
    assert {name for name in after if after[name] != before.get(name)} == {"nodeseal.slots.json"}
    slots = admin.json("inspect", sealed)["slots"]
    assert [slot["key_id"] for slot in slots] == [f"{sealed}-new"]
    assert verifier.records()[-1]["action"] == "model.rewrapped"
    assert verifier.records()[-1]["actor"] == "person/alice"


def test_reslot_adds_a_key_for_disaster_recovery(admin: Terminal, sealed: str) -> None:
    slots = admin.json("reslot", sealed, "--key", f"{sealed}-new.pub")["slots"]
    assert [slot["key_id"] for slot in slots] == [f"{sealed}-new", sealed]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--key", "{0}.pub"), "two slots for one version"),
        (("--key", "{0}-new.pub", "--drop", "absent"), "no slot of absent to drop"),
    ],
)
def test_a_rotation_that_cannot_be_is_refused_before_the_verifier_is_asked(
    verifier: RunningVerifier, admin: Terminal, sealed: str, argv: tuple[str, ...], said: str
) -> None:
    before, records = files(admin.folder / sealed), len(verifier.records())
    command = [argument.format(sealed) for argument in argv]
    assert said in admin.type("reslot", sealed, *command, exit_code=1).stderr
    assert files(admin.folder / sealed) == before
    assert len(verifier.records()) == records


def test_what_the_verifier_refuses_changes_nothing(
    verifier: RunningVerifier, admin: Terminal, sealed: str, tmp_path: Path
) -> None:
    before = files(tmp_path / sealed)
    olga = Terminal(verifier.folder / "persons" / "olga", tmp_path)
    olga.type("reslot", sealed, "--key", f"{sealed}-new.pub", exit_code=1)
    admin.type("key", "revoke", sealed, "--reason", "stolen")
    assert "release." in admin.type("reslot", sealed, "--key", f"{sealed}-new.pub", exit_code=1).stderr
    assert files(tmp_path / sealed) == before


def test_a_key_in_a_token_needs_a_verifier_that_has_one(admin: Terminal) -> None:
    refused = admin.type("key", "create", "hard", "--store", "pkcs11:token=t;object=o", exit_code=1).stderr
    assert "set keys.pkcs11 in verifier.yaml" in refused
    assert admin.json("key", "create", "soft", "--store", "file")["store"] == "file"
