"""Opening key stores: where a PIN may come from, and what a token that is away means for the rest."""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.ids import Digest, KeyId, PersonId
from nodeseal.verifier.config import Config, TokenSettings, load_config
from nodeseal.verifier.keys.stores import load_pin, open_key_stores
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise

MODEL = Digest("ab" * 32)
SETTINGS = TokenSettings(module=Path("/nonexistent/module.so"), name="nodeseal", pin=None)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def pin_file(folder: Path, raw: bytes, mode: int = 0o600) -> TokenSettings:
    path = folder / "pin"
    path.write_bytes(raw)
    path.chmod(mode)
    return replace(SETTINGS, pin=path)


@pytest.mark.parametrize(("raw", "pin"), [(b"1234", "1234"), (b"1234\n", "1234"), ("pä ss".encode(), "pä ss")])
def test_a_pin_is_read_from_a_file(tmp_path: Path, raw: bytes, pin: str) -> None:
    assert load_pin(pin_file(tmp_path, raw)) == pin


@pytest.mark.parametrize("raw", [b"", b"\n", b"12\n34", b"12\0", b"\xff\xfe", b"1" * 256])
def test_what_is_no_pin_is_refused_without_being_shown(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="1 to 255 printable characters") as caught:
        load_pin(pin_file(tmp_path, raw))
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_pin_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="other users may read"):
        load_pin(pin_file(tmp_path, b"1234", mode=0o640))


def test_systemds_credential_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nodeseal-token-pin").write_bytes(b"5678\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_pin(replace(SETTINGS, pin=tmp_path / "absent")) == "5678"


def test_a_pin_is_asked_for_where_there_is_a_terminal_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "9999" if prompt == "PIN of token nodeseal: " else "")
    assert load_pin(SETTINGS) == "9999"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(MalformedInput, match="no PIN and no terminal"):
        load_pin(SETTINGS)


def a_config(folder: Path, token: TokenSettings | None) -> Config:
    plan = SetupPlan(
        trust_domain="example.org",
        server_names=("localhost",),
        listen="127.0.0.1:7443",
        listen_enrol="127.0.0.1:7444",
        ek_roots=None,
        admin=PersonId("admin"),
        own=OwnCertificates(),
    )
    initialise(folder / "v", plan, datetime(2026, 1, 2, tzinfo=UTC))
    return replace(load_config(folder / "v" / "verifier.yaml"), token=token)


def test_keys_in_files_open_although_the_token_is_away(tmp_path: Path) -> None:
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    stores = open_key_stores(a_config(tmp_path, pin_file(tmp_path, b"1234")))
    held = stores.create(KeyId("k"), 1, Suite.P384, "file")
    assert stores.open_slot(held, MODEL, held.key.slot(MODEL, bytes(32)).sealed) == bytes(32)
    with pytest.raises(Unavailable, match="token nodeseal"):
        stores.create(KeyId("k"), 1, Suite.P384, "pkcs11:")


def test_a_verifier_without_python_pkcs11_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = a_config(tmp_path, pin_file(tmp_path, b"1234"))
    monkeypatch.delitem(sys.modules, "nodeseal.verifier.keys.token", raising=False)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(MalformedInput, match="python-pkcs11") as caught:
        open_key_stores(config)
    assert ".[pkcs11]" in caught.value.remedy
