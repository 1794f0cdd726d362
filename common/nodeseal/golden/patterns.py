"""Patterns for kernel command lines: literal words, and ``*`` where a value may vary.

A hostile command line can add a parameter (``init=/bin/sh``), or hide a required one behind a quote. A hasty regular
expression accepts both, or takes exponential time. So a pattern is matched word by word, in time linear in the line:

- words are separated by single spaces; pattern and line must have the same number of words;
- ``*`` stands for zero or more characters of one word;
- ``*`` never stands in a parameter's name: a ``=`` comes before it, or the word is a path (GRUB measures the kernel's
  path, ``/vmlinuz-*`` or ``(hd0,gpt2)/vmlinuz-*``, as the first word);
- a word with ``*`` matches no quotes, backslashes or unprintable characters: the kernel (``next_arg``) and systemd let
  these swallow the following words.
"""

from __future__ import annotations

from typing import Final

MAX_PATTERN: Final = 4096
"""Characters; x86 kernels take command lines of 2048, arm64 ones too."""
_ANY: Final = "*"
_QUOTES: Final = "\"'\\"
_PATHS: Final = ("/", "(")


def command_line_matches(pattern: str, line: str) -> bool:
    """Tell whether ``pattern`` matches the whole kernel command line."""
    if pattern.count(" ") != line.count(" "):
        return False
    return all(map(_word_matches, pattern.split(" "), line.split(" ")))


def pattern_fault(pattern: str) -> str:
    """Say what is wrong with a pattern, or return an empty text."""
    if not 0 < len(pattern) <= MAX_PATTERN or not pattern.isprintable():
        return f"1 to {MAX_PATTERN} printable characters"
    for word in pattern.split(" "):
        name, any_value, _ = word.partition(_ANY)
        if any_value and not set(word).isdisjoint(_QUOTES):
            return "free of quotes and backslashes in words with *"
        if any_value and "=" not in name and not name.startswith(_PATHS):
            return "naming each parameter: * stands only behind = or in a path"
    return ""


def _word_matches(wanted: str, word: str) -> bool:
    first, *rest = wanted.split(_ANY)
    if not rest:
        return wanted == word
    *middle, last = rest
    if len(word) < len(first) + len(last) or not (word.startswith(first) and word.endswith(last)):
        return False
    if not word.isprintable() or any(quote in word for quote in _QUOTES):
        return False
    return _holds_in_order(middle, word[len(first) : len(word) - len(last)])


def _holds_in_order(parts: list[str], text: str) -> bool:
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True
