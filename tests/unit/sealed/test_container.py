"""The container's layout, and refusals that need no key."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nodeseal import documents
from nodeseal.crypto import floe
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.ids import ModelId
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout, Meta
from support.sealed import CONTENT, WEIGHTS

META = Meta(
    file_id=WEIGHTS.file_id,
    path=WEIGHTS.path,
    model_id=CONTENT.model_id,
    size=WEIGHTS.size,
    segment_size=WEIGHTS.segment_size,
    media_type="application/octet-stream",
)
FLOE_HEADER = bytes(range(floe.HEADER_SIZE))
HEADER = container.encode_header(container.associated_data(META), FLOE_HEADER)


def test_a_header_comes_apart_as_it_was_put_together() -> None:
    assert len(HEADER) == container.header_size(HEADER[:16], "x") == 4096
    header = container.decode_header(HEADER, "x")
    assert (header.floe_header, header.size) == (FLOE_HEADER, 4096)
    assert header.header_tag == FLOE_HEADER[-32:]
    assert container.parse_meta(header.raw_meta, "x") == META


@pytest.mark.parametrize("size", [3900, 3950, 4100, 60_000])
def test_a_header_ends_on_the_next_boundary(size: int) -> None:
    header = container.encode_header(bytes(size), FLOE_HEADER)
    assert len(header) % 4096 == 0
    assert 0 <= len(header) - size - floe.HEADER_SIZE < 4096


@pytest.mark.parametrize(
    ("why", "raw"),
    [
        ("another magic", b"NODESEAM" + HEADER[8:]),
        ("another version", HEADER[:8] + b"\0\2" + HEADER[10:]),
        ("a flag", HEADER[:10] + b"\0\1" + HEADER[12:]),
        ("META above the limit", HEADER[:12] + (container.MAX_META + 1).to_bytes(4, "big") + HEADER[16:]),
        ("META of four gibibytes", HEADER[:12] + b"\xff" * 4 + HEADER[16:]),
        ("META that ends in another block", HEADER[:12] + (5000).to_bytes(4, "big") + HEADER[16:]),
        ("padding that is not zero", HEADER[:-1] + b"\1"),
        ("one byte too many", HEADER + b"\0"),
        ("nothing", b""),
    ],
)
def test_a_header_is_refused_for(why: str, raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        container.decode_header(raw, why)


@pytest.mark.parametrize("size", [container.MAX_META + 1, 0xFFFFFFFF])
def test_meta_above_the_limit_is_refused_before_it_is_read(size: int) -> None:
    with pytest.raises(MalformedInput, match="at most 65536"):
        container.header_size(HEADER[:12] + size.to_bytes(4, "big"), "x")


def test_a_header_cut_at_any_length_is_refused() -> None:
    for size in range(len(HEADER)):
        with pytest.raises(MalformedInput):
            container.decode_header(HEADER[:size], "x")


@pytest.mark.parametrize(
    "changes",
    [{"size": -1}, {"file_id": "00"}, {"extra": 1}, {"segment_size": 1}, {"media_type": "\n"}, {"path": 1}],
)
def test_meta_is_refused_for(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedInput):
        container.parse_meta(documents.encode_json({**json.loads(META.encode()), **changes}), "x")


def test_meta_above_the_limit_is_not_written() -> None:
    with pytest.raises(MalformedInput, match="at most 65536"):
        container.associated_data(replace(META, media_type="x" * container.MAX_META))


@pytest.mark.parametrize(
    "changed",
    [
        replace(META, file_id=bytes(15) + b"\1"),
        replace(META, path="other.safetensors"),
        replace(META, model_id=ModelId("other")),
        replace(META, size=META.size + 1),
        replace(META, segment_size=1 << 22),
    ],
)
def test_meta_must_say_what_the_content_says(changed: Meta) -> None:
    META.check(WEIGHTS, CONTENT.model_id)
    with pytest.raises(ProofFailed) as caught:
        changed.check(WEIGHTS, CONTENT.model_id)
    assert caught.value.findings[0].id is FindingId.SEALED_HEADER


@pytest.mark.parametrize(
    ("size", "count", "last"),
    [(0, 1, 0), (1, 1, 1), (31, 1, 31), (32, 1, 32), (33, 2, 1), (64, 2, 32), (65, 3, 1), (1 << 50, 1 << 45, 32)],
)
def test_segments_are_counted(size: int, count: int, last: int) -> None:
    layout = Layout(size, 64)
    assert layout.count == count
    assert layout.plaintext_size(count - 1) == last
    assert layout.body_size == size + 32 * count
    if count > 1:
        assert layout.plaintext_size(0) == 32
