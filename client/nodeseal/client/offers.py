"""Words that a shell may complete: ids and names, asked for in a hurry, and nothing when anything goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nodeseal.client.config import load_client
from nodeseal.client.naming import WORD

if TYPE_CHECKING:
    from nodeseal.client.verifier import Verifier


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
        (word, meaning if WORD.fullmatch(meaning) else "")
        for word, meaning in found
        if word.startswith(beginning) and WORD.fullmatch(word)
    ]
