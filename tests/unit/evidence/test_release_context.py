"""The release context has one spelling, and nothing else decodes."""

from __future__ import annotations

import dataclasses

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.evidence.release_context import ReleaseContext, decode_release_context, encode_release_context
from nodeseal.ids import Digest, KeyId, lease_id_of, node_id_of

CONTEXT = ReleaseContext(
    audit_leaf=Digest("1" * 64),
    goldens=(Digest("2" * 64), Digest("3" * 64)),
    key_id=KeyId("llm"),
    key_version=7,
    lease_id=lease_id_of(b"lease"),
    model_digest=Digest("4" * 64),
    node_id=node_id_of(b"name"),
)
RAW = encode_release_context(CONTEXT)


def test_a_context_is_canonical_json_of_its_facts() -> None:
    expected = (
        b'{"audit_leaf":"%s","goldens":["%s","%s"],"key_id":"llm","key_version":7,"lease_id":"%s",'
        b'"model_digest":"%s","node_id":"%s"}'
        % (
            b"1" * 64,
            b"2" * 64,
            b"3" * 64,
            CONTEXT.lease_id.encode(),
            b"4" * 64,
            CONTEXT.node_id.encode(),
        )
    )
    assert encode_release_context(CONTEXT) == expected
    assert decode_release_context(RAW) == CONTEXT


def test_the_order_of_goldens_does_not_matter() -> None:
    turned = dataclasses.replace(CONTEXT, goldens=CONTEXT.goldens[::-1])
    assert encode_release_context(turned) == RAW


@pytest.mark.parametrize(
    ("change", "to"),
    [
        pytest.param(b'"key_id":"llm",', b"", id="a missing field"),
        pytest.param(b'"key_id":"llm",', b'"key_id":"llm","key_policy":"",', id="an unknown field"),
        pytest.param(b'"key_id":"llm"', b'"key_id":"../llm"', id="a key id that is a path"),
        pytest.param(b'"key_version":7', b'"key_version":0', id="version zero"),
        pytest.param(b'"key_version":7', b'"key_version":"7"', id="a version in quotes"),
        pytest.param(b"1" * 64, b"1" * 63, id="a short audit leaf"),
        pytest.param(b"4" * 64, b"X" * 64, id="a model digest that is not hex"),
        pytest.param(b'"node_id":"n-', b'"node_id":"m-', id="a node id of another shape"),
        pytest.param(b'"lease_id":"l-', b'"lease_id":"n-', id="a lease id of another shape"),
        pytest.param(b"2" * 64, b"3" * 64, id="a golden named twice"),
        pytest.param(b"2" * 64, b"5" * 64, id="goldens in another order"),
        pytest.param(b'["%s","%s"]' % (b"2" * 64, b"3" * 64), b"[]", id="no golden"),
        pytest.param(b'"key_version":7', b'"key_version": 7', id="another spelling"),
    ],
)
def test_one_changed_fact_is_refused(change: bytes, to: bytes) -> None:
    assert change in RAW
    with pytest.raises(MalformedInput):
        decode_release_context(RAW.replace(change, to))


def test_a_huge_context_is_refused_unread() -> None:
    with pytest.raises(MalformedInput, match="bytes, at most"):
        decode_release_context(RAW + b" " * 64 * 1024)
