"""PCR values: what is wrong with them whatever goldens say, and how they compare with pinned values (q10)."""

from __future__ import annotations

import pytest

from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from support.facts import found, held, judged_values, proved, proved_values
from support.rounds import GOLDEN, PCRS, SHA256, golden_of

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


@pytest.mark.parametrize(
    ("bank", "index"),
    [pytest.param(SHA256, 17, id="a PCR"), pytest.param(HashAlg.SHA384, 4, id="a bank")],
)
def test_what_a_golden_pins_but_the_quote_does_not_cover_does_not_match(bank: HashAlg, index: int) -> None:
    golden = Golden(name="rack-a", pcrs={bank: {index: frozenset({PCRS[4].ljust(bank.digest_size, b"\0")})}})
    judgement = judged_values(PCRS, golden)
    assert found(judgement) == [(FindingId.PCR_MISMATCH, f"{bank.hashlib_name} PCR {index}, golden rack-a")]
    assert judgement.findings[0].seen == "not quoted"


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
    selection = PcrSelection.of({SHA256: [*range(8), 15], HashAlg.SHA512: [*range(8), 15]})
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


@pytest.mark.parametrize("value", [OTHER, bytes(31) + b"\x01", b"\xff" * 32])
def test_a_cap_pcr_that_is_not_zero_is_found(value: bytes) -> None:
    judgement = judged_values({**PCRS, 15: value}, GOLDEN)
    assert found(judgement) == [(FindingId.PCR_CAPPED, "sha256 PCR 15")]
    assert judgement.findings[0].expected == bytes(32).hex()
    assert judgement.goldens == (GOLDEN,)


def test_another_cap_pcr_may_be_chosen() -> None:
    zero_14 = {**PCRS, 14: bytes(32), 15: OTHER}
    assert judged_values(zero_14, GOLDEN, cap_pcr=14).findings == ()
    assert found(judged_values({**PCRS, 15: OTHER}, GOLDEN, cap_pcr=14)) == [(FindingId.PCR_CAPPED, "sha256 PCR 14")]


def test_a_cap_pcr_that_was_not_quoted_is_not_taken_for_zero() -> None:
    judgement = held(proved(PCRS, PcrSelection.of({SHA256: range(8)})), GOLDEN)
    assert found(judgement) == [(FindingId.PCR_CAPPED, "sha256 PCR 15")]
    assert judgement.findings[0].seen == "not quoted"


def test_a_cap_pcr_counts_in_every_bank() -> None:
    selection = PcrSelection.of({SHA256: [4, 15], HashAlg.SHA384: [4, 15]})
    values = [PCRS[4], bytes(32), b"m" * 48, b"c" * 48]
    golden = golden_of(PCRS, only=range(4, 5))
    judgement = held(proved_values(selection, values), golden)
    assert found(judgement) == [(FindingId.PCR_CAPPED, "sha384 PCR 15")]
