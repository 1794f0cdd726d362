"""The format page, a stored vector and a second reader agree with each other and with the loader."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.loader import InsecureFileKeys, open_model
from support import independent
from support.data import ROOT
from support.sealed import Sample, key_file, sealed_model

VECTOR = ROOT / "tests" / "vectors" / "sealed-tiny"
KEY = ROOT / "tests" / "vectors" / "sealed-tiny.key"
PAGE = ROOT / "docs" / "sealed-format.md"
PLAINTEXT = {
    "config.json": b'{"architectures": ["Tiny"]}',
    "tiny.gguf": b"weights!" * 4,
    "two.gguf": bytes(index % 251 for index in range(1 << 18)),
}


def test_the_loader_opens_the_vector() -> None:
    with open_model(VECTOR, InsecureFileKeys(KEY)) as model:
        assert {file.path: bytes(model.read(file.path)) for file in model.files()} == PLAINTEXT


def test_the_second_reader_opens_the_vector() -> None:
    assert independent.open_directory(VECTOR, KEY) == PLAINTEXT


@pytest.mark.parametrize("suite", Suite)
def test_the_second_reader_opens_what_the_sealer_writes_today(tmp_path: Path, suite: Suite) -> None:
    sample: Sample = sealed_model(tmp_path, suite=suite)
    opened = independent.open_directory(sample.directory, key_file(tmp_path, sample.key, sample.private))
    assert opened == {
        str(path.relative_to(sample.plain)): path.read_bytes() for path in sample.plain.rglob("*") if path.is_file()
    }


def test_the_generator_makes_such_a_vector_and_the_page_s_example(tmp_path: Path) -> None:
    generator = ROOT / "tests" / "vectors" / "sealed-generate.py"
    made = subprocess.run([sys.executable, generator, tmp_path], capture_output=True, text=True, check=True)
    assert independent.open_directory(tmp_path / "sealed-tiny", tmp_path / "sealed-tiny.key") == PLAINTEXT
    annotation = re.compile(r"^[0-9a-f]{4}  (?:.{47}|\.\.)  (.+)$", re.MULTILINE)
    shown = annotation.findall(PAGE.read_text())
    assert len(shown) > 10
    assert annotation.findall(made.stdout) == shown


def test_the_second_reader_shares_no_code_with_the_first() -> None:
    tree = ast.parse(Path(independent.__file__).read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [module for module in modules if "nodeseal" in module or "support" in module]


def test_the_example_of_the_page_is_the_vector() -> None:
    raw = (VECTOR / "tiny.gguf.sealed").read_bytes()
    lines = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)", PAGE.read_text(), re.MULTILINE)
    shown = {int(at, 16) + index for at, text in lines for index in range(len(bytes.fromhex(text)))}
    assert len(lines) > 20
    for at, text in lines:
        chunk = bytes.fromhex(text)
        assert raw[int(at, 16) : int(at, 16) + len(chunk)] == chunk
    assert not any(raw[index] for index in range(len(raw)) if index not in shown)
