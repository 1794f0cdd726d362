"""A node chooses its host name; a shell is offered no word that it would take for more than a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeseal.client import channel, offers

WORDS = [("gpu-1", "n-a"), ("gpu-$(reboot)", "n-b"), ("gpu-2", "\x1b[2Jn-c"), ("gpu-3\nrm", "n-d"), ("other", "n-e")]


@pytest.fixture(autouse=True)
def verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def hurried_channel(_config: object) -> Iterator[object]:
        yield None

    monkeypatch.setattr(channel, "hurried_channel", hurried_channel)
    monkeypatch.setattr(offers, "load_client", lambda _path: None)


def test_words_that_begin_as_typed_are_offered_if_they_are_words() -> None:
    assert offers.offered_words(Path(), "gpu", lambda _verifier: WORDS) == [("gpu-1", "n-a"), ("gpu-2", "")]


def test_nothing_is_offered_after_a_failure() -> None:
    def fail(_verifier: object) -> Iterator[tuple[str, str]]:
        raise RuntimeError

    assert offers.offered_words(Path(), "", fail) == []
