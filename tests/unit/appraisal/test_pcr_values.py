"""PCR values: what is wrong with them whatever goldens say, and how they compare with pinned values (q10)."""

from __future__ import annotations

import pytest

from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from support.facts import found, held, judged_values, proved, proved_values
from support.rounds import ALL, GOLDEN, PCRS, SHA256, golden_of

OTHER = b"n" * 32


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(2, f"{'01' * 32} or {'02' * 32}", id="a few values are all shown"),
        pytest.param(5, f"{'01' * 32} or {'02' * 32} or {'03' * 32} or 2 more", id="of many values three are shown"),
    ],
)
def test_allowed_values_are_shown(count: int, expected: str) -> None:
    allowed = frozenset(bytes([n]) * 32 for n in range(1, count + 1))
    judgement = judged_values({**PCRS, 4: OTHER}, Golden(name="rack-a", pcrs={SHA256: {4: allowed}}))
    assert judgement.findings[0].expected == expected


@pytest.mark.parametrize("value", [b"\x01" * 32, b"\x02" * 32])
def test_any_allowed_value_of_a_pcr_will_do(value: bytes) -> None:
    either = Golden(name="rack-a", pcrs={SHA256: {4: frozenset({b"\x01" * 32, b"\x02" * 32})}})
    assert judged_values({**PCRS, 4: value}, either).goldens == (either,)


def test_a_pcr_that_a_golden_pins_but_the_quote_does_not_cover_does_not_match() -> None:
    judgement = judged_values(PCRS, Golden(name="rack-a", pcrs={SHA256: {17: frozenset({PCRS[4]})}}))
    assert found(judgement) == [(FindingId.PCR_MISMATCH, "sha256 PCR 17, golden rack-a")]
    assert judgement.findings[0].seen == "not quoted"


def test_a_golden_of_a_bank_that_the_quote_does_not_cover_does_not_match_and_is_not_the_nearest() -> None:
    other = Golden(name="a-bank", pcrs={HashAlg.SHA384: {4: frozenset({bytes(48)})}})
    judgement = judged_values(PCRS, other)
    assert found(judgement) == [(FindingId.PCR_BANK, "golden a-bank")]
    assert (judgement.findings[0].expected, judgement.findings[0].seen) == ("a quote of sha384", "one of sha256")
    nearer = Golden(name="rack-a", pcrs={SHA256: {4: frozenset({OTHER}), 5: frozenset({OTHER})}})
    assert {each for each, _ in found(judged_values(PCRS, other, nearer))} == {FindingId.PCR_MISMATCH}


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(bytes(32), id="all zeros"),
        pytest.param(b"\xff" * 32, id="all ones"),
        pytest.param(bytes(31) + b"\x03", id="a startup locality and nothing else"),
        pytest.param(bytes(31) + b"\x04", id="an H-CRTM mark and nothing else"),
    ],
)
def test_q10_a_boot_pcr_that_firmware_never_extended_is_found_even_if_a_golden_allows_it(
    index: int, value: bytes
) -> None:
    pcrs = {**PCRS, index: value}
    judgement = judged_values(pcrs, golden_of(pcrs))
    assert found(judgement) == [(FindingId.PCR_UNEXTENDED, f"sha256 PCR {index}")]
    assert judgement.findings[0].seen == value.hex()


def test_q10_a_bank_that_firmware_never_extended_is_found_beside_a_good_one() -> None:
    selection = PcrSelection.of({SHA256: range(8), HashAlg.SHA512: range(8)})
    values = [PCRS[index] if bank is SHA256 else bytes(64) for bank, index in selection.indices()]
    judgement = held(proved_values(selection, values), GOLDEN)
    assert found(judgement) == [(FindingId.PCR_UNEXTENDED, f"sha512 PCR {index}") for index in range(8)]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\0\xff" * 16, id="a value that starts with a zero"),
        pytest.param(b"\xff\0" * 16, id="a value that starts with ones"),
        pytest.param(bytes(30) + b"\x01\x03", id="zeros but for more than the last byte"),
        pytest.param(b"\x01" + bytes(31), id="zeros but for the first byte"),
    ],
)
def test_a_boot_pcr_that_firmware_extended_may_have_any_other_value(value: bytes) -> None:
    pcrs = {**PCRS, 0: value}
    assert judged_values(pcrs, golden_of(pcrs)).findings == ()


def test_a_pcr_of_the_operating_system_may_still_be_zero() -> None:
    assert judged_values({**PCRS, 8: bytes(32), 9: bytes(32), 14: bytes(32)}, GOLDEN).findings == ()


@pytest.mark.parametrize("index", [15, 23])
@pytest.mark.parametrize("value", [bytes(32), OTHER, b"\xff" * 32])
def test_neither_the_system_identity_nor_the_lease_epoch_is_judged_unless_a_golden_pins_it(
    index: int, value: bytes
) -> None:
    judgement = held(proved({**PCRS, index: value}, ALL), GOLDEN)
    assert (judgement.findings, judgement.goldens) == ((), (GOLDEN,))


def test_a_golden_may_pin_the_system_identity() -> None:
    golden = Golden(name="one-machine", pcrs={SHA256: {4: frozenset({PCRS[4]}), 15: frozenset({OTHER})}})
    assert judged_values({**PCRS, 15: OTHER}, golden).goldens == (golden,)
    assert found(judged_values(PCRS, golden)) == [(FindingId.PCR_MISMATCH, "sha256 PCR 15, golden one-machine")]
