"""Spelling of paths in goldens: plain ASCII, one spelling for each sequence of bytes that the kernel measures.

Bytes that are not printable ASCII, and ``%`` itself, are written as ``%`` and two upper-case hex digits
(percent-encoding, RFC 3986 §2.1): ``/usr/share/F%C5%91.crt``. So no two paths look alike to an approver. All other
characters, backslashes and spaces included, stand for themselves.
"""

from __future__ import annotations

import re

from nodeseal.errors import MalformedInput

MAX_MEASURED_PATH = 4096
"""Bytes of a path (PATH_MAX of Linux)."""
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}
_SPELLING = re.compile(r"([ -$&-~]|%(0[1-9A-F]|1[0-9A-F]|25|7F|[89A-F][0-9A-F]))+")
_LEAST_PARTS = 2


def path_text(raw: bytes) -> str:
    """Return the spelling of a path."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)


def path_bytes(text: str) -> bytes:
    """Return the path that ``text`` spells.

    Raises:
        MalformedInput: empty, longer than :data:`MAX_MEASURED_PATH`, or not the one spelling of a path.
    """
    if _SPELLING.fullmatch(text):
        raw = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
        if len(raw) <= MAX_MEASURED_PATH:
            return raw
    raise MalformedInput(
        f"not a path in its one spelling: {text[:80]!a}",
        remedy="write bytes that are not printable ASCII, and %, as %XX",
    )


def exclude_fault(text: str) -> str:
    """Say what is wrong with an exclude, or return an empty text.

    An exclude lets anything run from its path. So it must name one file, or one folder at least two levels deep, and
    must not look like a pattern.
    """
    parts = text.removesuffix("/").split("/")[1:]
    if not text.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "an absolute path without empty parts, . or .."
    if any(mark in text for mark in "*?[]{}"):
        return "a path without wildcards, of a file or of a folder with a final /"
    if len(parts) < _LEAST_PARTS:
        return f"narrow: a path of at least {_LEAST_PARTS} parts"
    return ""
