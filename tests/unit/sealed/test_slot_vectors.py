"""Stored slots: nodeseal, the library and RFC 9180 step by step agree about each."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from nodeseal.crypto import hpke_receiver
from nodeseal.crypto.hpke import ModelPrivateKey, ModelPublicKey, Suite, Wrapped, finish_slot
from nodeseal.errors import ProofFailed
from nodeseal.ids import Digest, KeyId
from support import independent
from support.data import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / "slots.json").read_text())
GOOD = [vector for vector in VECTORS if vector["expected"] == "opens"]
(STEPS,) = [vector for vector in GOOD if "steps" in vector]


def name(vector: dict[str, Any]) -> str:
    return f"{vector['suite'].partition(' ')[0]} {vector['name']}"


def slot_of(vector: dict[str, Any]) -> Wrapped:
    return Wrapped(b64decode(vector["enc"]), b64decode(vector["wrapped"]))


def opened(vector: dict[str, Any]) -> bytearray:
    private = ModelPrivateKey(Suite(vector["suite"]), bytes.fromhex(vector["private"]))
    assert private.public.raw.hex() == vector["public"]
    return private.open_slot(Digest(vector["model_digest"]), KeyId(vector["key_id"]), slot_of(vector))


@pytest.mark.parametrize("vector", VECTORS, ids=name)
def test_each_slot_opens_or_is_refused_as_it_says(vector: dict[str, Any]) -> None:
    if vector["expected"] == "opens":
        assert opened(vector).hex() == vector["data_key"]
    else:
        with pytest.raises(ProofFailed, match=vector["expected"].replace(".", r"\.")):
            opened(vector)


@pytest.mark.parametrize("vector", GOOD, ids=name)
def test_the_second_reader_opens_the_good_ones(vector: dict[str, Any]) -> None:
    assert independent.open_slot(vector, bytes.fromhex(vector["private"])).hex() == vector["data_key"]


def test_what_a_token_gives_is_finished_in_the_steps_of_the_rfc() -> None:
    steps = {key: bytes.fromhex(value) for key, value in STEPS["steps"].items()}
    public, slot = bytes.fromhex(STEPS["public"]), slot_of(STEPS)
    secret = hpke_receiver.shared_secret(hpke_receiver.P384, steps["dh"], slot.enc, public)
    assert secret == steps["shared_secret"]
    info = b"nodeseal slot v1" + bytes.fromhex(STEPS["model_digest"]) + STEPS["key_id"].encode()
    assert hpke_receiver.key_schedule(hpke_receiver.P384, secret, info) == (steps["key"], steps["base_nonce"])
    key = ModelPublicKey(Suite.P384, public)
    model, key_id = Digest(STEPS["model_digest"]), KeyId(STEPS["key_id"])
    assert finish_slot(key, model, key_id, slot, steps["dh"]).hex() == STEPS["data_key"]
