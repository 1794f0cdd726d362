"""Attacks on the signatures of quotes, over gRPC against a running verifier: row q06."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.evidence.binding import Purpose
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import Alg, HashAlg
from nodeseal.tpm.buffer import sized
from nodeseal.tpm.signature import EccSignature, RsaSignature, decode_signature, encode_signature
from nodeseal.v1.attestation_pb2 import Challenge, Evidence
from support.attackers import altered, refused_round
from support.damage import flipped
from support.fake_node import FakeNode, a_node
from support.forged_rounds import Scene, found, granted_node
from support.software_ak import SoftwareAk

SHA256 = HashAlg.SHA256
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256's base point."""


# q06: signatures that do not count


def ecdsa(change: Callable[[int, int], tuple[int, int]], hash_alg: HashAlg = SHA256) -> Callable[[bytes], bytes]:
    def forge(raw: bytes) -> bytes:
        signature = decode_signature(raw)
        assert isinstance(signature, EccSignature)
        r, s = change(signature.r, signature.s)
        return encode_signature(EccSignature(hash_alg, r, s), 33)

    return forge


def headed(alg: int, hash_alg: int) -> Callable[[bytes], bytes]:
    return lambda raw: alg.to_bytes(2, "big") + hash_alg.to_bytes(2, "big") + raw[4:]


SIGNATURES: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "r is zero": (ecdsa(lambda r, s: (r * 0, s)), "quote.signature"),
    "s is zero": (ecdsa(lambda r, s: (r, s * 0)), "quote.signature"),
    "r and s are zero": (ecdsa(lambda r, s: (r * 0, s * 0)), "quote.signature"),
    "r is the order": (ecdsa(lambda r, s: (r * 0 + N, s)), "quote.signature"),
    "s is the order": (ecdsa(lambda r, s: (r, s * 0 + N)), "quote.signature"),
    "r is out of range by the order": (ecdsa(lambda r, s: (r + N, s)), "quote.signature"),
    "s is out of range by the order": (ecdsa(lambda r, s: (r, s + N)), "quote.signature"),
    "r and s are swapped": (ecdsa(lambda r, s: (s, r)), "quote.signature"),
    "r and s are one": (ecdsa(lambda r, s: (r * 0 + 1, s * 0 + 1)), "quote.signature"),
    "a flipped bit": (flipped, "quote.signature"),
    "SHA-1": (headed(Alg.ECDSA, HashAlg.SHA1), "quote.algorithm"),
    "SHA-384": (headed(Alg.ECDSA, HashAlg.SHA384), "quote.algorithm"),
    "RSASSA": (
        lambda raw: encode_signature(RsaSignature(Alg.RSASSA, SHA256, raw[6:38] * 8)),
        "quote.algorithm",
    ),
    "RSAPSS": (
        lambda raw: encode_signature(RsaSignature(Alg.RSAPSS, SHA256, raw[6:38] * 8)),
        "quote.algorithm",
    ),
    "ECDAA": (headed(0x001A, SHA256), "quote.malformed"),
    "HMAC": (headed(0x0005, SHA256), "quote.malformed"),
    "no scheme": (lambda raw: b"\0\x10" + raw[:0], "quote.malformed"),
    "an unknown hash": (headed(Alg.ECDSA, 0x7FFF), "quote.malformed"),
    "a byte too many": (lambda raw: raw + b"\0", "quote.malformed"),
    "a byte too few": (lambda raw: raw[:-1], "quote.malformed"),
    "two signatures": (lambda raw: raw + raw, "quote.malformed"),
    "nothing": (lambda raw: raw[:0], "quote.malformed"),
    "r of a kilobyte": (lambda raw: raw[:4] + sized(bytes(1024)) + raw[38:], "quote.malformed"),
}


@pytest.mark.parametrize("why", SIGNATURES)
def test_q06_a_signature_that_is_not_the_keys_own_is_refused(scene: Scene, node: FakeNode, why: str) -> None:
    change, expected = SIGNATURES[why]

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        return altered(evidence, signature=change(evidence.signature))

    assert found(scene, node, forge) == [expected]


def test_q06_a_signature_by_another_key_is_refused(scene: Scene, node: FakeNode) -> None:
    other = SyntheticTpm(scene.verifier.vendor)

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        return altered(evidence, signature=other._ak.sign(evidence.attest))

    assert found(scene, node, forge) == ["quote.signature"]


def test_q06_a_signature_of_another_round_is_refused(scene: Scene, node: FakeNode) -> None:
    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        return altered(node.evidence(challenge), signature=node.evidence(challenge, Purpose.RELEASE).signature)

    assert found(scene, node, forge) == ["quote.signature"]


RSA_SIGNATURES: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "SHA-1": (headed(Alg.RSASSA, HashAlg.SHA1), "quote.algorithm"),
    "the other padding": (headed(Alg.RSAPSS, SHA256), "quote.algorithm"),
    "ECDSA": (lambda raw: encode_signature(EccSignature(SHA256, *raw[6:8])), "quote.algorithm"),
    "zero": (lambda raw: raw[:6] + bytes(256), "quote.signature"),
    "one": (lambda raw: raw[:6] + bytes(255) + b"\1", "quote.signature"),
    "out of range": (lambda raw: raw[:6] + b"\xff" * 256, "quote.signature"),
    "cut": (lambda raw: raw[:4] + sized(raw[6:-1]), "quote.signature"),
    "with a zero before": (lambda raw: raw[:4] + sized(b"\0" + raw[6:]), "quote.signature"),
    "a byte too many": (lambda raw: raw + b"\0", "quote.malformed"),
}


class RsaOracle(SyntheticKey):
    """Signs with an RSA key in the place of a P-256 key."""

    def __init__(self, key: SoftwareAk) -> None:
        self.sign = key.sign_raw  # type: ignore[method-assign]  # all that is asked of it


@pytest.mark.parametrize("why", RSA_SIGNATURES)
def test_q06_an_rsa_signature_that_is_not_the_keys_own_is_refused(scene: Scene, why: str) -> None:
    change, expected = RSA_SIGNATURES[why]
    tpm = a_node(scene.verifier).tpm
    software = SoftwareAk.of("2048", "rsassa-sha256")
    tpm._ak = RsaOracle(software)
    tpm.ak = replace(software.public, attributes=tpm.ak.attributes)  # type: ignore[assignment]  # RSA

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        return altered(evidence, signature=change(evidence.signature))

    async def case() -> list[str]:
        return await refused_round(await granted_node(scene, tpm), scene.model, forge)

    assert asyncio.run(case()) == [expected]
