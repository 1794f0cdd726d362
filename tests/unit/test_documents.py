from __future__ import annotations

from collections.abc import Callable

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import Fields, Located, LocatedList, decode_json, encode_base64, encode_json, parse_json
from nodeseal.errors import MalformedInput

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_what_is_encoded_decodes_to_the_same_value(value: object) -> None:
    assert decode_json(encode_json(value), "test") == value


@given(JSON | st.recursive(JSON | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_every_value_is_spelled_as_the_reference_spells_it(value: object) -> None:
    """What is common takes a faster way."""
    assert encode_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # JSON values


@given(st.binary(max_size=60))
def test_whatever_is_accepted_has_one_spelling(raw: bytes) -> None:
    try:
        value = decode_json(raw, "test")
    except MalformedInput:
        return
    assert encode_json(value) == raw


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        pytest.param({"b": 1, "a": 2}, b'{"a":2,"b":1}', id="keys are sorted"),
        pytest.param({"\U0001f600": 1, "\ufb33": 2}, '{"\U0001f600":1,"\ufb33":2}'.encode(), id="by UTF-16 code units"),
        pytest.param("\u20ac\n\x0f", b'"\xe2\x82\xac\\n\\u000f"', id="text is UTF-8 with short escapes"),
        pytest.param([1.0, 1e21], b"[1,1e+21]", id="numbers as ECMAScript writes them"),
    ],
)
def test_the_canonical_form_is_that_of_rfc_8785(value: object, canonical: bytes) -> None:
    assert encode_json(value) == canonical


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(2**53, id="integer beyond 2**53"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param({1: 2}, id="key that is no text"),
        pytest.param(b"raw", id="bytes"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(MalformedInput, match="canonical"):
        encode_json(value)


def test_a_value_nested_too_deep_to_encode_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(MalformedInput, match="canonical"):
        encode_json(deep)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b'{"a":1', "not JSON", id="cut off"),
        pytest.param(b'{"a":1,"a":1}', "duplicate key", id="duplicate key"),
        pytest.param(b'{"a":{"b":1,"b":2}}', "duplicate key", id="duplicate key inside"),
        pytest.param(b"NaN", "NaN is not JSON", id="NaN"),
        pytest.param(b"-Infinity", "Infinity is not JSON", id="infinity"),
        pytest.param(b'{"b":1,"a":2}', "canonical", id="keys out of order"),
        pytest.param(b'{"a": 1}', "canonical", id="a space"),
        pytest.param(b"{}\n", "canonical", id="a final newline"),
        pytest.param(b"1.0", "canonical", id="an integer as a float"),
        pytest.param(b"-0", "canonical", id="minus zero"),
        pytest.param(rb'"\u0041"', "canonical", id="an escape that is not needed"),
        pytest.param(b'"\\ud800"', "canonical", id="a lone surrogate"),
        pytest.param('"a"'.encode("utf-16"), "not JSON", id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf"a"', "JSON|canonical", id="byte order mark"),
        pytest.param(b'"\xff"', "not JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "not JSON", id="a hundred thousand lists deep"),
        pytest.param(b"9" * 5_000, "not JSON|canonical", id="a number of 5,000 digits"),
    ],
)
def test_another_spelling_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode_json(raw, "test")


@pytest.mark.parametrize("raw", [b"{", b'"\\ud800"', b"{ }"])
def test_a_refusal_names_the_source(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match=r"^golden\.json: "):
        decode_json(raw, "golden.json")


def test_a_message_that_nobody_hashes_may_be_spelt_in_any_way() -> None:
    assert parse_json(b'{ "b": 1.0, "a": "\\u0041" }', "test") == {"a": "A", "b": 1}


@pytest.mark.parametrize("raw", [b'{"a":1,"a":2}', b"NaN", b"{} {}", b"\xff", b"[" * 100_000])
def test_a_message_that_could_mean_two_things_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match=r"^test: not JSON"):
        parse_json(raw, "test")


@given(st.binary(max_size=100))
def test_base64_survives_the_round_trip(raw: bytes) -> None:
    assert Fields({"a": encode_base64(raw)}, "test").base64("a", max_size=100) == raw


GOOD: dict[str, object] = {
    "text": "a b",
    "texts": ["a", "b"],
    "items": [1, {"x": 2}],
    "integer": 7,
    "boolean": True,
    "hex": "00ff",
    "inner": {"x": "y"},
    "base64": "AP8=",
    "constant": "v1",
}
GETTERS: dict[str, tuple[Callable[[Fields], object], object]] = {
    "text": (lambda fields: fields.text("text", max_length=3), "a b"),
    "texts": (lambda fields: fields.texts("texts", max_items=2, max_length=1), ("a", "b")),
    "items": (lambda fields: fields.items("items", max_items=2), (1, {"x": 2})),
    "integer": (lambda fields: fields.integer("integer", low=7, high=7), 7),
    "boolean": (lambda fields: fields.boolean("boolean"), True),
    "hex": (lambda fields: fields.hex("hex", size=2), b"\x00\xff"),
    "base64": (lambda fields: fields.base64("base64", max_size=2), b"\x00\xff"),
    "inner": (lambda fields: fields.fields("inner").text("x"), "y"),
    "constant": (lambda fields: fields.constant("constant", "v1"), None),
}


@pytest.mark.parametrize("key", GETTERS)
def test_a_getter_returns_the_value_and_takes_its_key(key: str) -> None:
    getter, expected = GETTERS[key]
    fields = Fields(GOOD, "test")
    assert getter(fields) == expected
    assert not fields.has(key)
    assert fields.keys() == tuple(sorted(GOOD.keys() - {key}))


@pytest.mark.parametrize("key", GETTERS)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(MalformedInput, match=f"^test: {key} is missing$"):
        GETTERS[key][0](Fields({}, "test"))


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        pytest.param("text", 1, id="number as text"),
        pytest.param("text", "long", id="text too long"),
        pytest.param("text", "a\n", id="newline in text"),
        pytest.param("text", "\u202e", id="text that turns the direction"),
        pytest.param("texts", "ab", id="text as a list of texts"),
        pytest.param("texts", ["a", 1], id="number among texts"),
        pytest.param("texts", ["a", "bb"], id="long text among texts"),
        pytest.param("texts", ["a", "\0"], id="NUL among texts"),
        pytest.param("texts", ["a"] * 3, id="too many texts"),
        pytest.param("items", {}, id="mapping as list"),
        pytest.param("items", [1, 2, 3], id="too many items"),
        pytest.param("integer", True, id="boolean as integer"),
        pytest.param("integer", 7.0, id="float as integer"),
        pytest.param("integer", 6, id="below the range"),
        pytest.param("integer", 8, id="above the range"),
        pytest.param("boolean", 1, id="integer as boolean"),
        pytest.param("boolean", "true", id="text as boolean"),
        pytest.param("hex", "00FF", id="upper-case hex"),
        pytest.param("hex", "00f", id="half a byte missing"),
        pytest.param("hex", "00ff00", id="a byte too many"),
        pytest.param("hex", "00 f", id="space in hex"),
        pytest.param("hex", "\u0660" * 4, id="digits of another script"),
        pytest.param("hex", 0, id="number as hex"),
        pytest.param("base64", "AP8", id="base64 without padding"),
        pytest.param("base64", "AP9=", id="base64 with bits left over"),
        pytest.param("base64", "AP8=\n", id="newline after base64"),
        pytest.param("base64", "A_8=", id="base64 of the other alphabet"),
        pytest.param("base64", "AP8A", id="base64 of a byte too many"),
        pytest.param("base64", "\u0660AA=", id="base64 that is not ASCII"),
        pytest.param("base64", 1, id="number as base64"),
        pytest.param("inner", [], id="list as mapping"),
        pytest.param("inner", {1: 2}, id="mapping with a number as key"),
        pytest.param("constant", "v2", id="another version"),
        pytest.param("constant", None, id="nothing where a constant is due"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(key: str, bad: object) -> None:
    with pytest.raises(MalformedInput, match=f"test: {key}"):
        GETTERS[key][0](Fields(GOOD | {key: bad}, "test"))


@pytest.mark.parametrize("value", [None, [], "a", 1, {1: "a"}])
def test_a_document_that_is_no_mapping_of_texts_is_refused(value: object) -> None:
    with pytest.raises(MalformedInput, match="not a mapping"):
        Fields(value, "test")


def test_keys_that_nobody_took_are_refused() -> None:
    fields = Fields({"b": 1, "a": 2, "c": 3}, "test")
    fields.take("a")
    assert fields.keys() == ("b", "c")
    with pytest.raises(MalformedInput, match="unknown key: 'b'"):
        fields.done()


@pytest.mark.parametrize("value", [1, None, "text", []])
def test_keys_of_older_versions_can_be_dropped_whatever_they_hold(value: object) -> None:
    fields = Fields({"old": value, "new": 1}, "test")
    assert fields.drop("old", "older") == ("old",)
    assert fields.integer("new", low=0, high=1) == 1
    fields.done()


def test_a_document_with_every_key_taken_is_done() -> None:
    fields = Fields({"a": 1}, "test")
    fields.take("a")
    fields.done()


def test_an_unknown_key_is_quoted_short_and_inert() -> None:
    with pytest.raises(MalformedInput) as refusal:
        Fields({"\x1b[2J" + "x" * 10_000: 1}, "test").done()
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 200


def test_an_error_names_the_line_where_the_key_stands() -> None:
    with pytest.raises(MalformedInput, match=r"^a\.yaml, line 4: port is not an integer from 1 to 2$"):
        Fields(Located({"port": 3}, {"port": 4}), "a.yaml").integer("port", low=1, high=2)


def test_reading_a_document_leaves_it_as_it_was() -> None:
    document = {"a": 1}
    Fields(document, "test").take("a")
    assert document == {"a": 1}


def test_items_of_a_list_know_their_place() -> None:
    texts = LocatedList()
    texts.extend(["a", 1, {"b": 2}])
    texts.lines.extend([4, 5, 6])
    first, second, third = Fields(Located({"key": texts}, {"key": 3}), "x.yaml").each("key")
    assert first.text() == "a"
    with pytest.raises(MalformedInput, match=r"^x\.yaml, line 5: an item of key is not printable text"):
        second.text()
    with pytest.raises(MalformedInput, match=r"^x\.yaml, line 6: key: b is not true or false"):
        third.fields().boolean("b")


def test_items_of_json_have_no_lines() -> None:
    (item,) = Fields({"key": ["a\n"]}, "x.json").each("key")
    with pytest.raises(MalformedInput, match=r"^x\.json: an item of key is not printable text"):
        item.text()


@pytest.mark.parametrize("value", [[], ["a", "a", "a"], "a", {"a": 1}, None])
def test_a_list_with_items_has_one_item_at_least(value: object) -> None:
    with pytest.raises(MalformedInput, match="key is not a list of 1 to 2 items"):
        Fields({"key": value}, "x").each("key", max_items=2)


def test_an_error_may_say_what_to_do() -> None:
    assert Fields({"a": 1}, "x").wrong("a", "b", remedy="do c").remedy == "do c"
    (item,) = Fields({"a": [1]}, "x").each("a")
    assert item.wrong("b", remedy="do c").remedy == "do c"
