"""Names of keys in PKCS#11 tokens: ``pkcs11:token=nodeseal;object=llama-70b;id=%01%02`` (RFC 7512).

Only the path attributes that choose a private key of one token are accepted. Query attributes are refused:
``pin-value`` would put a PIN into arguments, and ``module-path`` would let a caller choose which code the verifier
loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from nodeseal.errors import MalformedInput

SCHEME: Final = "pkcs11:"
MAX_URI: Final = 512
_MAX_LABEL: Final = 64
_MAX_ID: Final = 64
_ATTRIBUTES: Final = frozenset({"id", "object", "token", "type"})
# pk11-pchar of RFC 7512 §2.3: unreserved, percent-encoded, and the reserved ones that need no encoding in a path.
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """Name of a private key in a token, existing or to be made.

    Attributes:
        name: label of the token; empty: the one that the verifier is set up with.
        label: CKA_LABEL of the key; empty: any, or named for the model key when it is made.
        object_id: CKA_ID of the key; empty: any, or chosen when it is made.
    """

    name: str = ""
    label: str = ""
    object_id: bytes = b""

    def encode(self) -> str:
        """Return the URI; an id has all its bytes percent-encoded, as RFC 7512 §2.3 recommends."""
        parts = []
        if self.name:
            parts.append(f"token={_quoted(self.name)}")
        if self.label:
            parts.append(f"object={_quoted(self.label)}")
        if self.object_id:
            parts.append("id=" + "".join(f"%{byte:02X}" for byte in self.object_id))
        return SCHEME + ";".join(parts)


def parse_token_uri(text: str) -> TokenUri:
    """Parse a PKCS#11 URI.

    Raises:
        MalformedInput: no PKCS#11 URI; an attribute that is unknown or given twice; a value that is too long or not
            UTF-8.
    """
    if not text.startswith(SCHEME) or len(text) > MAX_URI:
        raise _wrong(f"not pkcs11:token=…;object=…, at most {MAX_URI} characters")
    if "?" in text:
        raise _wrong("query attributes are not taken; the PIN and the module stand in verifier.yaml")
    found = _attributes(text.removeprefix(SCHEME))
    if found.get("type", b"private") != b"private":
        raise _wrong("type is not private")
    if len(found.get("id", b"")) > _MAX_ID:
        raise _wrong(f"id has more than {_MAX_ID} bytes")
    return TokenUri(name=_text(found, "token"), label=_text(found, "object"), object_id=found.get("id", b""))


def _attributes(path: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in path.split(";") if path else ():
        name, equals, value = part.partition("=")
        if not equals or name not in _ATTRIBUTES or _VALUE.fullmatch(value) is None or not value:
            raise _wrong(f"not one of {', '.join(sorted(_ATTRIBUTES))} with a value: {name[:20]!a}")
        if name in found:
            raise _wrong(f"{name} is there twice")
        found[name] = unquote_to_bytes(value)
    return found


def _text(found: Mapping[str, bytes], name: str) -> str:
    try:
        text = found.get(name, b"").decode()
    except UnicodeDecodeError as error:
        raise _wrong(f"{name} is not UTF-8") from error
    if len(text) > _MAX_LABEL or not text.isprintable():
        raise _wrong(f"{name} is not printable, or has more than {_MAX_LABEL} characters")
    return text


def _quoted(text: str) -> str:
    return quote_from_bytes(text.encode(), safe="")


def _wrong(what: str) -> MalformedInput:
    return MalformedInput(f"PKCS#11 URI: {what}")  # never the text, which may hold a PIN: errors are logged
