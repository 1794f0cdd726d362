"""A tiny Llama with random weights, in several shards, as transformers saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.sealed import Sample, seal_folder

PROMPT = [1, 17, 42, 7, 99, 3]
NEW_TOKENS = 24


def llama_config(**changes: Any) -> Any:
    """Return the model's configuration."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed here")
    facts = {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "dtype": "float32",
        "initializer_range": 0.2,
    }
    return transformers.LlamaConfig(**{**facts, **changes})


def save_llama(folder: Path, **changes: Any) -> Path:
    """Save a model of several shards."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed here")
    torch = pytest.importorskip("torch")
    torch.manual_seed(7)
    model = transformers.LlamaForCausalLM(llama_config(**changes))
    model.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def sealed_llama(folder: Path, **changes: Any) -> Sample:
    """Seal such a model below ``folder``."""
    return seal_folder(save_llama(folder / "llama-plain", **changes), folder / "llama")


def tokens(model: Any) -> list[int]:
    """Generate greedily."""
    torch = pytest.importorskip("torch")
    made = model.generate(
        torch.tensor([PROMPT]), attention_mask=torch.ones(1, len(PROMPT)), max_new_tokens=NEW_TOKENS, do_sample=False
    )
    return [int(token) for token in made[0]]
