"""Attack s11: a configuration names code or kernels of a hub, in any field that a framework resolves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.loader import open_model
from nodeseal.loader.readable import readable_folder
from nodeseal.loader.references import check_references
from support.sealed import seal_files

GOOD: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attn_implementation": "sdpa",
    "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"},
    "_name_or_path": "meta-llama/Llama-3.1-8B",
    "text_config": {"_attn_implementation": "flash_attention_2", "experts_implementation": "grouped_mm"},
}
KERNELS: list[dict[str, Any]] = [
    {"attn_implementation": "evil/kernel"},
    {"_attn_implementation": "evil/kernel@main"},
    {"_attn_implementation_internal": "evil/kernel:function"},
    {"experts_implementation": "evil/kernel"},
    {"attn_implementation": "flash|evil/kernel"},
    {"attn_implementation": {"text_config": "evil/kernel"}},
    {"attn_implementation": {"text_config": {"decoder": ["evil/kernel"]}}},
    {"text_config": {"deeper": [{"_attn_implementation": "evil/kernel"}]}},
]


def check(folder: Path, config: dict[str, Any], *, trust: bool, name: str = "config.json") -> None:
    sample = seal_files(folder, {name: json.dumps(config).encode(), "model.safetensors": b"w"})
    with open_model(sample.directory, sample.keys) as model, readable_folder(model) as readable:
        check_references(readable, trust_remote_code=trust)


@pytest.mark.parametrize("trust", [False, True])
def test_s11_a_configuration_that_names_nothing_of_a_hub_passes(tmp_path: Path, trust: bool) -> None:  # noqa: FBT001 - a column
    check(tmp_path, GOOD, trust=trust)


@pytest.mark.parametrize("change", KERNELS, ids=str)
def test_s11_kernels_of_a_hub_need_trust(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput, match="kernel of a hub"):
        check(tmp_path / "refused", GOOD | change, trust=False)
    check(tmp_path / "trusted", GOOD | change, trust=True)


@pytest.mark.parametrize("name", ["processor_config.json", "generation_config.json", "text_encoder/config.json"])
def test_s11_it_is_found_in_every_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(MalformedInput, match="kernel of a hub"):
        check(tmp_path, GOOD | KERNELS[0], trust=False, name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil/code--modeling.Theirs"}},
        {"text_config": {"auto_map": {"AutoModel": ["evil/code--modeling.Theirs"]}}},
    ],
    ids=str,
)
def test_s11_code_of_another_repository_is_never_run(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput, match="code of another repository"):
        check(tmp_path, GOOD | change, trust=True)
