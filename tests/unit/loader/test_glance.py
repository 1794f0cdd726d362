"""A look at a sealed model without any key: accidents are named, and nothing is decrypted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodeseal.loader.glance import glance
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
from support.sealed import Sample, label, sealed_model


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


def test_a_good_model_has_nothing_wrong(sample: Sample) -> None:
    assert list(glance(sample.directory, sample.content)) == ["", "", ""]


def cut(sample: Sample) -> None:
    sample.weights.write_bytes(sample.weights.read_bytes()[:-1])


def cut_in_the_header(sample: Sample) -> None:
    sample.weights.write_bytes(sample.weights.read_bytes()[:10])


def delete(sample: Sample) -> None:
    sample.weights.unlink()


def make_a_folder(sample: Sample) -> None:
    sample.weights.unlink()
    sample.weights.mkdir()


def leave_plaintext(sample: Sample) -> None:
    sample.weights.write_bytes((sample.plain / "model.safetensors").read_bytes())


def mix_versions(sample: Sample) -> None:
    other = sample.directory.parent / "other"
    seal_model(survey(sample.plain), other, [sample.key], label())
    sample.weights.write_bytes((other / "model.safetensors.sealed").read_bytes())


def change_meta(sample: Sample) -> None:
    raw = sample.weights.read_bytes()
    sample.weights.write_bytes(raw.replace(b'"model_id":"tiny"', b'"model_id":"tina"'))


def change_the_tag(sample: Sample) -> None:
    raw = bytearray(sample.weights.read_bytes())
    end = 16 + int.from_bytes(raw[12:16], "big") + 74
    raw[end - 1] ^= 1
    sample.weights.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "bytes, not"),
        (cut_in_the_header, "another file than was sealed"),
        (delete, "absent"),
        (make_a_folder, "another file than was sealed"),
        (leave_plaintext, "another file than was sealed"),
        (mix_versions, "another file than was sealed"),
        (change_meta, "another file than was sealed"),
        (change_the_tag, "another sealing of this file"),
    ],
)
def test_an_accident_to_the_weights_is_named(sample: Sample, spoil: Callable[[Sample], None], said: str) -> None:
    spoil(sample)
    config, weights, tokenizer = glance(sample.directory, sample.content)
    assert said in weights
    assert (config, tokenizer) == ("", "")


@pytest.mark.parametrize(
    ("content", "said"), [(b"{}", "2 bytes, not 26"), (b'{"architectures":["Tina"]}', "another content")]
)
def test_an_accident_to_a_readable_file_is_named(sample: Sample, content: bytes, said: str) -> None:
    (sample.directory / "config.json").write_bytes(content)
    assert next(iter(glance(sample.directory, sample.content))) == said


def test_other_content_is_not_found_without_a_key(sample: Sample) -> None:
    raw = bytearray(sample.weights.read_bytes())
    raw[-1] ^= 1
    sample.weights.write_bytes(raw)
    assert not any(glance(sample.directory, sample.content))
