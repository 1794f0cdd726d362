"""A dozen architectures of transformers in very small configurations, each with several weights in one folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

OTHER: Final = "other"
"""The variant, and the subfolder, that hold other weights than the model itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """An architecture.

    Attributes:
        head: name of the class of models that is saved.
        auto: name of the Auto class that finds it.
        config: name of the class of configurations.
        facts: what makes the configuration small.
        inputs: for a forward pass.
    """

    head: str
    auto: str
    config: str
    facts: dict[str, Any]
    inputs: Callable[[], dict[str, Any]]

    def save(self, folder: Path) -> Path:
        """Save a model; the same with other weights as a variant; and once more in a subfolder."""
        transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
        torch.manual_seed(3)
        config = getattr(transformers, self.config)(**self.facts)
        for place, variant in ((folder, None), (folder, OTHER), (folder / OTHER, None)):
            getattr(transformers, self.head)(config).save_pretrained(place, variant=variant)
        return folder

    def run(self, model: Any) -> Any:
        """Return the first result of a forward pass."""
        torch = pytest.importorskip("torch")
        inputs = {
            name: value.to(model.dtype) if value.is_floating_point() else value for name, value in self.inputs().items()
        }
        with torch.no_grad():
            return model(**inputs)[0]


def _text() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {"input_ids": torch.tensor([[1, 5, 7, 3]])}


def _text_pair() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {**_text(), "decoder_input_ids": torch.tensor([[1, 2]])}


def _image() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {"pixel_values": torch.linspace(0, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)}


_DECODER: Final = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.5,
}
_ENCODER: Final = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
}
_SEQUENCE: Final = {
    "vocab_size": 32,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 32,
    "init_std": 0.5,
}


def _causal(name: str, **facts: Any) -> Architecture:
    return Architecture(
        head=f"{name}ForCausalLM",
        auto="AutoModelForCausalLM",
        config=f"{name}Config",
        facts={**_DECODER, **facts},
        inputs=_text,
    )


ARCHITECTURES: Final = {
    "llama": _causal("Llama"),
    "mistral": _causal("Mistral"),
    "qwen2": _causal("Qwen2", tie_word_embeddings=True),
    "qwen3": _causal("Qwen3"),
    "mixtral": _causal("Mixtral", num_local_experts=2, num_experts_per_tok=1),
    "gemma2": _causal("Gemma2", query_pre_attn_scalar=8),
    "phi3": _causal("Phi3", pad_token_id=None),
    "gpt2": Architecture(
        head="GPT2LMHeadModel",
        auto="AutoModelForCausalLM",
        config="GPT2Config",
        facts={"vocab_size": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "initializer_range": 0.5},
        inputs=_text,
    ),
    "bert": Architecture(
        head="BertForSequenceClassification",
        auto="AutoModelForSequenceClassification",
        config="BertConfig",
        facts={**_ENCODER, "num_labels": 2},
        inputs=_text,
    ),
    "roberta": Architecture(
        head="RobertaForMaskedLM",
        auto="AutoModelForMaskedLM",
        config="RobertaConfig",
        facts={**_ENCODER, "pad_token_id": 1},
        inputs=_text,
    ),
    "bart": Architecture(
        head="BartForConditionalGeneration",
        auto="AutoModelForSeq2SeqLM",
        config="BartConfig",
        facts=_SEQUENCE,
        inputs=_text_pair,
    ),
    "vit": Architecture(
        head="ViTForImageClassification",
        auto="AutoModelForImageClassification",
        config="ViTConfig",
        facts={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
            "num_labels": 3,
            "initializer_range": 0.5,
        },
        inputs=_image,
    ),
}
"""By names for test ids."""
