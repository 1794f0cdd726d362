"""Certificates are renewed beside a running verifier, and whoever is not let in learns why."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from nodeseal.client.renewal import renew
from nodeseal.client.verifier import Verifier
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import Unavailable
from nodeseal.files import write_new
from nodeseal.ids import PersonId
from nodeseal.v1 import admin_pb2, people_pb2, people_pb2_grpc
from nodeseal.verifier.states import Role
from support.terminal import Terminal
from support.verifier import TRUST_DOMAIN, RunningVerifier, Stubs, a_verifier, refused


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("renewals")) as made:
        yield made


@pytest.fixture
def kim(verifier: RunningVerifier) -> Path:
    """A new person's folder, whose verifier is called by a name of its certificate."""
    return verifier.add_person(f"kim-{secrets.token_hex(4)}", Role.VIEWER)


def failing(terminal: Terminal, *words: str) -> str:
    """Type a command that must fail; return all that it says."""
    done = terminal.type(*words, exit_code=1)
    return done.stdout + done.stderr


def kinds(verifier: RunningVerifier, folder: Path) -> list[str]:
    return verifier.actions(f"person/{folder.name}")


def lists(verifier: RunningVerifier, key: bytes, chain: bytes) -> None:
    """Make a call that every person may make."""

    async def call() -> None:
        async with verifier.channel(key, chain) as channel:
            await people_pb2_grpc.PeopleStub(channel).GetSelf(people_pb2.GetSelfRequest())

    asyncio.run(call())


def test_a_person_renews_their_certificate_and_the_one_before_ends(
    verifier: RunningVerifier, kim: Path, tmp_path: Path
) -> None:
    before = (kim / "person.key").read_bytes(), (kim / "person.pem").read_bytes()
    terminal = Terminal(kim, tmp_path)
    renewed = terminal.json("person", "renew")
    assert renewed["name"] == kim.name
    assert (kim / "person.key").read_bytes() != before[0]
    assert sorted(path.name for path in kim.iterdir()) == ["ca.pem", "client.yaml", "person.key", "person.pem"]
    assert kinds(verifier, kim) == ["person.added", "person.renewed", "person.certificate-replaced"]
    assert terminal.json("doctor")["self"]["roles"] == ["viewer"]
    with pytest.raises(grpc.aio.AioRpcError, match=r"person\.unknown"):
        lists(verifier, *before)


def test_an_answer_that_got_lost_locks_nobody_out(verifier: RunningVerifier, kim: Path) -> None:
    old = (kim / "person.key").read_bytes(), (kim / "person.pem").read_bytes()
    key = new_tls_key()

    async def renew() -> bytes:
        async with verifier.channel(*old) as channel:
            request = people_pb2.RenewCertificateRequest(certificate_request=certificate_request(key, "somebody-else"))
            answer = await people_pb2_grpc.PeopleStub(channel).RenewCertificate(request)
            return bytes(answer.certificate_chain[0])

    fresh = asyncio.run(renew())
    assert peer_identity(fresh).name == kim.name
    lists(verifier, *old)
    lists(verifier, key, to_pem(fresh))
    with pytest.raises(grpc.aio.AioRpcError, match=r"person\.unknown"):
        lists(verifier, *old)
    asyncio.run(still_a_viewer(verifier, key, to_pem(fresh)))


def test_an_answer_to_the_first_use_that_got_lost_locks_nobody_out(
    verifier: RunningVerifier, kim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verifier has ended the certificate before; the fresh one must not be thrown away."""
    get_self = Verifier.get_self

    def lost(self: Verifier) -> people_pb2.Self:
        get_self(self)
        raise Unavailable("no answer")

    old = (kim / "person.key").read_bytes(), (kim / "person.pem").read_bytes()
    with monkeypatch.context() as once:
        once.setattr(Verifier, "get_self", lost)
        with pytest.raises(Unavailable, match="no answer") as caught:
            renew(kim)
    assert "repeat it" in caught.value.remedy
    with pytest.raises(grpc.aio.AioRpcError, match=r"person\.unknown"):
        lists(verifier, *old)
    assert renew(kim).name == kim.name
    lists(verifier, (kim / "person.key").read_bytes(), (kim / "person.pem").read_bytes())
    assert sorted(path.name for path in kim.iterdir()) == ["ca.pem", "client.yaml", "person.key", "person.pem"]
    assert kinds(verifier, kim) == ["person.added", "person.renewed", "person.certificate-replaced"]


def test_a_pair_that_is_left_and_does_not_count_is_replaced(verifier: RunningVerifier, kim: Path) -> None:
    key = new_tls_key()
    request, at = certificate_request(key, "kim"), datetime.now(UTC)
    leaf = verifier.authority().issue_person(request, TRUST_DOMAIN, PersonId(kim.name), at, timedelta(days=1))
    write_new(kim / "person.key.new", key)
    write_new(kim / "person.pem.new", to_pem(leaf))
    assert renew(kim).name == kim.name
    lists(verifier, (kim / "person.key").read_bytes(), (kim / "person.pem").read_bytes())


async def still_a_viewer(verifier: RunningVerifier, key: bytes, chain: bytes) -> None:
    """Make sure that a renewed certificate gives no other role."""
    async with verifier.channel(key, chain) as channel:
        call = Stubs(channel).keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="mine"))
        assert (await refused(call)).findings == ("person.role",)


def test_a_person_who_was_removed_renews_nothing(verifier: RunningVerifier, kim: Path, tmp_path: Path) -> None:
    verifier.remove_person(kim.name)
    before = (kim / "person.pem").read_bytes()
    assert "person.unknown" in failing(Terminal(kim, tmp_path), "person", "renew")
    assert (kim / "person.pem").read_bytes() == before
    assert kinds(verifier, kim) == ["person.added", "person.removed"]


def shown(verifier: RunningVerifier) -> bytes:
    """Return the certificate that a new connection is shown."""
    host, _, port = verifier.listen.rpartition(":")
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port)), timeout=30))


def renew_server(verifier: RunningVerifier) -> None:
    config = str(verifier.folder / "verifier.yaml")
    subprocess.run([sys.executable, "-m", "nodeseal.verifier", "renew-server", "--config", config], check=True)


def test_a_new_server_certificate_is_served_without_a_restart_and_a_bad_one_is_not(
    verifier: RunningVerifier, kim: Path, tmp_path: Path
) -> None:
    first, process = shown(verifier), verifier.process.pid
    renew_server(verifier)
    second = shown(verifier)
    assert second != first
    Terminal(kim, tmp_path).json("doctor")
    key = (verifier.folder / "server.key").read_bytes()
    (verifier.folder / "server.key").write_bytes(new_tls_key())
    assert shown(verifier) == second
    (refusal,) = [line for line in verifier.log() if line["event"] == "server certificate not taken"]
    assert "not the key of" in refusal["error"]
    (verifier.folder / "server.key").write_bytes(key)
    assert shown(verifier) == second
    assert verifier.process.pid == process


def put_certificate(verifier: RunningVerifier, folder: Path, at: datetime) -> None:
    key = new_tls_key()
    request = certificate_request(key, "kim")
    der = verifier.authority().issue_person(request, TRUST_DOMAIN, PersonId(folder.name), at, timedelta(days=10))
    (folder / "person.key").write_bytes(key)
    (folder / "person.pem").write_bytes(to_pem(der))


@pytest.mark.parametrize("words", [("node", "list"), ("doctor",)], ids=["a command", "doctor"])
def test_an_expired_certificate_of_ones_own_is_named_before_the_verifier_is_blamed(
    verifier: RunningVerifier, kim: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    put_certificate(verifier, kim, datetime.now(UTC) - timedelta(days=20))
    said = failing(Terminal(kim, tmp_path), *words)
    assert "person.pem: expired on" in said
    assert "nodeseal-verifier person renew" in said


def test_the_doctor_names_another_authority_another_name_and_another_key(
    verifier: RunningVerifier, kim: Path, tmp_path: Path
) -> None:
    terminal = Terminal(kim, tmp_path)
    assert "roles" in terminal.type("doctor").stdout
    good = shutil.copytree(kim, tmp_path / "good")
    (kim / "ca.pem").write_bytes(CertificateAuthority.create("x", datetime.now(UTC), 100).certificate_pem)
    assert "not of the authority" in failing(terminal, "doctor")
    shutil.copy(good / "ca.pem", kim / "ca.pem")
    client = (kim / "client.yaml").read_text()
    (kim / "client.yaml").write_text(client + 'server_name: "verifier.example"\n')
    assert "for localhost, 127.0.0.1, not for verifier.example" in failing(terminal, "doctor")
    (kim / "client.yaml").write_text(client + 'server_name: "localhost"\n')
    terminal.json("doctor")
    (kim / "person.key").write_bytes(new_tls_key())
    assert "not the key of" in failing(terminal, "doctor")
    (kim / "client.yaml").write_text(client.replace(verifier.listen, "127.0.0.1:1"))
    assert "does not answer: Connection refused" in failing(terminal, "doctor")
    (kim / "client.yaml").unlink()
    assert "no such file" in failing(terminal, "doctor")
