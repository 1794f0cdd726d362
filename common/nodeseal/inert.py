"""Text that a terminal shows and does not obey: the one place that spells out control characters."""

from __future__ import annotations


def inert(text: str) -> str:
    r"""Return ``text`` with every character spelled out (``\x1b``) that a terminal could obey or hide."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
