from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeseal.agent.identity import AK_UNIQUE_SIZE, Identity, StateDirectory
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.ids import NodeId, PersonId

NODE = NodeId("n-" + "a" * 26)
NOW = datetime.now(UTC)
AUTHORITY = CertificateAuthority.create("test", NOW, 30)


def an_identity() -> Identity:
    key = new_tls_key()
    der = AUTHORITY.issue_node(certificate_request(key, "node"), "test.example", NODE, NOW, timedelta(days=1))
    return Identity.of(key, (der, AUTHORITY.certificate_der))


def test_an_identity_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = an_identity()
    StateDirectory(tmp_path / "s").save_identity(saved)
    found = StateDirectory(tmp_path / "s").identity()
    assert found == saved
    assert found.channel.node_id == NODE


def test_there_is_no_identity_before_enrolment(tmp_path: Path) -> None:
    assert StateDirectory(tmp_path / "s").identity() is None


def test_the_attestation_key_stays_the_same(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "s").ak_unique()
    assert len(first) == AK_UNIQUE_SIZE
    assert StateDirectory(tmp_path / "s").ak_unique() == first


def test_a_new_attestation_key_is_a_new_identity(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    state.save_identity(an_identity())
    state.ak_unique()
    assert state.identity() is None


def test_only_the_agent_can_read_its_files(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    state.ak_unique()
    state.save_identity(an_identity())
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "s").iterdir()} == {0o600}


def test_a_directory_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    with pytest.raises(MalformedInput, match="open to other users"):
        StateDirectory(tmp_path / "s")


def test_what_an_interrupted_write_left_behind_is_no_identity(tmp_path: Path) -> None:
    state, saved = StateDirectory(tmp_path / "s"), an_identity()
    state.save_identity(saved)
    (tmp_path / "s" / "identity.json.new").write_bytes(b"{")
    assert state.identity() == saved
    state.save_identity(saved)
    assert [file.name for file in (tmp_path / "s").iterdir()] == ["identity.json"]


def test_a_failed_write_keeps_the_old_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, saved = StateDirectory(tmp_path / "s"), an_identity()
    state.save_identity(saved)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        state.save_identity(an_identity())
    assert state.identity() == saved


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(b'{"certificates":[],"format":"nodeseal/identity/1","private_key":"AA=="}', id="no certificate"),
        pytest.param(b'{"certificates":[],"format":"nodeseal/identity/2","private_key":"AA=="}', id="another format"),
    ],
)
def test_a_file_that_the_agent_did_not_write_is_refused(tmp_path: Path, content: bytes) -> None:
    state = StateDirectory(tmp_path / "s")
    (tmp_path / "s" / "identity.json").write_bytes(content)
    with pytest.raises(MalformedInput):
        state.identity()


def test_a_truncated_attestation_key_is_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    (tmp_path / "s" / "ak-unique").write_bytes(b"short")
    with pytest.raises(MalformedInput, match="5 bytes"):
        state.ak_unique()


def test_a_person_is_no_node() -> None:
    key = new_tls_key()
    request = certificate_request(key, "ada")
    der = AUTHORITY.issue_person(request, "test.example", PersonId("ada"), NOW, timedelta(days=1))
    with pytest.raises(MalformedInput, match="made for a person"):
        Identity.of(key, (der,))


def test_the_private_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(an_identity())


def test_a_second_agent_cannot_use_the_directory_until_the_first_lets_go(tmp_path: Path) -> None:
    first, second = StateDirectory(tmp_path / "state"), StateDirectory(tmp_path / "state")
    first.claim()
    with pytest.raises(Unavailable, match=f"process {os.getpid()} uses it"):
        second.claim()
    first.release()
    second.claim()
    second.release()
