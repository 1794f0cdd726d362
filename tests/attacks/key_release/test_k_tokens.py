"""Row k10: whoever has the PIN of the verifier's token, or its machine, and wants a model key or a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeseal.v1 import admin_pb2
from nodeseal.verifier.keys.token_uri import parse_token_uri
from support.admin import a_sealed_model, grant, trusted_node
from support.tokens import NAME, PIN, SoftToken, a_verifier_with, soft_token
from support.verifier import RunningVerifier, refused

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")

SEALED_KEY = {
    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.EC,
}


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    return soft_token(tmp_path, monkeypatch)


@pytest.fixture
def verifier(tmp_path: Path, token: SoftToken) -> Iterator[RunningVerifier]:
    with a_verifier_with(token, tmp_path) as made:
        yield made


@contextmanager
def thief(token: SoftToken) -> Iterator[Any]:
    """Log in to the token as the verifier does."""
    library = pkcs11.lib(str(token.module))
    try:
        yield library.get_token(token_label=NAME).open(rw=True, user_pin=PIN)
    finally:
        library.finalize()


async def a_key(admin: Any, name: str) -> bytes:
    """Make a model key in the token; return its CKA_ID."""
    key = await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=name, store="pkcs11:"))
    return parse_token_uri(key.store).object_id


def test_k10_whoever_has_the_pin_reads_no_private_key(verifier: RunningVerifier, token: SoftToken) -> None:
    async def create() -> None:
        async with verifier.person() as admin:
            await a_key(admin, "llama")

    asyncio.run(create())
    with thief(token) as session:
        (key,) = session.get_objects(SEALED_KEY)
        with pytest.raises(pkcs11.AttributeSensitive):
            assert key[pkcs11.Attribute.VALUE]
        with pytest.raises(pkcs11.KeyUnextractable):
            session.generate_key(pkcs11.KeyType.AES, 256).wrap_key(key)
        with pytest.raises(pkcs11.PKCS11Error):
            key.copy({pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: True})
        with pytest.raises(pkcs11.PKCS11Error):
            key[pkcs11.Attribute.EXTRACTABLE] = True


def test_k10_a_key_put_in_another_s_place_opens_nothing(verifier: RunningVerifier, token: SoftToken) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            node = await trusted_node(verifier)
            object_id = await a_key(admin, "llama")
            model = await a_sealed_model(admin, "llama")
            await grant(admin, node)
            assert node.open(await node.release(model.digest, [model.slot])) == model.data_key
            with thief(token) as session:
                replace_key(session, object_id)
            refusal = await refused(node.release(model.digest, [model.slot]))
            assert refusal.findings == ("release.slot",)
            assert verifier.records()[-1]["action"] == "release.denied"

    asyncio.run(case())


def test_k10_a_verifier_that_is_restarted_again_and_again_does_not_use_up_the_token_s_tries(
    verifier: RunningVerifier, token: SoftToken
) -> None:
    """With a wrong PIN it runs, so that no supervisor starts it anew, and logs in once."""

    async def ask() -> None:
        async with verifier.person() as admin:
            for _ in range(3):
                refusal = await refused(a_key(admin, "llama"))
                assert "refuses the PIN" in refusal.details

    assert verifier.stop() == 0
    token.pin_file("10293847")
    verifier.start()
    asyncio.run(ask())
    assert [line["event"] for line in verifier.log()].count("token refuses the PIN") == 1
    assert "10293847" not in (verifier.folder / "log").read_text()


def replace_key(session: Any, object_id: bytes) -> None:
    """Delete a private key and make another with its CKA_ID."""
    (old,) = session.get_objects({**SEALED_KEY, pkcs11.Attribute.ID: object_id})
    old.destroy()
    curve = {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp384r1")}
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    parameters.generate_keypair(id=object_id, store=True, capabilities=pkcs11.MechanismFlag.DERIVE)
