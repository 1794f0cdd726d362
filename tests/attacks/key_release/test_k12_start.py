"""Row k12: a verifier is started on a folder that is not whole, or that another verifier uses.

Each case starts from a verifier with a model key, which starts, changes one fact, and starts it again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nodeseal.crypto.keywrap import unwrap_private_key, wrap_private_key
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.store.database import opened_engine, run
from nodeseal.verifier.store.policy import list_keys
from support.admin import a_sealed_model
from support.verifier import RunningVerifier, a_verifier


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[RunningVerifier]:
    """A verifier that made a model key, and was stopped."""
    with a_verifier(tmp_path) as verifier:
        create_key(verifier, "llama")
        assert verifier.stop() == 0
        yield verifier


def create_key(verifier: RunningVerifier, name: str) -> None:
    async def create() -> None:
        async with verifier.person() as admin:
            await a_sealed_model(admin, name, name)

    asyncio.run(create())


def command(verifier: RunningVerifier, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the verifier's host to its end."""
    program = [sys.executable, "-m", "nodeseal.verifier", *words, "--config", str(verifier.folder / "verifier.yaml")]
    return subprocess.run(program, capture_output=True, text=True, timeout=90, check=False)


def key_files(verifier: RunningVerifier) -> list[str]:
    return sorted(path.name for path in (verifier.folder / "keys").iterdir())


def another_kek(verifier: RunningVerifier) -> None:
    (verifier.folder / "kek").write_bytes(os.urandom(32))


def test_k12_the_folder_as_it_was_starts_again_and_its_key_opens(stopped: RunningVerifier) -> None:
    stopped.start()
    create_key(stopped, "second")


def test_k12_another_key_encryption_key_is_refused_and_nothing_is_made_under_it(stopped: RunningVerifier) -> None:
    another_kek(stopped)
    made, recorded = key_files(stopped), stopped.records()
    done = command(stopped, "run")
    assert done.returncode == 1
    assert "keys.kek: " in done.stderr
    assert "opens none of the 1 model keys" in done.stderr
    assert '"event": "ready"' not in done.stderr
    assert (key_files(stopped), stopped.records()) == (made, recorded)


def under_two_keks(verifier: RunningVerifier) -> None:
    """Put the second of two model keys under another key-encryption key, which stands in the place of the first."""
    first = (verifier.folder / "kek").read_bytes()
    another_kek(verifier)
    second = (verifier.folder / "kek").read_bytes()
    with opened_engine(verifier.folder / "verifier.sqlite") as engine:
        (key,) = [key.model_key for key in run(engine, list_keys) if key.key_id == "second"]
    (path,) = (verifier.folder / "keys").glob("second.*")
    secret = unwrap_private_key(first, path.read_bytes(), key.encode())
    path.write_bytes(wrap_private_key(second, secret, key.encode()))


def test_k12_a_key_encryption_key_that_opens_one_key_of_two_is_refused_where_another_was_in_use(
    stopped: RunningVerifier,
) -> None:
    stopped.start()
    create_key(stopped, "second")
    stopped.stop()
    under_two_keks(stopped)
    made = key_files(stopped)
    done = command(stopped, "run")
    assert done.returncode == 1
    assert "is not the one that was in use with" in done.stderr
    assert "opens 1 of its 2 model keys" in done.stderr
    assert key_files(stopped) == made
    (stopped.folder / "keys" / "kek.proof").unlink()  # as the remedy says, and as before there was such a file
    stopped.start()
    assert [line["field"] for line in stopped.log() if line["event"] == "setup"] == ["keys.folder"]
    assert "kek.proof" not in key_files(stopped)  # which of the two is the right one is not known


def test_k12_a_key_that_is_damaged_by_itself_is_named_and_stops_nothing(stopped: RunningVerifier) -> None:
    stopped.start()
    create_key(stopped, "second")
    stopped.stop()
    (damaged,) = (stopped.folder / "keys").glob("second.*")
    damaged.unlink()
    stopped.start()
    (warning,) = [line for line in stopped.log() if line["event"] == "setup" and line["field"] == "keys.folder"]
    assert warning["what"].startswith("key second: ")


def test_k12_a_revoked_key_need_not_open(stopped: RunningVerifier) -> None:
    stopped.start()

    async def revoke() -> None:
        async with stopped.person() as admin:
            await admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id="llama", reason="old"))

    asyncio.run(revoke())
    stopped.stop()
    another_kek(stopped)
    stopped.start()


@pytest.mark.parametrize("words", [["run"], ["upgrade"]], ids=["a second verifier", "an upgrade"])
def test_k12_what_needs_a_stopped_verifier_is_refused_beside_a_running_one(
    stopped: RunningVerifier, words: list[str]
) -> None:
    stopped.start()
    recorded = stopped.records()
    done = command(stopped, *words)
    assert done.returncode == 1
    assert f"process {stopped.process.pid} uses it" in done.stderr
    assert "stop the verifier that runs there" in done.stderr
    assert stopped.records() == recorded
    create_key(stopped, "second")


def test_k12_two_verifiers_may_not_share_a_journal(stopped: RunningVerifier, tmp_path: Path) -> None:
    with a_verifier(tmp_path / "other", start=False) as other:
        config = other.folder / "verifier.yaml"
        config.write_text(config.read_text().replace('"journal" ', f'"{stopped.folder}/journal" '))
        stopped.start()
        done = command(other, "run")
        assert done.returncode == 1
        assert f"{stopped.folder}/journal: process {stopped.process.pid} uses it" in done.stderr


@pytest.mark.parametrize("words", [["person", "list"], ["check"], ["ear-key"]], ids=" ".join)
def test_k12_what_only_reads_works_beside_a_running_verifier(stopped: RunningVerifier, words: list[str]) -> None:
    stopped.start()
    done = command(stopped, *words)
    assert done.returncode == 0, done.stderr


def test_k12_a_person_is_added_and_removed_beside_a_running_verifier(stopped: RunningVerifier, tmp_path: Path) -> None:
    stopped.start()
    added = command(stopped, "person", "add", "kim", "--role", "viewer", "-o", str(tmp_path / "kim"))
    assert added.returncode == 0, added.stderr
    removed = command(stopped, "person", "remove", "kim")
    assert removed.returncode == 0, removed.stderr


@pytest.mark.parametrize("words", [["run"], ["upgrade"], ["person", "list"], ["check"]], ids=" ".join)
def test_k12_a_mistyped_database_is_named_and_not_made(stopped: RunningVerifier, words: list[str]) -> None:
    config = stopped.folder / "verifier.yaml"
    config.write_text(config.read_text().replace('"verifier.sqlite"', '"verifer.sqlite"'))
    done = command(stopped, *words)
    assert done.returncode == 1
    assert "verifer.sqlite: no such file" in done.stdout + done.stderr
    assert not (stopped.folder / "verifer.sqlite").exists()


def test_k12_systemd_hears_ready_only_from_a_folder_that_is_proved(
    stopped: RunningVerifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "n"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        stopped.start()
        words = {systemd.recv(4096).decode().partition("=")[0] for _ in range(4)}
        assert words == {"STATUS", "READY", "WATCHDOG"}
        stopped.stop()
        systemd.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                systemd.recv(4096)
        another_kek(stopped)
        assert command(stopped, "run").returncode == 1
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)
