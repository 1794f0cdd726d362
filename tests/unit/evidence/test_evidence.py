from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.evidence.evidence import (
    MAX_CLAIMS,
    MAX_LEASES,
    Channel,
    Claims,
    Purpose,
    decode_claims,
    encode_claims,
    qualifying_data,
)
from nodeseal.ids import LeaseId, Nonce, lease_id_of, node_id_of

NODE = node_id_of(b"one")
CHANNEL = Channel(trust_domain="fleet.example", node_id=NODE, certificate_sha256=b"c" * 32)
NONCE = Nonce(b"n" * 32)
CLAIMS = Claims(boot_id="4f1c", kernel="6.1.0", agent_version="0.1.0", leases=(lease_id_of(b"a"), lease_id_of(b"b")))


def test_the_binding_has_the_layout_that_its_docstring_says() -> None:
    written = b"".join(
        [
            b"nodeseal binding v1\0",
            b"\x01",
            b"n" * 32,
            b"\x00\x0dfleet.example",
            b"\x00\x1c" + NODE.encode(),
            b"c" * 32,
            hashlib.sha256(b"{}").digest(),
        ]
    )
    assert qualifying_data(Purpose.ATTEST, NONCE, CHANNEL, b"{}") == hashlib.sha256(written).digest()


def _binding(
    purpose: Purpose = Purpose.ATTEST, nonce: bytes = NONCE, channel: Channel = CHANNEL, claims: bytes = b"{}"
) -> bytes:
    return qualifying_data(purpose, Nonce(nonce), channel, claims)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: _binding(purpose=Purpose.RELEASE), id="purpose"),
        pytest.param(lambda: _binding(nonce=b"N" * 32), id="nonce"),
        pytest.param(lambda: _binding(channel=dataclasses.replace(CHANNEL, trust_domain="b.example")), id="domain"),
        pytest.param(lambda: _binding(channel=dataclasses.replace(CHANNEL, node_id=node_id_of(b"two"))), id="node"),
        pytest.param(lambda: _binding(channel=dataclasses.replace(CHANNEL, certificate_sha256=b"d" * 32)), id="TLS"),
        pytest.param(lambda: _binding(claims=b"{ }"), id="claims"),
    ],
)
def test_every_fact_changes_the_binding(other: Callable[[], bytes]) -> None:
    assert other() != _binding()


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedInput, match="32 bytes"):
        _binding(nonce=bytes(size))


@pytest.mark.parametrize("size", [0, 20, 31, 33])
def test_a_certificate_digest_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedInput, match="32 bytes"):
        _binding(channel=dataclasses.replace(CHANNEL, certificate_sha256=bytes(size)))


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
    full = dataclasses.replace(CLAIMS, leases=tuple(lease_id_of(bytes([n])) for n in range(MAX_LEASES)))
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
        pytest.param({"leases": ["x"] * (MAX_LEASES + 1)}, "leases", id="too many leases"),
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
