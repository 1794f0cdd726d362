"""Sealed adapters, on PEFT's way and on transformers' own; ``make test-integrations`` runs this."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.loader import open_model
from support.architectures import ARCHITECTURES
from support.damage import flip
from support.sealed import Sample, seal_folder

REASON = "not installed here: make test-integrations"
torch = pytest.importorskip("torch", reason=f"PyTorch is {REASON}")
transformers = pytest.importorskip("transformers", reason=f"transformers is {REASON}")
peft = pytest.importorskip("peft", reason=f"peft is {REASON}")
sealed = pytest.importorskip("nodeseal.loader.transformers")
adapters = pytest.importorskip("nodeseal.loader.peft")

# PEFT asks transformers for what it calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")

LLAMA = ARCHITECTURES["llama"]
WEIGHTS = "adapter_model.safetensors"


def save_adapter(base: Any, folder: Path, seed: int = 5, **options: Any) -> Path:
    """Save an adapter with random weights, which change what the model says."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    made = peft.get_peft_model(base, config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "plain"
    return LLAMA.save(folder)


@pytest.fixture(scope="module")
def adapter(plain: Path) -> Sample:
    save_adapter(base(plain), plain.parent / "lora-plain")
    return seal_folder(plain.parent / "lora-plain", plain.parent / "lora")


def base(plain: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(plain)


def test_an_adapter_of_peft_gives_the_same_logits(plain: Path, adapter: Sample) -> None:
    expected = LLAMA.run(peft.PeftModel.from_pretrained(base(plain), adapter.plain))
    made = adapters.from_pretrained(base(plain), adapter.directory, keys=adapter.keys)
    assert torch.equal(LLAMA.run(made), expected)
    assert not torch.equal(LLAMA.run(base(plain)), expected)
    assert not made.training


def test_a_second_adapter_joins_the_first(plain: Path, adapter: Sample, tmp_path: Path) -> None:
    other = seal_folder(save_adapter(base(plain), tmp_path / "plain", seed=6), tmp_path / "sealed")
    expected = peft.PeftModel.from_pretrained(base(plain), other.plain)
    made = adapters.from_pretrained(base(plain), adapter.directory, "first", keys=adapter.keys)
    adapters.load_adapter(made, other.directory, "second", keys=other.keys)
    made.set_adapter("second")
    assert torch.equal(LLAMA.run(made), LLAMA.run(expected))


def test_an_adapter_of_transformers_gives_the_same_logits(plain: Path, adapter: Sample) -> None:
    expected, made = base(plain), base(plain)
    expected.load_adapter(str(adapter.plain))
    with open_model(adapter.directory, adapter.keys) as model:
        adapters.load_adapter(made, model)
    assert torch.equal(LLAMA.run(made), LLAMA.run(expected))


def test_an_adapter_in_the_models_folder_is_loaded_with_it(plain: Path, tmp_path: Path) -> None:
    both = shutil.copytree(plain, tmp_path / "plain")
    save_adapter(base(plain), both)
    sample = seal_folder(both, tmp_path / "sealed")
    auto = transformers.AutoModelForCausalLM
    expected = LLAMA.run(auto.from_pretrained(both))
    made = sealed.from_pretrained(sample.directory, auto, keys=sample.keys)
    assert torch.equal(LLAMA.run(made), expected)
    assert not torch.equal(LLAMA.run(base(plain)), expected)


def test_an_adapter_in_a_subfolder_is_loaded_from_there(plain: Path, adapter: Sample, tmp_path: Path) -> None:
    shutil.copytree(adapter.plain, tmp_path / "plain" / "lora")
    sample = seal_folder(tmp_path / "plain", tmp_path / "sealed")
    made = adapters.from_pretrained(base(plain), sample.directory, keys=sample.keys, subfolder="lora")
    expected = adapters.from_pretrained(base(plain), adapter.directory, keys=adapter.keys)
    assert torch.equal(LLAMA.run(made), LLAMA.run(expected))
    with pytest.raises(MalformedInput, match=r"no adapter_config\.json"):
        adapters.from_pretrained(base(plain), sample.directory, keys=sample.keys)


def test_an_adapter_alone_is_no_model(adapter: Sample) -> None:
    with pytest.raises(MalformedInput, match="adapter without its base model"):
        sealed.from_pretrained(adapter.directory, transformers.AutoModelForCausalLM, keys=adapter.keys)


def drop_one(tensors: dict[str, Any]) -> None:
    tensors.pop(min(tensors))


def add_one(tensors: dict[str, Any]) -> None:
    tensors["base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.ones(2, 16)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop_one, ("1 missing: .*lora_A", "allow_missing")),
        (add_one, (r"1 unexpected: .*layers\.7", "allow_unexpected")),
    ],
)
def test_weights_that_are_missing_or_unexpected_are_refused_unless_allowed(
    plain: Path, adapter: Sample, tmp_path: Path, change: Callable[[dict[str, Any]], None], told: tuple[str, str]
) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - an extra

    message, allowed = told
    copied = shutil.copytree(adapter.plain, tmp_path / "plain")
    tensors = load_file(copied / WEIGHTS)
    change(tensors)
    save_file(tensors, copied / WEIGHTS)
    sample = seal_folder(copied, tmp_path / "sealed")
    with warnings.catch_warnings(action="ignore"):  # PEFT's own
        with pytest.raises(MalformedInput, match=message):
            adapters.from_pretrained(base(plain), sample.directory, keys=sample.keys)
        adapters.from_pretrained(base(plain), sample.directory, keys=sample.keys, **{allowed: ["base_model.*"]})
    with pytest.raises(MalformedInput, match="not those of the adapter"):
        adapters.load_adapter(base(plain), sample.directory, keys=sample.keys)


def test_a_flipped_bit_in_an_adapter_is_refused(plain: Path, adapter: Sample, tmp_path: Path) -> None:
    sample = adapter.copied_to(tmp_path / "lora")
    flip(sample.directory / f"{WEIGHTS}.sealed")
    with pytest.raises(ProofFailed, match=WEIGHTS):
        adapters.from_pretrained(base(plain), sample.directory, keys=sample.keys)


@pytest.mark.parametrize(
    "options",
    [{"revision": "v2"}, {"adapter_state_dict": {"a": 1}}, {"cache_dir": "x"}],
    ids=lambda options: next(iter(options)),
)
def test_arguments_that_cannot_be_honoured_are_refused(plain: Path, adapter: Sample, options: dict[str, Any]) -> None:
    for load in (adapters.from_pretrained, adapters.load_adapter):
        with pytest.raises(ValueError, match=next(iter(options))):
            load(base(plain), adapter.directory, keys=adapter.keys, **options)
