"""Words that a shell may complete: ids and names, asked for in a hurry, and nothing when anything goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodeseal.client.config import load_client

if TYPE_CHECKING:
    from nodeseal.client.verifier import Verifier

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,252}")
"""What a shell takes as a word. A node chooses its host name, which may be meant for the command line of a person."""


def offered_words(
    client: Path, beginning: str, words: Callable[[Verifier], Iterable[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """Return the words that begin as somebody has typed, each with what it stands for; none after any failure.

    Args:
        client: folder of the client settings.
        beginning: what was typed.
        words: makes words, with what they stand for, of the verifier's lists.
    """
    try:
        from nodeseal.client.channel import hurried_channel  # noqa: PLC0415 - gRPC is slow to load

        with hurried_channel(load_client(client)) as verifier:
            found = list(words(verifier))
    except Exception:  # noqa: BLE001 - a shell that completes shows no errors
        return []
    return [
        (word, meaning if _SAFE.fullmatch(meaning) else "")
        for word, meaning in found
        if word.startswith(beginning) and _SAFE.fullmatch(word)
    ]
