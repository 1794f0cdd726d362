"""Tokens: signed so that others can check them, and true at the moment at which they are made."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from nodeseal.crypto.tls_key import new_tls_key
from nodeseal.errors import MalformedInput, NotFound
from nodeseal.golden.model import Golden
from nodeseal.ids import node_id_of
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.results.ear import PROFILE
from nodeseal.verifier.results.tokens import EarSigner, Tokens
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.nodes import NodeFacts, NodeRecord, NodeStanding

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NODE = node_id_of(b"ek")
KEY = new_tls_key()
RECORD = NodeRecord(
    node_id=NODE,
    ek_name=b"ek",
    ak_name=b"ak",
    ak_public=b"",
    certificate_sha256=bytes(32),
    next_certificate_sha256=None,
    facts=NodeFacts(hostname="h", boot_id="b", tpm_manufacturer="m", tpm_firmware="f"),
    enrolled=NOW,
)
GOLDEN = Golden(name="g", pcrs={HashAlg.SHA256: {4: frozenset({b"v" * 32})}})


class OneNode:
    """A fleet of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.clock = Clock(wall=lambda: NOW, steady=lambda: 1000.0)
        self.settings = SimpleNamespace(interval_seconds=30)

    def get(self, node_id: str) -> Node:
        if node_id != NODE:
            raise NotFound("no such node")
        return self._node


def a_node(state: NodeState = NodeState.TRUSTED) -> Node:
    node = Node(RECORD, NodeStanding(state=state))
    node.goldens, node.trusted_until_steady = (GOLDEN,), 1090.5
    return node


def claims_about(node: Node) -> dict[str, Any]:
    fleet: Any = OneNode(node)
    token = Tokens(fleet, EarSigner(KEY), "example.org").token(NODE, b"")
    return jwt.decode(token, options={"verify_signature": False})


def b64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def der_integer(raw: bytes) -> bytes:
    body = raw.lstrip(b"\0")
    body = b"\0" + body if body[0] & 0x80 else body
    return b"\x02" + bytes([len(body)]) + body


def test_a_token_verifies_with_openssl_under_the_published_key(tmp_path: Path) -> None:
    signer = EarSigner(KEY)
    header, payload, signature = signer.sign({"eat_profile": PROFILE, "iat": 1}).split(".")
    raw, jwk = b64(signature), json.loads(signer.public_jwk)
    der = der_integer(raw[:32]) + der_integer(raw[32:])
    # SubjectPublicKeyInfo of a P-256 key (RFC 5480): a fixed head, then the point
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + b64(jwk["x"]) + b64(jwk["y"])
    (tmp_path / "key").write_bytes(spki)
    (tmp_path / "signature").write_bytes(b"\x30" + bytes([len(der)]) + der)
    check = ["openssl", "dgst", "-sha256", "-verify", str(tmp_path / "key"), "-keyform", "DER", "-signature"]
    for signed, holds in ((f"{header}.{payload}", True), (f"{header}.{payload}x", False)):
        (tmp_path / "signed").write_text(signed)
        done = subprocess.run([*check, tmp_path / "signature", tmp_path / "signed"], capture_output=True, check=False)
        assert (done.returncode == 0) is holds
    assert json.loads(b64(header)) == {"alg": "ES256", "kid": jwk["kid"], "typ": "JWT"}
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("EC", "P-256", "ES256", "sig")


def test_the_key_is_named_by_its_thumbprint() -> None:
    jwk = {"crv": "P-256", "kty": "EC", "x": "", "y": ""}
    published = json.loads(EarSigner(KEY).public_jwk)
    jwk |= {"x": published["x"], "y": published["y"]}
    text = json.dumps(jwk, separators=(",", ":"), sort_keys=True)
    assert b64(published["kid"]) == HashAlg.SHA256.digest(text.encode())


@pytest.mark.parametrize("key", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"{}"])
def test_what_is_no_key_is_refused_and_not_quoted(key: bytes) -> None:
    with pytest.raises(MalformedInput, match="not a P-256 private key in PEM"):
        EarSigner(key)


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for kind in (["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], ["RSA"], ["ED25519"]):
        path = tmp_path / "key"
        subprocess.run(["openssl", "genpkey", "-algorithm", *kind, "-out", path], check=True, capture_output=True)
        with pytest.raises(MalformedInput, match="not a P-256 private key"):
            EarSigner(path.read_bytes())


def test_a_public_key_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    public = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "key", "-pubout"], check=True, capture_output=True
    ).stdout
    with pytest.raises(MalformedInput, match="not a P-256 private key"):
        EarSigner(public)


def test_a_token_ends_when_trust_does() -> None:
    claims = claims_about(a_node())
    assert (claims["iat"], claims["exp"]) == (int(NOW.timestamp()), int(NOW.timestamp()) + 90)
    assert claims["submods"][NODE]["ear.status"] == "affirming"


def test_a_token_about_a_node_whose_time_has_passed_says_so() -> None:
    node = a_node()
    node.trusted_until_steady = 1000.0
    claims = claims_about(node)
    assert claims["submods"][NODE]["ear.status"] == "none"
    assert claims["submods"][NODE]["nodeseal"]["state"] == "stale"
    assert claims["exp"] == claims["iat"] + 30


def test_a_decision_against_a_node_that_is_not_recorded_yet_counts() -> None:
    node = a_node()
    restriction: Any = None
    node.overlay = ((restriction, NodeStanding(state=NodeState.UNTRUSTED)),)
    claims = claims_about(node)
    assert claims["submods"][NODE]["ear.status"] == "contraindicated"
    assert "ear.appraisal-policy-id" not in claims["submods"][NODE]


def test_a_node_that_is_not_enrolled_has_no_token() -> None:
    fleet: Any = OneNode(a_node())
    with pytest.raises(NotFound):
        Tokens(fleet, EarSigner(KEY), "example.org").token(node_id_of(b"another"), b"")


def test_a_certified_maker_is_what_enrolment_recorded() -> None:
    node = a_node()
    node.goldens = (Golden(name="g", pcrs={HashAlg.SHA256: {pcr: frozenset({b"v" * 32}) for pcr in (0, 4)}}),)
    assert claims_about(node)["submods"][NODE]["ear.trustworthiness-vector"]["hardware"] == 0
    node.record = replace(RECORD, tpm=replace(RECORD.tpm, manufacturer="IFX"))
    assert claims_about(node)["submods"][NODE]["ear.trustworthiness-vector"]["hardware"] == 2


def test_claims_of_a_token_keep_to_the_draft() -> None:
    claims = claims_about(a_node())
    claims_ok(claims, now=NOW + timedelta(seconds=1))


def claims_ok(claims: dict[str, Any], now: datetime) -> None:
    """Check what the CDDL of draft-fv-rats-ear-05 §3 and §3.1 says, and no unknown claim beside the private one."""
    assert claims.keys() <= {"eat_profile", "iat", "exp", "ear.verifier-id", "submods", "eat_nonce"}
    assert claims["eat_profile"] == "tag:github.com,2023:veraison/ear"
    assert type(claims["iat"]) is int
    assert type(claims["exp"]) is int
    assert claims["iat"] <= now.timestamp() <= claims["exp"]
    assert {type(value) for value in claims["ear.verifier-id"].values()} == {str}
    assert claims["ear.verifier-id"].keys() == {"developer", "build"}
    tiers = ("none", "affirming", "warning", "contraindicated")
    for appraisal in claims["submods"].values():
        vector = appraisal["ear.trustworthiness-vector"]
        assert all(type(value) is int and -128 <= value <= 127 for value in vector.values())
        worst = max(vector.values())
        least = 0 if worst < 2 else 1 if worst < 32 else 2 if worst < 96 else 3
        assert tiers.index(appraisal["ear.status"]) >= least
        assert isinstance(appraisal.get("ear.appraisal-policy-id", ""), str)
