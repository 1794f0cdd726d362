"""Our MakeCredential against a TPM that is not ours and against tpm2-tools."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_NAME,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMT_SYM_DEF,
    TSS2_Exception,
)
from tpm2_pytss.utils import make_credential as pytss_make_credential

from nodeseal.agent.tpm import templates
from nodeseal.crypto.credential import MadeCredential, make_credential, protect
from nodeseal.tpm.algorithms import HashAlg, ObjectAttributes
from nodeseal.tpm.buffer import Reader
from nodeseal.tpm.ek_template import EkTemplate, template
from nodeseal.tpm.public import RsaPublic, TpmPublic, decode_public, encode_public_2b
from support.bare_tpm import bare_tpm

AK = templates.attestation_key(bytes(64))
SECRETS = [bytes(range(32)), b"short", b""]
TOOL_MAGIC = bytes.fromhex("badcc0de00000001")
"""Header of tpm2-tools' credential files; TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET follow."""


class Keys:
    """An endorsement and an attestation key of a software TPM."""

    def __init__(self, esys: ESAPI, ek: EkTemplate) -> None:
        self.esys = esys
        self.ek_template = ek
        self.ek_handle, self.ek = self._create(ek.public)
        self.ak_handle, self.ak = self._create(AK)

    def _create(self, public: TpmPublic) -> tuple[ESYS_TR, TpmPublic]:
        handle, made, *_ = self.esys.create_primary(
            TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC.unmarshal(encode_public_2b(public))[0], ESYS_TR.ENDORSEMENT
        )
        return handle, decode_public(made.publicArea.marshal())

    def activate(self, made: MadeCredential) -> bytes:
        session = self._session()
        try:
            secret = self.esys.activate_credential(
                self.ak_handle,
                self.ek_handle,
                TPM2B_ID_OBJECT.unmarshal(made.id_object)[0],
                TPM2B_ENCRYPTED_SECRET.unmarshal(made.encrypted_secret)[0],
                session2=session,
            )
        finally:
            if session != ESYS_TR.PASSWORD:
                self.esys.flush_context(session)
        return bytes(secret)

    def _session(self) -> ESYS_TR:
        if self.ek_template.public.attributes & ObjectAttributes.USER_WITH_AUTH:
            return ESYS_TR.PASSWORD
        session = self.esys.start_auth_session(
            ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256
        )
        self.esys.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
        return session


@pytest.fixture(params=["L-1", "L-2", "H-1", "H-2", "H-3"])
def keys(request: pytest.FixtureRequest) -> Iterator[Keys]:
    with bare_tpm() as tcti, ESAPI(tcti) as esys:
        yield Keys(esys, template(request.param))


def test_the_tpm_gives_the_secret_back(keys: Keys) -> None:
    for secret in SECRETS:
        assert keys.activate(make_credential(keys.ek, keys.ak.name(), secret)) == secret


def test_the_tpm_refuses_a_credential_for_another_name(keys: Keys) -> None:
    made = make_credential(keys.ek, keys.ek.name(), SECRETS[0])
    with pytest.raises(TSS2_Exception, match="integrity"):
        keys.activate(made)


def test_another_implementation_makes_credentials_of_the_same_size(keys: Keys) -> None:
    mine = make_credential(keys.ek, keys.ak.name(), SECRETS[0])
    theirs = pytss_make_credential(
        TPM2B_PUBLIC.unmarshal(encode_public_2b(keys.ek))[0], SECRETS[0], TPM2B_NAME(keys.ak.name())
    )
    assert [len(mine.id_object), len(mine.encrypted_secret)] == [len(each.marshal()) for each in theirs]


def test_the_same_seed_gives_what_tpm2_makecredential_makes(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    low = template("L-1").public
    assert isinstance(low, RsaPublic)
    ek = replace(low, modulus=key.public_key().public_numbers().n.to_bytes(256, "big"))
    name, secret = AK.name(), SECRETS[0]
    (tmp_path / "ek").write_bytes(encode_public_2b(ek))
    (tmp_path / "secret").write_bytes(secret)
    subprocess.run(
        ["tpm2_makecredential", "-T", "none", "-u", "ek", "-s", "secret", "-n", name.hex(), "-o", "made"],
        cwd=tmp_path,
        env={**os.environ, "TPM2TOOLS_TCTI": "none"},
        check=True,
        timeout=20,
    )
    reader = Reader((tmp_path / "made").read_bytes(), "credential file")
    assert reader.take(len(TOOL_MAGIC), "header") == TOOL_MAGIC
    id_object, encrypted = reader.sized("id object", 1024), reader.sized("encrypted secret", 1024)
    seed = key.decrypt(encrypted, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0"))
    assert protect(seed, HashAlg.SHA256, 128, name, secret) == id_object


def test_tpm2_activatecredential_opens_ours(tmp_path: Path) -> None:
    with bare_tpm() as tcti:
        environment = {**os.environ, "TPM2TOOLS_TCTI": tcti}

        def tool(*command: str) -> None:
            subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=20, capture_output=True)

        tool("tpm2_createek", "-G", "ecc", "-c", "ek.ctx", "-u", "ek.pub", "-f", "tpmt")
        tool(
            "tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-n", "ak.name", "-G", "ecc", "-g", "sha256", "-s", "ecdsa"
        )
        ek, name = decode_public((tmp_path / "ek.pub").read_bytes()), (tmp_path / "ak.name").read_bytes()
        made = make_credential(ek, name, SECRETS[0])
        (tmp_path / "made").write_bytes(TOOL_MAGIC + made.id_object + made.encrypted_secret)
        tool("tpm2_flushcontext", "-t")
        tool("tpm2_startauthsession", "--policy-session", "-S", "session")
        tool("tpm2_policysecret", "-S", "session", "-c", "e")
        tool(
            *("tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "made", "-o", "opened"),
            *("-P", "session:session"),
        )
    assert (tmp_path / "opened").read_bytes() == SECRETS[0]
