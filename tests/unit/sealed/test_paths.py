"""Paths of a sealed model: one spelling, nothing that leaves the directory."""

from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.sealed.paths import parse_path, refuse_collisions


@pytest.mark.parametrize(
    "path", ["a", "model.safetensors", "a/b/c.json", ".gitattributes", "1_Pooling/config.json", "é"]
)
def test_a_path_is_accepted(path: str) -> None:
    assert parse_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a/",
        "a//b",
        "./a",
        "a/./b",
        "../a",
        "a/../../b",
        "..",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x1b[2Jb",
        "e\u0301",
        "a\u202eb",
        "a" * 249,
        "é" * 125,
        "a/" * 512 + "a",
        "nodeseal.model.json",
        "NodeSeal.Slots.JSON",
        "nodeseal.slots.json/a",
    ],
)
def test_a_path_is_refused(path: str) -> None:
    with pytest.raises(MalformedInput):
        parse_path(path)


def test_paths_that_differ_do_not_collide() -> None:
    refuse_collisions(["a", "b/a", "b/c", "bb"])


@pytest.mark.parametrize(
    ("why", "paths"),
    [
        ("twice", ["a", "a"]),
        ("case", ["model.bin", "Model.bin"]),
        ("compatibility form", ["file", "\ufb01le"]),  # the ligature fi
        ("sharp s", ["strasse", "straße"]),
        ("file and folder", ["a", "a/b"]),
        ("folder and file", ["a/b", "A"]),
    ],
)
def test_paths_that_are_one_file_somewhere_collide(why: str, paths: list[str]) -> None:
    with pytest.raises(MalformedInput, match="collide"):
        refuse_collisions(paths)
    assert why
