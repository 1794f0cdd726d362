"""A verifier is copied while it runs, and restored only if what is restored would start."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.checks.faults import Unfit, require_fit
from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.verifier.backup import back_up, restore, try_restore
from nodeseal.verifier.checks.start import faults_beside
from nodeseal.verifier.config import load_config
from nodeseal.verifier.main import app
from nodeseal.verifier.states import PEOPLE
from nodeseal.verifier.store.database import copy_database, opened_engine, run
from support.damage import flip
from support.terminal import Terminal
from support.verifier import RunningVerifier, a_verifier

NOW = datetime.now(UTC)
SECRETS = "acts.key", "ca.key", "ear.key", "kek", "log.key", "server.key", "verifier.sqlite"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("backup")) as verifier:
        client = verifier.add_person("alice", *PEOPLE)
        terminal = Terminal(client, tmp_path_factory.mktemp("person"))
        terminal.type("key", "create", "llama")
        yield verifier


@pytest.fixture
def terminal(running: RunningVerifier, tmp_path: Path) -> Terminal:
    return Terminal(running.folder / "persons" / "alice", tmp_path)


@pytest.fixture
def backup(running: RunningVerifier, tmp_path: Path) -> Path:
    assert back_up(running.folder / "verifier.yaml", tmp_path / "backup") == ()
    return tmp_path / "backup"


def test_what_is_restored_starts_with_what_was_in_force_then(
    running: RunningVerifier, backup: Path, terminal: Terminal, tmp_path: Path
) -> None:
    terminal.type("key", "create", "later")
    state = restore(backup, tmp_path / "restored", NOW)
    assert set(state.keys) == {"llama"}
    assert "alice" in state.people
    copy = RunningVerifier(tmp_path / "restored", running.vendor)
    shutil.copytree(running.folder / "persons", copy.folder / "persons")
    settings = copy.folder / "verifier.yaml"
    for address in (running.listen, running.listen_enrol):
        settings.write_text(settings.read_text().replace(address, "127.0.0.1:0"))
    with pytest.raises(Unfit, match=r"checkpoint.*not there"):
        require_fit(faults_beside(load_config(settings), settings, NOW)[0])
    begun = CliRunner().invoke(
        app, ["new-origin", "--keep", "alice", "--reason", "disk failed", "--config", str(settings)]
    )
    assert "has ended" in begun.output, begun
    copy.start()
    try:
        client = copy.folder / "persons" / "alice" / "client.yaml"
        client.write_text(client.read_text().replace(running.listen, copy.listen))
        assert [key["key_id"] for key in Terminal(client, tmp_path).json("key", "list")] == ["llama"]
    finally:
        copy.stop()


def test_secrets_are_private_in_a_backup_and_where_it_is_restored(backup: Path, tmp_path: Path) -> None:
    restore(backup, tmp_path / "restored", NOW)
    for folder in (backup, tmp_path / "restored"):
        private = [folder, folder / "keys", folder / "journal"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o700}
        files = [*(folder / name for name in SECRETS), *(folder / "keys").iterdir()]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_keys_may_be_kept_apart_and_are_needed_to_restore(running: RunningVerifier, tmp_path: Path) -> None:
    back_up(running.folder / "verifier.yaml", tmp_path / "backup", tmp_path / "safe")
    assert sorted(path.name for path in (tmp_path / "safe").iterdir()) == ["acts.key", "kek", "log.key"]
    assert not {"acts.key", "kek", "log.key"} & {path.name for path in (tmp_path / "backup").iterdir()}
    with pytest.raises(Unfit, match=r"kek"):
        restore(tmp_path / "backup", tmp_path / "restored", NOW)
    assert restore(tmp_path / "backup", tmp_path / "restored", NOW, tmp_path / "safe").keys[-1] == "llama"


def damaged_page(backup: Path) -> None:
    with (backup / "verifier.sqlite").open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xff" * 4096)


def edited_act(backup: Path) -> None:
    with opened_engine(backup / "verifier.sqlite") as engine:
        run(engine, lambda connection: connection.exec_driver_sql("UPDATE acts SET mac = zeroblob(32) WHERE id = 1"))


def older_schema(backup: Path) -> None:
    with opened_engine(backup / "verifier.sqlite") as engine:
        run(engine, lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'"))


def another_kek(backup: Path) -> None:
    flip(backup / "kek")


@pytest.mark.parametrize("change", [damaged_page, edited_act, older_schema, another_kek])
def test_nothing_is_restored_from_a_backup_on_which_no_verifier_would_start(
    backup: Path, change: Callable[[Path], None], tmp_path: Path
) -> None:
    assert try_restore(backup, NOW).keys[-1] == "llama"
    change(backup)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NodesealError):
        restore(backup, tmp_path / "restored", NOW)
    with pytest.raises(NodesealError):
        try_restore(backup, NOW)
    assert sorted(tmp_path.iterdir()) == before


def test_no_folder_is_overwritten(running: RunningVerifier, backup: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(MalformedInput, match="exists already"):
        restore(backup, tmp_path / "there", NOW)
    with pytest.raises(MalformedInput, match="exists already"):
        back_up(running.folder / "verifier.yaml", tmp_path / "there")
    with pytest.raises(MalformedInput, match="exists already"):
        back_up(running.folder / "verifier.yaml", tmp_path / "new", tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_files_that_lie_elsewhere_come_into_the_folder(backup: Path, tmp_path: Path) -> None:
    (backup / "verifier.sqlite").rename(tmp_path / "elsewhere.sqlite")
    (backup / "keys").rename(tmp_path / "elsewhere-keys")
    settings = backup / "verifier.yaml"
    text = settings.read_text().replace("verifier.sqlite", str(tmp_path / "elsewhere.sqlite"))
    settings.write_text(text.replace('folder: "keys"', f'folder: "{tmp_path}/elsewhere-keys"'))
    back_up(settings, tmp_path / "whole")
    (tmp_path / "elsewhere.sqlite").unlink()
    assert restore(tmp_path / "whole", tmp_path / "restored", NOW).keys[-1] == "llama"


def test_the_check_that_a_backup_names_works_as_it_stands(running: RunningVerifier, tmp_path: Path) -> None:
    config, keys = ("--config", str(running.folder / "verifier.yaml")), ("--keys-apart", str(tmp_path / "safe"))
    said = CliRunner().invoke(app, ["backup", str(tmp_path / "backup"), *keys, *config]).output
    words = said.rpartition("try it: nodeseal-verifier ")[2].split()
    assert words == ["restore", str(tmp_path / "backup"), "--verify", *keys]
    assert CliRunner().invoke(app, words).exit_code == 0


def test_the_command_says_loudly_what_comes_back(running: RunningVerifier, tmp_path: Path) -> None:
    config = ("--config", str(running.folder / "verifier.yaml"))
    made = CliRunner().invoke(app, ["backup", str(tmp_path / "backup"), *config])
    assert made.exit_code == 0, made.output
    tried = CliRunner().invoke(app, ["restore", str(tmp_path / "backup"), "--verify"])
    assert (tried.exit_code, sorted(path.name for path in tmp_path.iterdir())) == (0, ["backup"]), tried.output
    done = CliRunner().invoke(app, ["restore", str(tmp_path / "backup"), str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    for shown in (tried.stdout, done.stdout):
        assert "WARNING  this br" in shown
        assert "people admin, alice: remove again" in shown
        assert "llama" in shown
    assert CliRunner().invoke(app, ["restore", str(tmp_path / "backup")]).exit_code == 2


def test_the_journal_is_copied_before_the_database_and_the_keys_after_it(
    running: RunningVerifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restriction that moves from one to the other in between is in both, and no recorded key lacks its file."""
    seen: list[list[str]] = []

    def look(source: Path, target: Path) -> None:
        seen.append(sorted(path.name for path in target.parent.iterdir()))
        copy_database(source, target)

    monkeypatch.setattr("nodeseal.verifier.backup.copy_database", look)
    back_up(running.folder / "verifier.yaml", tmp_path / "backup")
    assert seen == [["journal"]]
