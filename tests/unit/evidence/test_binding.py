from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.ids import Nonce, node_id_of

NODE = node_id_of(b"one")
CHANNEL = Channel(trust_domain="fleet.example", node_id=NODE, certificate_sha256=b"c" * 32)
NONCE = Nonce(b"n" * 32)


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
