"""PKCS#11 URIs: what names a key, and what must not stand in one."""

from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.verifier.keys.token_uri import TokenUri, parse_token_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("pkcs11:", TokenUri()),
        ("pkcs11:object=llama-70b;token=nodeseal", TokenUri(name="nodeseal", label="llama-70b")),
        ("pkcs11:token=My%20token;type=private", TokenUri(name="My token")),
        ("pkcs11:token=t;id=%00%FF%3b", TokenUri(name="t", object_id=b"\0\xff;")),
    ],
)
def test_a_uri_names_token_and_key(text: str, uri: TokenUri) -> None:
    assert parse_token_uri(text) == uri
    assert parse_token_uri(uri.encode()) == uri


def test_the_spelling_is_that_of_rfc_7512() -> None:
    uri = TokenUri(name="My token", label="a;b=ü", object_id=b"\x01\xab")
    assert uri.encode() == "pkcs11:token=My%20token;object=a%3Bb%3D%C3%BC;id=%01%AB"
    assert parse_token_uri(uri.encode()) == uri


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("file:token=t", "not pkcs11:"),
        ("PKCS11:token=t", "not pkcs11:"),
        ("pkcs11:token=" + "a" * 500, "not pkcs11:"),
        ("pkcs11:token=" + "a" * 65, "more than 64 characters"),
        ("pkcs11:token=a%0Ab", "not printable"),
        ("pkcs11:token=%FF", "not UTF-8"),
        ("pkcs11:token=t;token=u", "token is there twice"),
        ("pkcs11:token=t;", "with a value"),
        ("pkcs11:token=", "with a value"),
        ("pkcs11:token=a b", "with a value"),
        ("pkcs11:token=%4", "with a value"),
        ("pkcs11:slot-id=3", "'slot-id'"),
        ("pkcs11:pin-value=1234", "'pin-value'"),
        ("pkcs11:type=cert", "type is not private"),
        ("pkcs11:id=" + "%00" * 65, "more than 64 bytes"),
        ("pkcs11:token=t?module-path=/tmp/evil.so", "query attributes"),
    ],
)
def test_what_names_no_private_key_of_a_token_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        parse_token_uri(text)


def test_a_pin_in_a_uri_is_refused_without_being_repeated() -> None:
    for text in ("pkcs11:token=t?pin-value=91827364", "pkcs11:token=t;pin-value=91827364", "91827364"):
        with pytest.raises(MalformedInput) as caught:
            parse_token_uri(text)
        assert "91827364" not in f"{caught.value} {caught.value.remedy}"
