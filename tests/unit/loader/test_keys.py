"""Leases end once; the insecure provider opens its own slots only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal import documents
from nodeseal.errors import MalformedInput, NotFound, PolicyRefused
from nodeseal.ids import digest_of
from nodeseal.loader import InsecureFileKeys, Lease
from nodeseal.sealed.slots import Slots
from support.sealed import DATA_KEY, key_file, model_key

MODEL = digest_of(b"model")


def test_a_lease_ends_once_and_wipes_the_key() -> None:
    released, told = list[str](), list[str]()
    key = bytearray(DATA_KEY)
    lease = Lease(MODEL, key, release=lambda: released.append("released"))
    lease.watch(told.append)
    lease.check()
    lease.end("first")
    lease.end("second")
    assert (released, told) == (["released"], ["first"])
    assert key == bytes(32)
    with pytest.raises(PolicyRefused, match="first"):
        lease.check()
    with pytest.raises(PolicyRefused, match="first"):
        lease.data_key()


def test_who_watches_a_lease_that_has_ended_is_told_at_once() -> None:
    lease, told = Lease(MODEL, bytearray(DATA_KEY)), list[str]()
    lease.end("before")
    lease.watch(told.append)
    assert told == ["before"]


def test_a_key_of_another_length_makes_no_lease() -> None:
    with pytest.raises(MalformedInput, match="31 bytes"):
        Lease(MODEL, bytearray(31))


def test_the_insecure_provider_opens_its_slot(tmp_path: Path) -> None:
    private, key = model_key()
    _, other = model_key(key_id="other")
    keys = InsecureFileKeys(key_file(tmp_path, key, private))
    slots = Slots(MODEL, (other.slot(MODEL, DATA_KEY), key.slot(MODEL, DATA_KEY)))
    lease = keys.open(slots)
    assert bytes(lease.data_key()) == DATA_KEY
    assert lease.model_digest == MODEL
    with pytest.raises(NotFound, match="llama-key"):
        keys.open(Slots(MODEL, slots.slots[:1]))


def test_the_insecure_provider_opens_no_slot_of_another_version_of_its_key(tmp_path: Path) -> None:
    private, key = model_key()
    later = replace(key, key_version=2)
    with pytest.raises(NotFound, match="version 1 of llama-key"):
        InsecureFileKeys(key_file(tmp_path, key, private)).open(Slots(MODEL, (later.slot(MODEL, DATA_KEY),)))


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    private, key = model_key()
    path = key_file(tmp_path, key, private)
    path.write_bytes(path.read_bytes().replace(b"insecure-", b""))
    with pytest.raises(MalformedInput):
        InsecureFileKeys(path)
    path.write_bytes(documents.encode_json({}))
    with pytest.raises(MalformedInput):
        InsecureFileKeys(path)
