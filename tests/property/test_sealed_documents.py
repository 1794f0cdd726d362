"""Documents, containers and streams of sealed models under arbitrary input: refused with MalformedInput, or exact."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.crypto import floe
from nodeseal.crypto.floe import Decryptor, Encryptor, Parameters
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.ids import Digest, ModelId, digest_of
from nodeseal.loader.safetensors import decode_header
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout
from nodeseal.sealed.content import MAX_FILE_SIZE, SEGMENT_SIZES, Content, PlainFile, SealedFile, parse_content
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.sealed.paths import parse_path
from nodeseal.sealed.slots import Slots, parse_slots
from nodeseal.wire import varlink
from support.sealed import CONTENT, DATA_KEY, model_key, safetensors_bytes

MODEL = digest_of(b"model")
_, KEY = model_key()
SLOTS = Slots(MODEL, (KEY.slot(MODEL, DATA_KEY),))
SAFETENSORS = safetensors_bytes({"a": ("U8", [2], b"12"), "b": ("F32", [1], b"1234")})

Parser = Callable[[bytes], object]
PARSERS: dict[str, tuple[Parser, bytes]] = {
    "content": (parse_content, CONTENT.encode()),
    "slots": (parse_slots, SLOTS.encode()),
    "public key": (lambda raw: parse_model_key(raw, "x"), KEY.encode()),
    "container": (lambda raw: container.decode_header(raw, "x"), container.encode_header(b"x" * 200, bytes(74))),
    "meta": (lambda raw: container.parse_meta(raw, "x"), b'{"file_id":"00"}'),
    "safetensors": (lambda raw: decode_header(memoryview(raw), len(raw), "x"), SAFETENSORS),
    "call": (varlink.decode_call, b'{"method":"a.B","more":true}'),
    "reply": (varlink.decode_reply, b'{"parameters":{},"continues":true}'),
}

parts = st.text(st.sampled_from("abcXYZ019._- é"), min_size=1, max_size=12)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw.hex()))
sizes = st.integers(0, MAX_FILE_SIZE)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    names = draw(st.lists(parts, min_size=1, max_size=6, unique_by=str.casefold))
    files: list[SealedFile | PlainFile] = [
        SealedFile(
            path=f"w{index}.{name}.bin",
            size=draw(sizes),
            file_id=draw(st.binary(min_size=16, max_size=16)),
            segment_size=draw(st.sampled_from(SEGMENT_SIZES)),
            header_tag=draw(st.binary(min_size=32, max_size=32)),
            tags_digest=draw(digests),
        )
        for index, name in enumerate(names)
    ]
    files += [PlainFile(path=f"p/{index}", size=draw(sizes), sha256=draw(digests)) for index in range(len(names))]
    return Content(
        model_id=ModelId("m"),
        version=draw(st.integers(1, (1 << 31) - 1)),
        created=draw(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1))).replace(microsecond=0, tzinfo=UTC),  # noqa: DTZ001 - what hypothesis takes
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


@given(contents())
def test_any_content_comes_back_and_has_one_spelling(content: Content) -> None:
    raw = content.encode()
    assert parse_content(raw) == content
    assert parse_content(raw).digest == digest_of(raw)


@pytest.mark.parametrize("what", PARSERS)
@given(data=st.data())
def test_a_changed_document_is_refused_or_parses_but_nothing_else_happens(what: str, data: st.DataObject) -> None:
    parse, good = PARSERS[what]
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    with suppress(MalformedInput):
        parse(bytes(changed))


@pytest.mark.parametrize("what", PARSERS)
@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_parse_but_nothing_else_happens(what: str, raw: bytes) -> None:
    with suppress(MalformedInput):
        PARSERS[what][0](raw)


@given(st.integers(0, 255), st.integers(0, 3000))
def test_a_changed_content_never_keeps_its_digest(byte: int, at: int) -> None:
    raw = CONTENT.encode()
    at %= len(raw)
    changed = raw[:at] + bytes([byte]) + raw[at + 1 :]
    try:
        parsed = parse_content(changed)
    except MalformedInput:
        return
    assert parsed.encode() == changed
    assert (parsed.digest == CONTENT.digest) == (changed == raw)


@given(st.text(max_size=40))
def test_an_accepted_path_stays_below_the_folder(text: str) -> None:
    try:
        path = parse_path(text)
    except MalformedInput:
        return
    assert path == text
    assert not path.startswith("/")
    assert {"", ".", ".."}.isdisjoint(path.split("/"))
    assert "\0" not in path


@given(sizes, st.sampled_from(SEGMENT_SIZES))
def test_the_segments_hold_exactly_the_plaintext(size: int, segment_size: int) -> None:
    layout = Layout(size, segment_size)
    last = layout.plaintext_size(layout.count - 1)
    assert (layout.count - 1) * layout.capacity + last == size
    assert 0 <= last <= layout.capacity
    assert last > 0 or size == 0


@given(st.binary(max_size=200), st.integers(33, 80), st.randoms())
def test_any_plaintext_survives_in_any_order_of_segments(plaintext: bytes, size: int, random: Random) -> None:
    params = Parameters(size, rotation_bits=1)
    layout = Layout(len(plaintext), size)
    encryptor, positions = Encryptor(DATA_KEY, b"aad", params), list(range(layout.count))
    random.shuffle(positions)
    segments = {}
    for position in positions:
        chunk = plaintext[position * layout.capacity :][: layout.plaintext_size(position)]
        out = bytearray(len(chunk) + floe.SEGMENT_OVERHEAD)
        encryptor.encrypt_into(position, memoryview(chunk), memoryview(out), final=position == layout.count - 1)
        segments[position] = out
    decryptor, opened = Decryptor(DATA_KEY, b"aad", encryptor.header, params), bytearray(len(plaintext))
    for position in reversed(positions):
        start = position * layout.capacity
        destination = memoryview(opened)[start : start + layout.plaintext_size(position)]
        decryptor.decrypt_into(
            position, memoryview(segments[position]), destination, final=position == layout.count - 1
        )
    assert opened == plaintext


@given(st.binary(min_size=32, max_size=64), st.integers(0, 3), st.booleans())
def test_arbitrary_segments_are_refused(segment: bytes, position: int, final: bool) -> None:  # noqa: FBT001 - drawn
    params = Parameters(64)
    decryptor = Decryptor(DATA_KEY, b"", Encryptor(DATA_KEY, b"", params).header, params)
    out = memoryview(bytearray(len(segment) - floe.SEGMENT_OVERHEAD))
    with pytest.raises(ProofFailed):
        decryptor.decrypt_into(position, memoryview(segment), out, final=final)


@given(st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"")), max_size=5), st.integers(1, 50))
def test_frames_come_out_as_they_went_in(messages: list[bytes], size: int) -> None:
    stream = b"".join(message + b"\0" for message in messages)
    frames, got = varlink.Frames(), list[bytes]()
    for at in range(0, len(stream), size):
        got += frames.feed(stream[at : at + size])
    assert got == messages
