"""The wire rules of the local key socket."""

from __future__ import annotations

from importlib import resources

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.wire import varlink
from nodeseal.wire.varlink import Call, Frames, Reply


def test_a_call_survives_the_wire() -> None:
    call = Call(method="io.nodeseal.Keys.Open", parameters={"slots": []}, more=True)
    (message,) = Frames().feed(varlink.encode_call(call))
    assert varlink.decode_call(message) == call


@pytest.mark.parametrize("reply", [Reply(parameters={"expires": "x"}, continues=True), Reply(error="a.B"), Reply()])
def test_a_reply_survives_the_wire(reply: Reply) -> None:
    (message,) = Frames().feed(varlink.encode_reply(reply))
    assert varlink.decode_reply(message) == reply


def test_parameters_are_not_shown_because_they_may_hold_a_key() -> None:
    assert "secret" not in repr(Reply(parameters={"data_key": "secret"}))


def test_messages_come_out_however_the_stream_is_cut() -> None:
    stream = b'{"method":"a.B"}\0{"method":"c.D"}\0'
    for size in range(1, len(stream) + 1):
        frames, got = Frames(), list[bytes]()
        for at in range(0, len(stream), size):
            got += frames.feed(stream[at : at + size])
        assert [varlink.decode_call(raw).method for raw in got] == ["a.B", "c.D"]


@pytest.mark.parametrize("tail", [b"", b"\0"], ids=["unfinished", "finished"])
def test_a_message_above_the_limit_is_refused_before_more_of_it_is_kept(tail: bytes) -> None:
    with pytest.raises(MalformedInput, match="at most 1048576"):
        list(Frames().feed(b" " * (varlink.MAX_MESSAGE + 1) + tail))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"method":"a.B","method":"c.D"}',
        b'{"parameters":{}}',
        b'{"method":"a.B","parameters":[]}',
        b'{"method":"a.B","more":1}',
        b'{"method":"a.B","oneway":true}',
        b'{"method":"a.B","parameters":{"n":NaN}}',
    ],
)
def test_what_is_not_a_call_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        varlink.decode_call(raw)


@pytest.mark.parametrize("raw", [b"{", b'{"continues":"yes"}', b'{"error":1}', b'{"more":true}'])
def test_what_is_not_a_reply_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        varlink.decode_reply(raw)


def test_the_interface_definition_is_shipped_with_the_package() -> None:
    text = resources.files("nodeseal.wire").joinpath(f"{varlink.KEYS_INTERFACE}.varlink").read_text()
    assert f"interface {varlink.KEYS_INTERFACE}\n" in text
