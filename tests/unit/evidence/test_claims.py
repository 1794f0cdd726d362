from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.evidence.claims import MAX_CLAIMED_LEASES, MAX_CLAIMS, Claims, decode_claims, encode_claims
from nodeseal.ids import LeaseId, lease_id_of

CLAIMS = Claims(boot_id="4f1c", kernel="6.1.0", agent_version="0.1.0", leases=(lease_id_of(b"a"), lease_id_of(b"b")))


def _printable(size: int) -> st.SearchStrategy[str]:
    return st.text(max_size=size).filter(str.isprintable)


@given(
    boot_id=_printable(64),
    kernel=_printable(128),
    agent_version=_printable(64),
    leases=st.lists(st.binary(max_size=8).map(lease_id_of), max_size=8).map(tuple),
)
def test_claims_survive_the_round_trip(
    boot_id: str, kernel: str, agent_version: str, leases: tuple[LeaseId, ...]
) -> None:
    claims = dataclasses.replace(CLAIMS, boot_id=boot_id, kernel=kernel, agent_version=agent_version, leases=leases)
    assert decode_claims(encode_claims(claims)) == claims


def test_as_many_leases_as_allowed_fit_into_claims() -> None:
    full = dataclasses.replace(CLAIMS, leases=tuple(lease_id_of(bytes([n])) for n in range(MAX_CLAIMED_LEASES)))
    assert decode_claims(encode_claims(full)) == full


GOOD: dict[str, object] = {
    "firmware_vendor": "",
    "firmware_version": "",
    "agent_version": "0.1.0",
    "boot_id": "4f1c",
    "kernel": "6.1.0",
    "leases": [],
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"uid": 0}, "unknown key", id="unknown field"),
        pytest.param({"boot_id": 7}, "boot_id", id="number for text"),
        pytest.param({"boot_id": "x" * 65}, "boot_id", id="boot id too long"),
        pytest.param({"kernel": "6.1\nroot"}, "kernel", id="newline in the kernel release"),
        pytest.param({"kernel": "\x1b[2J"}, "kernel", id="terminal escape"),
        pytest.param({"leases": "l-"}, "leases", id="text for a list"),
        pytest.param({"leases": ["l-../../x"]}, "lease id", id="lease id that is none"),
        pytest.param({"leases": ["x"] * (MAX_CLAIMED_LEASES + 1)}, "leases", id="too many leases"),
    ],
)
def test_claims_with_a_wrong_field_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode_claims(encode_json(GOOD | change))


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_claims_with_a_missing_field_are_refused(missing: str) -> None:
    with pytest.raises(MalformedInput, match=f"{missing} is missing"):
        decode_claims(encode_json({key: value for key, value in GOOD.items() if key != missing}))


def test_large_claims_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(MalformedInput, match="at most"):
        decode_claims(b" " * (MAX_CLAIMS + 1))


def test_claims_in_another_spelling_are_refused() -> None:
    with pytest.raises(MalformedInput, match="canonical"):
        decode_claims(encode_json(GOOD) + b"\n")
