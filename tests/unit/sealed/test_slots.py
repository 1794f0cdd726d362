"""Slots and public key files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nodeseal import documents
from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput
from nodeseal.ids import digest_of
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, parse_model_key
from nodeseal.sealed.slots import MAX_SLOTS, MAX_SLOTS_BYTES, Slots, parse_slots
from support.sealed import DATA_KEY, model_key

MODEL = digest_of(b"model")
PRIVATE, KEY = model_key()
SLOTS = Slots(MODEL, (KEY.slot(MODEL, DATA_KEY),))


@pytest.mark.parametrize("suite", Suite)
def test_slots_come_back_as_they_were_written_and_open(suite: Suite) -> None:
    private, key = model_key(suite)
    slots = Slots(MODEL, (key.slot(MODEL, DATA_KEY),))
    again = parse_slots(slots.encode())
    assert again == slots
    assert private.open_slot(MODEL, again.slots[0].key_id, again.slots[0].sealed) == DATA_KEY


@pytest.mark.parametrize("suite", Suite)
def test_a_public_key_file_comes_back_as_it_was_written(suite: Suite) -> None:
    _, key = model_key(suite)
    assert parse_model_key(key.encode(), "key.pub") == key


def _slot(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["slots"][0].update(changes)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda value: value.update(format="nodeseal/slots/2"),
    "an unknown key": lambda value: value.update(data_key="AAAA"),
    "a short model digest": lambda value: value.update(model_digest="00"),
    "no slot": lambda value: value.update(slots=[]),
    "two slots for one key version": lambda value: value["slots"].append(value["slots"][0]),
    "a slot that is no mapping": lambda value: value["slots"].append(1),
    "an unknown suite": _slot(suite="ROT13"),
    "key version zero": _slot(key_version=0),
    "a key id with a newline": _slot(key_id="a\n"),
    "an enc of another suite's length": _slot(enc=documents.encode_base64(bytes(65))),
    "a short wrapped key": _slot(wrapped=documents.encode_base64(bytes(47))),
    "a long wrapped key": _slot(wrapped=documents.encode_base64(bytes(49))),
    "base64 without padding": _slot(wrapped=documents.encode_base64(bytes(47)).rstrip("=")),
    "base64 in another spelling": _slot(wrapped="A" * 62 + "B="),
    "base64 with a newline": _slot(wrapped="\n" + documents.encode_base64(bytes(48))),
    "an unknown key of a slot": _slot(note=""),
}


@pytest.mark.parametrize("why", CHANGES)
def test_slots_are_refused_for(why: str) -> None:
    value = json.loads(SLOTS.encode())
    CHANGES[why](value)
    with pytest.raises(MalformedInput):
        parse_slots(documents.encode_json(value))


def test_too_many_slots_and_bytes_are_refused() -> None:
    value = json.loads(SLOTS.encode())
    value["slots"] = [{**value["slots"][0], "key_version": version} for version in range(1, MAX_SLOTS + 2)]
    with pytest.raises(MalformedInput, match="at most 64"):
        parse_slots(documents.encode_json(value))
    with pytest.raises(MalformedInput, match=f"at most {MAX_SLOTS_BYTES}"):
        parse_slots(b" " * (MAX_SLOTS_BYTES + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "nodeseal/model-key/2"},
        {"suite": Suite.MLKEM768_X25519.value},
        {"public": ""},
        {"public": documents.encode_base64(bytes(97))},
        {"key_id": ""},
        {"key_version": 0},
        {"private": "AAAA"},
    ],
)
def test_a_public_key_file_is_refused_for(changes: dict[str, object]) -> None:
    value = {**json.loads(KEY.encode()), **changes}
    with pytest.raises(MalformedInput):
        parse_model_key(documents.encode_json(value), "key.pub")


def test_a_public_key_file_of_any_length_is_not_parsed() -> None:
    with pytest.raises(MalformedInput, match=f"at most {MAX_MODEL_KEY_FILE}"):
        parse_model_key(b" " * (MAX_MODEL_KEY_FILE + 1), "key.pub")


def test_neither_slots_nor_keys_fill_the_log() -> None:
    assert len(repr(SLOTS)) < 400
    assert len(repr(KEY)) < 200
