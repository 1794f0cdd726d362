"""Attacks on what a quote says, over gRPC against a running verifier: rows q02 to q05."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping

import pytest

from nodeseal.evidence.binding import Purpose
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest, Certified, Created, Quoted, decode_attest, encode_attest
from nodeseal.tpm.buffer import sized
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Challenge, Evidence
from support.attackers import Forge, admitted_node, altered, refused_round, resigned
from support.fake_node import FakeNode, a_node, selection_of
from support.forged_rounds import Scene, found, granted_node

SHA256, SHA384 = HashAlg.SHA256, HashAlg.SHA384


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
    return lambda attest: encode_attest(decode_attest(attest)._replace(attested=attested))


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


ASKED = (*range(16), 23)
"""What the verifier's configuration selects, in SHA-256, and the lease epoch."""
OTHER_SELECTIONS = {
    "PCR 16 in the place of PCR 15": [*range(15), 16, 23],
    "PCR 10 left out": [*range(10), *range(11, 16), 23],
    "PCR 16 alone": [16],
    "the PCRs alone that software can reset": [16, 23],
    "PCR 16 besides": [*range(16), 16, 23],
    "PCR 22 besides": [*range(16), 22, 23],
    "no PCR 0": ASKED[1:],
    "no PCR 15": [*range(15), 23],
    "no lease epoch": ASKED[:-1],
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
        attest = encode_attest(decode_attest(evidence.attest)._replace(attested=quoted))
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
        forged = resigned(node, evidence, encode_attest(decode_attest(evidence.attest)._replace(attested=quoted)))
        return altered(forged, pcr_values=[])

    assert found(scene, node, forge) == ["pcr.digest"]
