"""Attacks on quotes, over gRPC against a running verifier: rows q01 to q10.

Each forged round stands between two good ones (:func:`support.attackers.refused_round`): it costs the node its trust,
is recorded with its finding, and neither releases a key nor keeps honest evidence from being believed again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.crypto.x509 import certificate_request, new_tls_key
from nodeseal.evidence import Purpose, qualifying_data
from nodeseal.ids import NodeId, Nonce
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tcg.algorithms import Alg, HashAlg
from nodeseal.tcg.attest import Attest, Certified, Created, Quoted, decode_attest, encode_attest
from nodeseal.tcg.buffer import sized
from nodeseal.tcg.pcr import PcrSelection, pcr_digest
from nodeseal.tcg.signature import EccSignature, RsaSignature, decode_signature, encode_signature
from nodeseal.v1 import admin_pb2, attestation_pb2, attestation_pb2_grpc, key_release_pb2_grpc
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Challenge, Evidence
from nodeseal.v1.key_release_pb2 import Ask, Proof, ReleaseChallenge, ReleaseRequest
from support.attackers import (
    Forge,
    MovableClocks,
    admitted_node,
    altered,
    evidence_claiming,
    in_process,
    proof_with,
    record_contents,
    refused,
    refused_release,
    refused_round,
    resigned,
    seen_by,
)
from support.software_ak import SoftwareAk
from support.verifier import (
    FakeNode,
    RunningVerifier,
    Sealed,
    a_node,
    a_sealed_model,
    a_verifier,
    grant,
    received,
    selection_of,
    trusted_node,
)

SHA256, SHA384 = HashAlg.SHA256, HashAlg.SHA384
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256's base point."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A verifier with a golden that :func:`support.verifier.a_node` matches, and a model."""

    verifier: RunningVerifier
    model: Sealed


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    async def prepare() -> Sealed:
        async with verifier.person() as admin:
            await trusted_node(verifier, admin)
            return await a_sealed_model(admin)

    with a_verifier(tmp_path_factory.mktemp("q"), interval_seconds=0, answer_within_seconds=10) as verifier:
        yield Scene(verifier, asyncio.run(prepare()))


@pytest.fixture
def node(scene: Scene) -> FakeNode:
    return asyncio.run(granted_node(scene))


async def granted_node(scene: Scene, tpm: SyntheticTpm | None = None) -> FakeNode:
    """Return a node that is admitted and may open the model; it is trusted after its first round."""
    node = await admitted_node(scene.verifier, tpm)
    async with scene.verifier.person() as admin:
        await grant(admin, node, max_leases=5)
    return node


def found(scene: Scene, node: FakeNode, forge: Forge) -> list[str]:
    return asyncio.run(refused_round(node, scene.model, forge))


def test_q00_the_good_case_is_trusted_and_opens_the_model(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
            assert node.open(await node.release(scene.model.digest, [scene.model.slot])) == scene.model.data_key
            assert (await stream.round()).state == NODE_STATE_TRUSTED
            evidence = node.evidence(await stream.challenge())
            await stream.send(resigned(node, evidence, evidence.attest))  # the oracle itself changes nothing
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(case())


# q01: what was answered before


def test_q01_a_replay_of_the_last_accepted_round_is_refused(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            accepted = node.evidence(await stream.challenge())
            await stream.send(accepted)
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED
            await stream.challenge()
            await stream.send(accepted)
            verdict = await stream.verdict()
            assert (verdict.state, [each.id for each in verdict.findings]) == (NODE_STATE_UNTRUSTED, ["quote.nonce"])

    asyncio.run(case())


def test_q01_a_replay_of_the_last_accepted_round_on_a_new_connection_is_refused(node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            accepted = node.evidence(await stream.challenge())
            await stream.send(accepted)
            await stream.verdict()
        async with node.attesting() as stream:
            await stream.challenge()
            await stream.send(accepted)
            verdict = await stream.verdict()
            assert (verdict.state, [each.id for each in verdict.findings]) == (NODE_STATE_UNTRUSTED, ["quote.nonce"])

    asyncio.run(case())


def test_q01_a_replay_of_an_older_round_is_refused(scene: Scene, node: FakeNode) -> None:
    kept: list[Evidence] = []

    async def accept() -> None:
        async with node.attesting() as stream:
            kept.append(node.evidence(await stream.challenge()))
            await stream.send(kept[0])
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED
            await stream.round()

    asyncio.run(accept())
    # The verifier remembers one answered challenge; older ones are as foreign to it as any other.
    assert found(scene, node, lambda *_: kept[0]) == ["quote.binding"]


def test_q01_the_accepted_round_of_another_node_is_refused(scene: Scene, node: FakeNode) -> None:
    kept: list[Evidence] = []

    async def accept() -> None:
        other = await granted_node(scene)
        async with other.attesting() as stream:
            kept.append(other.evidence(await stream.challenge()))
            await stream.send(kept[0])
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(accept())
    assert found(scene, node, lambda *_: kept[0]) == ["quote.signature"]  # checked before anything it says


@pytest.mark.parametrize("which", [0, 1], ids=["the same answer twice", "two different answers"])
def test_q01_a_challenge_takes_one_answer(scene: Scene, node: FakeNode, which: int) -> None:
    async def case() -> None:
        async with node.attesting() as stream, scene.verifier.person() as admin:
            challenge = await stream.challenge()
            answers = [node.evidence(challenge), node.evidence(challenge)]
            await stream.send(answers[0])
            await stream.send(answers[which])
            first, second = await stream.verdict(), await stream.verdict()
            assert first.state == NODE_STATE_TRUSTED
            assert (second.state, [each.id for each in second.findings]) == (NODE_STATE_UNTRUSTED, ["quote.nonce"])
            assert (await seen_by(admin, node)).state == NODE_STATE_UNTRUSTED

    asyncio.run(case())


def test_q01_an_answer_while_no_challenge_is_open_ends_the_stream(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with verifier.person() as admin:
            node = await trusted_node(verifier, admin)
            async with node.attesting() as stream:
                evidence = node.evidence(await stream.challenge())
                await stream.send(evidence)
                assert (await stream.verdict()).state == NODE_STATE_TRUSTED
                await stream.send(evidence)
                refusal = await stream.end()
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))

    with a_verifier(tmp_path, interval_seconds=1) as verifier:
        asyncio.run(case(verifier))


def test_q01_an_answer_past_the_deadline_is_refused_for_rounds_and_releases(tmp_path: Path) -> None:
    clocks = MovableClocks()

    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier, clocks), verifier.person() as admin:
            node = await trusted_node(verifier, admin)
            model = await a_sealed_model(admin)
            await grant(admin, node)
            before = await record_contents(admin)
            async with node.attesting() as stream:
                in_time = node.evidence(await stream.challenge())
                clocks.steady_ahead += 10.5
                await stream.send(in_time)
                refusal = await stream.end()
                assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
            assert await record_contents(admin) == before  # a late answer speaks neither for nor against a node

            def late(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                clocks.steady_ahead += 10.5
                return node.proof(challenge)

            assert (await refused_release(node, model, late)).findings == ("quote.nonce",)
            assert node.open(await node.release(model.digest, [model.slot])) == model.data_key

    with a_verifier(tmp_path, start=False, interval_seconds=0, answer_within_seconds=10, trust_seconds=300) as verifier:
        asyncio.run(case(verifier))


def test_q01_a_proof_that_released_a_key_releases_no_second_one(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        kept: list[Proof] = []
        async with node.attesting() as stream:
            await stream.round()
        async with node.channel() as channel, scene.verifier.person() as admin:
            stub = key_release_pb2_grpc.KeyReleaseStub(channel)
            for _ in range(2):
                call = stub.Release(timeout=20)
                ask = Ask(model_digest=scene.model.digest, slots=[scene.model.slot])
                await call.write(ReleaseRequest(ask=ask))
                kept.append(node.proof((await received(call)).challenge))
                await call.write(ReleaseRequest(proof=kept[0]))
                if len(kept) == 1:
                    assert (await received(call)).released.lease_id
                else:
                    refusal = await refused(received(call))
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
            known = await seen_by(admin, node)
            assert (known.state, list(known.leases)) == (NODE_STATE_UNTRUSTED, [])

    asyncio.run(case())


# q02: what is no quote


def body(attest: bytes) -> int:
    """Return where TPMS_QUOTE_INFO starts."""
    decoded = decode_attest(attest)
    return len(attest) - len(tail_of(decoded))


def tail_of(decoded: Attest) -> bytes:
    assert decoded.quoted.selection is not None
    return decoded.quoted.selection.encode() + sized(decoded.quoted.pcr_digest)


def typed(kind: int) -> Callable[[bytes], bytes]:
    return lambda attest: attest[:4] + kind.to_bytes(2, "big") + attest[6:]


def attesting(attested: Certified | Created) -> Callable[[bytes], bytes]:
    return lambda attest: encode_attest(replace(decode_attest(attest), attested=attested))


NO_QUOTES: Mapping[str, Callable[[bytes], bytes]] = {
    "another magic": lambda attest: b"\xff\x54\x43\x48" + attest[4:],
    "the magic backwards": lambda attest: attest[:4][::-1] + attest[4:],
    "no magic": lambda attest: attest[4:],
    "a certification": attesting(Certified(b"\0\x0b" + bytes(32), b"\0\x0b" + bytes(32))),
    "a creation": attesting(Created(b"\0\x0b" + bytes(32), bytes(32))),
    "an NV certification": typed(0x8014),
    "a session audit": typed(0x8016),
    "a quote called a certification": typed(0x8017),
    "a time": typed(0x8019),
    "an unknown type": typed(0xFFFF),
    "nothing": lambda attest: attest[:0],
    "a byte too few": lambda attest: attest[:-1],
    "a byte too many": lambda attest: attest + b"\0",
    "two quotes": lambda attest: attest + attest,
    "a safe flag of 2": lambda attest: attest[: body(attest) - 9] + b"\2" + attest[body(attest) - 8 :],
}


@pytest.mark.parametrize("why", NO_QUOTES)
def test_q02_what_is_signed_and_no_quote_is_refused(scene: Scene, node: FakeNode, why: str) -> None:
    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        return resigned(node, evidence, NO_QUOTES[why](evidence.attest))

    assert found(scene, node, forge) == ["quote.malformed"]


def test_q02_nothing_is_parsed_before_the_signature_holds(scene: Scene, node: FakeNode) -> None:
    """What is wrong with an unsigned attest, selection and claims is not even looked at."""

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        return altered(node.evidence(challenge), attest=b"\xff" * 4096, claims=b"{", pcr_values=[b"x"] * 100)

    assert found(scene, node, forge) == ["quote.signature"]


# q03, q04: what was quoted


def quoting(selection: PcrSelection) -> Forge:
    """Quote other PCRs than were asked for, and present values as if they had been."""

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        quote = node.tpm.quote(node.qualifying(challenge, Purpose.ATTEST), selection)
        return altered(node.evidence(challenge), attest=quote.attest, signature=quote.signature)

    return forge


ASKED = (*range(10), *range(11, 16))
"""What the verifier's configuration selects, in SHA-256."""
OTHER_SELECTIONS = {
    "PCR 16 in the place of PCR 15": [*ASKED[:-1], 16],
    "PCR 10 in the place of PCR 11": [*ASKED[:10], 10, *ASKED[11:]],
    "PCR 16 alone": [16],
    "the debug PCRs alone": [16, 23],
    "PCR 10 besides": [*range(16)],
    "PCR 23 besides": [*ASKED, 23],
    "no PCR 0": ASKED[1:],
    "no PCR 15": ASKED[:-1],
}


@pytest.mark.parametrize("why", OTHER_SELECTIONS)
def test_q03_and_q04_a_quote_of_other_pcrs_is_refused(scene: Scene, node: FakeNode, why: str) -> None:
    assert found(scene, node, quoting(PcrSelection.of({SHA256: OTHER_SELECTIONS[why]}))) == ["quote.selection"]


def test_q03_a_quote_over_pcr_16_is_refused_with_values_of_others(scene: Scene, node: FakeNode) -> None:
    """PCR 16 can be reset and extended to anything by anybody."""
    assert found(scene, node, quoting(PcrSelection.of({SHA256: [16]}))) == ["quote.selection"]


@pytest.mark.parametrize(
    "banks",
    [{SHA384: ASKED}, {SHA256: ASKED, SHA384: ASKED}, {SHA384: ASKED, SHA256: ASKED}, {HashAlg.SHA1: ASKED}],
    ids=["SHA-384", "SHA-256 and SHA-384", "SHA-384 and SHA-256", "SHA-1"],
)
def test_q03_a_quote_of_another_bank_is_refused(scene: Scene, banks: Mapping[HashAlg, list[int]]) -> None:
    tpm = SyntheticTpm(scene.verifier.vendor, (SHA256, SHA384, HashAlg.SHA1))
    for pcr, value in enumerate(a_node(scene.verifier).tpm._pcrs[SHA256]):
        for bank in tpm._pcrs:
            tpm._pcrs[bank][pcr] = (value + value)[: bank.digest_size]

    async def case() -> list[str]:
        node = await granted_node(scene, tpm)
        return await refused_round(node, scene.model, quoting(PcrSelection.of(banks)))

    assert asyncio.run(case()) == ["quote.selection"]


def raw_selection(*banks: tuple[int, bytes], count: int | None = None) -> bytes:
    """Encode TPML_PCR_SELECTION, possible or not."""
    entries = (bank.to_bytes(2, "big") + bytes([len(bits)]) + bits for bank, bits in banks)
    return (len(banks) if count is None else count).to_bytes(4, "big") + b"".join(entries)


BITS = sum(1 << index for index in ASKED).to_bytes(3, "little")
RAW_SELECTIONS = {
    "nothing at all": (raw_selection(), "quote.selection"),
    "a bank without PCRs": (raw_selection((SHA256, bytes(3))), "quote.selection"),
    "one bank twice": (raw_selection((SHA256, BITS), (SHA256, BITS)), "quote.malformed"),
    "one bank in two parts": (
        raw_selection((SHA256, BITS[:1] + bytes(2)), (SHA256, b"\0" + BITS[1:])),
        "quote.malformed",
    ),
    "one bank twice, once without PCRs": (raw_selection((SHA256, BITS), (SHA256, bytes(3))), "quote.malformed"),
    "a PCR above 23": (raw_selection((SHA256, BITS + b"\1")), "quote.malformed"),
    "a bitmap of two bytes": (raw_selection((SHA256, BITS[:2])), "quote.malformed"),
    "a bitmap of five bytes": (raw_selection((SHA256, BITS + bytes(2))), "quote.malformed"),
    "a bitmap of 255 bytes": (raw_selection((SHA256, BITS + bytes(252))), "quote.malformed"),
    "no bitmap": (raw_selection((SHA256, b"")), "quote.malformed"),
    "an unknown bank": (raw_selection((0x7FFF, BITS)), "quote.malformed"),
    "17 banks": (raw_selection(*((SHA256, BITS) for _ in range(17))), "quote.malformed"),
    "four billion banks": (raw_selection((SHA256, BITS), count=0xFFFFFFFF), "quote.malformed"),
    "fewer banks than follow": (raw_selection((SHA256, BITS), (SHA384, BITS), count=1), "quote.malformed"),
}


@pytest.mark.parametrize("why", RAW_SELECTIONS)
@pytest.mark.parametrize("digested", ["the PCRs", "nothing"])
def test_q04_an_odd_selection_is_refused(scene: Scene, node: FakeNode, why: str, digested: str) -> None:
    raw, expected = RAW_SELECTIONS[why]

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        digest = (
            hashlib.sha256().digest() if digested == "nothing" else decode_attest(evidence.attest).quoted.pcr_digest
        )
        forged = resigned(node, evidence, evidence.attest[: body(evidence.attest)] + raw + sized(digest))
        return altered(forged, pcr_values=[]) if digested == "nothing" else forged

    assert found(scene, node, forge) == [expected]


def test_q04_the_same_selection_in_four_bytes_is_the_same(node: FakeNode) -> None:
    """Some TPMs write bitmaps of four bytes; this is what keeps the rows above from passing for the wrong reason."""

    async def case() -> None:
        async with node.attesting() as stream:
            evidence = node.evidence(await stream.challenge())
            digest = decode_attest(evidence.attest).quoted.pcr_digest
            raw = raw_selection((SHA256, BITS + b"\0"))
            await stream.send(resigned(node, evidence, evidence.attest[: body(evidence.attest)] + raw + sized(digest)))
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(case())


# q05: values that were not quoted there


def swapped(values: list[bytes]) -> list[bytes]:
    return [values[1], values[0], *values[2:]]


VALUES: Mapping[str, Callable[[list[bytes]], list[bytes]]] = {
    "two swapped": swapped,
    "all rotated": lambda values: values[1:] + values[:1],
    "backwards": lambda values: values[::-1],
    "a boundary moved by one byte": lambda values: [values[0] + values[1][:1], values[1][1:], *values[2:]],
    "all in the first": lambda values: [b"".join(values), *[b""] * (len(values) - 1)],
    "all in one": lambda values: [b"".join(values)],
    "one more": lambda values: [*values, b""],
    "one changed": lambda values: [bytes(32), *values[1:]],
    "one missing": lambda values: values[:-1],
}


@pytest.mark.parametrize("why", VALUES)
def test_q05_values_other_than_those_quoted_are_refused(scene: Scene, node: FakeNode, why: str) -> None:
    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        return altered(evidence, pcr_values=VALUES[why](list(evidence.pcr_values)))

    assert found(scene, node, forge) == ["pcr.digest"]


def test_q05_values_swapped_in_the_quote_itself_match_no_golden(scene: Scene, node: FakeNode) -> None:
    """The digest is right for the values sent; they stand at PCRs that they do not belong to."""

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        values = swapped(list(evidence.pcr_values))
        quoted = Quoted(selection_of(challenge.pcr_selection), pcr_digest(SHA256, values))
        attest = encode_attest(replace(decode_attest(evidence.attest), attested=quoted))
        return altered(resigned(node, evidence, attest), pcr_values=values)

    assert found(scene, node, forge) == ["pcr.mismatch", "pcr.mismatch"]


def test_q05_a_machine_that_measured_in_another_order_matches_no_golden(scene: Scene) -> None:
    tpm = SyntheticTpm(scene.verifier.vendor)
    for pcr in range(10):
        measured = {2: 3, 3: 2}.get(pcr, pcr)
        tpm.extend(pcr, {SHA256: hashlib.sha256(f"boot {measured}".encode()).digest()})

    async def case() -> list[str]:
        node = await admitted_node(scene.verifier, tpm)
        async with node.attesting() as stream:
            verdict = await stream.round()
        assert verdict.state == NODE_STATE_UNTRUSTED
        return [f"{finding.id} {finding.where}" for finding in verdict.findings]

    assert asyncio.run(case()) == [
        "pcr.mismatch sha256 PCR 2, golden rack-a",
        "pcr.mismatch sha256 PCR 3, golden rack-a",
    ]


def test_q05_a_digest_that_was_not_proved_before_needs_its_values(scene: Scene, node: FakeNode) -> None:
    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        evidence = node.evidence(challenge)
        quoted = Quoted(selection_of(challenge.pcr_selection), bytes(32))
        forged = resigned(node, evidence, encode_attest(replace(decode_attest(evidence.attest), attested=quoted)))
        return altered(forged, pcr_values=[])

    assert found(scene, node, forge) == ["pcr.digest"]


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
    "a flipped bit": (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "quote.signature"),
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


# q07, q08, q09: what the quote is bound to


def bound_to(**changes: object) -> Forge:
    """Quote for another channel than the evidence travels on."""

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        channel = replace(node.binding, **changes)  # type: ignore[arg-type]  # the fields of the dataclass
        extra_data = qualifying_data(Purpose.ATTEST, Nonce(challenge.nonce), channel, node.claims())
        quote = node.tpm.quote(extra_data, selection_of(challenge.pcr_selection))
        return altered(node.evidence(challenge), attest=quote.attest, signature=quote.signature)

    return forge


BINDINGS: Mapping[str, Forge] = {
    "q07 for a release": lambda node, challenge: node.evidence(challenge, Purpose.RELEASE),
    "q07 for another trust domain": bound_to(trust_domain="other.example"),
    "q07 for another node": bound_to(node_id=NodeId("n-" + "a" * 26)),
    "q08 for another certificate": bound_to(certificate_sha256=bytes(32)),
    "another nonce": lambda node, challenge: node.evidence(altered(challenge, nonce=bytes(32))),
    "q09 a lease is added": lambda node, challenge: altered(
        node.evidence(challenge), claims=node.claims().replace(b"[]", b'["l-' + b"a" * 26 + b'"]')
    ),
    "q09 the boot id is changed": lambda node, challenge: altered(
        node.evidence(challenge), claims=node.claims().replace(b"000000000001", b"000000000002")
    ),
    "q09 the claims are cut": lambda node, challenge: altered(node.evidence(challenge), claims=node.claims()[:-1]),
    "q09 a space is added": lambda node, challenge: altered(node.evidence(challenge), claims=node.claims() + b" "),
    "q09 the claims are gone": lambda node, challenge: altered(node.evidence(challenge), claims=b""),
}


@pytest.mark.parametrize("why", BINDINGS)
def test_q07_and_q09_a_quote_for_something_else_is_refused(scene: Scene, node: FakeNode, why: str) -> None:
    assert found(scene, node, BINDINGS[why]) == ["quote.binding"]


def test_q07_a_quote_for_attestation_releases_nothing(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
        refusal = await refused_release(
            node, scene.model, lambda node, challenge: proof_with(node, challenge, Purpose.ATTEST)
        )
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.binding",))

    asyncio.run(case())


def test_q07_a_round_answered_for_attestation_releases_nothing_either(scene: Scene, node: FakeNode) -> None:
    """The nonce of a release, answered on the attestation stream, and the other way round."""

    async def case() -> None:
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
            open_challenge = await stream.challenge()

            def forge(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                return node.proof(challenge, evidence=node.evidence(open_challenge))

            assert (await refused_release(node, scene.model, forge)).findings == ("quote.binding",)

    asyncio.run(case())


def test_q07_a_certification_for_another_purpose_releases_nothing(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()

        def forge(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
            proof = node.proof(challenge)
            public, _ = node.release_key
            certify = node.tpm.certify(public, node.qualifying(challenge.challenge, Purpose.ATTEST))
            return altered(proof, certify_attest=certify.attest, certify_signature=certify.signature)

        refusal = await refused_release(node, scene.model, forge)
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("release.certify",))

    asyncio.run(case())


def test_q08_a_challenge_relayed_to_another_node_is_answered_for_nobody(scene: Scene) -> None:
    """B hands its challenge to A's agent: the answer counts neither on B's channel nor on A's."""

    async def case() -> None:
        a, b = await granted_node(scene), await granted_node(scene)
        async with a.attesting() as on_a, b.attesting() as on_b, scene.verifier.person() as admin:
            assert (await on_a.round()).state == NODE_STATE_TRUSTED
            relayed = a.evidence(await on_b.challenge())
            await on_b.send(relayed)
            assert [finding.id for finding in (await on_b.verdict()).findings] == ["quote.signature"]
            await on_a.challenge()
            await on_a.send(relayed)
            assert [finding.id for finding in (await on_a.verdict()).findings] == ["quote.binding"]
            assert [(await seen_by(admin, node)).state for node in (a, b)] == [NODE_STATE_UNTRUSTED] * 2

    asyncio.run(case())


def test_q08_a_stolen_certificate_does_not_carry_the_nodes_own_answers(scene: Scene, node: FakeNode) -> None:
    """A thief of one certificate relays its challenges to the node's agent, which answers for the channel it has."""

    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
        stolen, key = FakeNode(scene.verifier, node.tpm), new_tls_key()
        stolen.key, stolen.chain, stolen.node_id = node.key, node.chain, node.node_id
        async with node.channel() as channel:
            request = attestation_pb2.RenewRequest(certificate_request=certificate_request(key, "node"))
            renewed = await attestation_pb2_grpc.AttestationStub(channel).Renew(request)
        node.key, node.chain = key, tuple(renewed.certificate_chain)
        async with stolen.attesting() as thief:  # both certificates count until the new one is used
            await thief.send(node.evidence(await thief.challenge()))
            verdict = await thief.verdict()
            assert (verdict.state, [each.id for each in verdict.findings]) == (NODE_STATE_UNTRUSTED, ["quote.binding"])
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
        async with stolen.attesting() as thief:
            assert (await thief.end()).findings == ("node.unknown",)

    asyncio.run(case())


def test_q09_claims_count_only_if_the_quote_covers_them(node: FakeNode) -> None:
    """Other claims under a quote that covers them are the node's own word: this is what the rows above change."""

    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
            claims = node.claims().replace(b"6.1.0", b"6.1.1")
            await stream.send(evidence_claiming(node, await stream.challenge(), claims))
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(case())


# q10: PCRs that firmware never extended


def with_pcrs(verifier: RunningVerifier, values: Mapping[int, bytes]) -> SyntheticTpm:
    tpm = a_node(verifier).tpm
    for pcr, value in values.items():
        tpm._pcrs[SHA256][pcr] = value
    return tpm


UNEXTENDED = {
    "all zero": (dict.fromkeys(range(8), bytes(32)), range(8)),
    "all ones": (dict.fromkeys(range(8), b"\xff" * 32), range(8)),
    "started at locality 3": ({pcr: bytes(31) + b"\3" * (pcr == 0) + b"\0" * (pcr != 0) for pcr in range(8)}, range(8)),
    "PCR 0 alone": ({0: bytes(32)}, [0]),
    "PCR 7 alone": ({7: b"\xff" * 32}, [7]),
    "with an H-CRTM mark": ({0: bytes(31) + b"\4"}, [0]),
}


@pytest.mark.parametrize("why", UNEXTENDED)
def test_q10_boot_pcrs_that_nobody_extended_are_refused_even_if_a_golden_has_them(scene: Scene, why: str) -> None:
    values, places = UNEXTENDED[why]

    async def case() -> None:
        node = await admitted_node(scene.verifier, with_pcrs(scene.verifier, values))
        async with node.attesting() as stream, scene.verifier.person() as admin:
            await stream.round()
            captured = await admin.goldens.CaptureGolden(
                admin_pb2.CaptureGoldenRequest(name="empty", node_ids=[node.node_id], pcrs=range(8))
            )
            golden = await admin.goldens.ActivateGolden(admin_pb2.ActivateGoldenRequest(document=captured.document))
            verdict = await stream.round()
            found = [(finding.id, finding.where) for finding in verdict.findings]
            assert found == [("pcr.unextended-bank", f"sha256 PCR {pcr}") for pcr in places]
            assert verdict.state == NODE_STATE_UNTRUSTED
            assert (await seen_by(admin, node)).state == NODE_STATE_UNTRUSTED
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))

    asyncio.run(case())


def test_q10_a_bank_that_firmware_never_extended_is_refused(tmp_path: Path) -> None:
    """Firmware measured into SHA-256 only, and the attacker extends SHA-384, or nobody does."""

    async def case(verifier: RunningVerifier) -> None:
        tpm = SyntheticTpm(verifier.vendor, (SHA256, SHA384))
        node = FakeNode(verifier, tpm)
        for pcr in range(10):
            tpm.extend(pcr, {bank: bank.digest(f"boot {pcr}".encode()) for bank in (SHA256, SHA384)})
        await node.enrol()
        async with verifier.person() as admin, node.attesting() as stream:
            await stream.round()
            captured = await admin.goldens.CaptureGolden(
                admin_pb2.CaptureGoldenRequest(name="rack-a", node_ids=[node.node_id], pcrs=range(8))
            )
            await admin.goldens.ActivateGolden(admin_pb2.ActivateGoldenRequest(document=captured.document))
            await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
            assert (await stream.round_until(NODE_STATE_TRUSTED)).findings == []
            tpm._pcrs[SHA384] = [bytes(48)] * 24
            verdict = await stream.round()
        assert verdict.state == NODE_STATE_UNTRUSTED
        places = [finding.where for finding in verdict.findings if finding.id == "pcr.unextended-bank"]
        assert places == [f"sha384 PCR {pcr}" for pcr in range(8)]

    with a_verifier(tmp_path, start=False, interval_seconds=0) as verifier:
        path = verifier.folder / "verifier.yaml"
        text = path.read_text()
        line = next(line for line in text.splitlines() if line.strip().startswith("sha256: ["))
        path.write_text(text.replace(line, line + "\n" + line.replace("sha256", "sha384")))
        verifier.start()
        asyncio.run(case(verifier))
