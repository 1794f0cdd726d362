"""The table of calls of ``from_pretrained``, plain against sealed, for a dozen architectures.

Each call gives the same logits as on the plain folder, or is refused with the argument's name. What the plain folder
refuses is refused, too. ``make test-integrations`` runs this.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import NodesealError
from support.architectures import ARCHITECTURES, OTHER
from support.sealed import Sample, seal_folder

REASON = "not installed here: make test-integrations"
torch = pytest.importorskip("torch", reason=f"PyTorch is {REASON}")
transformers = pytest.importorskip("transformers", reason=f"transformers is {REASON}")
sealed = pytest.importorskip("nodeseal.loader.transformers")
arguments = pytest.importorskip("nodeseal.loader.arguments")

Given = Callable[[Path], dict[str, Any]]
"""Makes the arguments of a call; the folder is the plain model's."""


def always(**given: Any) -> Given:
    return lambda _: given


def with_config(plain: Path) -> dict[str, Any]:
    config = transformers.AutoConfig.from_pretrained(plain)
    config.output_hidden_states = True
    return {"config": config}


EVERYWHERE: dict[str, Given] = {
    "nothing": always(),
    "variant": always(variant=OTHER),
    "subfolder": always(subfolder=OTHER),
    "config": with_config,
    "dtype": always(dtype="bfloat16"),
    "output_hidden_states": always(output_hidden_states=True),
    "attn_implementation": always(attn_implementation="eager"),
    "num_hidden_layers": always(num_hidden_layers=1),
    "nonsense": always(nonsense=1),
}
"""Calls that each architecture sees."""

ONCE: dict[str, Given] = {
    "variant that is absent": always(variant="absent"),
    "variant in a subfolder": always(variant=OTHER, subfolder=OTHER),
    "subfolder that is absent": always(subfolder="absent"),
    "config of a path": lambda plain: {"config": str(plain)},
    "num_labels": always(num_labels=2),
    "id2label": always(id2label={0: "no", 1: "yes"}),
    "use_cache": always(use_cache=False),
    "vocab_size": always(vocab_size=48),
    "vocab_size, ignore_mismatched_sizes": always(vocab_size=48, ignore_mismatched_sizes=True),
    "max_new_tokens": always(max_new_tokens=3),
    "dtype auto": always(dtype="auto"),
    "dtype of torch": always(dtype=torch.float64),
    "torch_dtype": always(torch_dtype="bfloat16"),
    "device_map": always(device_map="cpu"),
    "device_map auto": always(device_map="auto"),
    "device_map to disk": always(device_map={"": "disk"}),
    "max_memory": always(device_map="auto", max_memory={"cpu": "1GB"}),
    "low_cpu_mem_usage": always(low_cpu_mem_usage=True),
    "attn_implementation sdpa": always(attn_implementation="sdpa"),
    "attn_implementation of a hub": always(attn_implementation="org/kernel"),
    "attn_implementation that is none": always(attn_implementation="none-such"),
    "experts_implementation": always(experts_implementation="eager"),
    "experts_implementation of a hub": always(experts_implementation="org/kernel"),
    "use_safetensors": always(use_safetensors=True),
    "use_safetensors not": always(use_safetensors=False),
    "output_loading_info": always(output_loading_info=True),
    "generation_config": lambda _: {"generation_config": transformers.GenerationConfig(max_new_tokens=3)},
    "local_files_only": always(local_files_only=True),
    "revision": always(revision="main"),
    "revision of another": always(revision="v2"),
    "code_revision": always(code_revision="v2"),
    "cache_dir": always(cache_dir="elsewhere"),
    "token": always(token="none"),  # noqa: S106 - no secret
    "force_download": always(force_download=True),
    "proxies": always(proxies={"https": "127.0.0.1:1"}),
    "state_dict": always(state_dict={}),
    "from_tf": always(from_tf=True),
    "from_flax": always(from_flax=True),
    "gguf_file": always(gguf_file="model.gguf"),
    "offload_folder": always(offload_folder="elsewhere"),
    "offload_buffers": always(offload_buffers=True),
    "offload_state_dict": always(offload_state_dict=True),
    "key_mapping": always(key_mapping={"^model.norm": "model.norm"}),
    "weights_only": always(weights_only=False),
    "trust_remote_code": always(trust_remote_code=True),
    "quantization_config": always(quantization_config={"quant_method": "none-such"}),
    "adapter_kwargs": always(adapter_kwargs={"subfolder": "elsewhere"}),
    "adapter_name": always(adapter_name="one"),
    "use_kernels": always(use_kernels=True),
    "kernel_config": always(kernel_config={}),
    "allow_all_kernels": always(allow_all_kernels=True),
    "fusion_config": always(fusion_config={}),
    "disable_mmap": always(disable_mmap=True),
    "mirror": always(mirror="elsewhere"),
    "_commit_hash": always(_commit_hash="0" * 40),
    "add_pooling_layer": always(add_pooling_layer=False),
}
"""Calls that one architecture sees."""

CALLS = [(name, call, given) for name in ARCHITECTURES for call, given in EVERYWHERE.items()]
CALLS += [("llama", call, given) for call, given in ONCE.items()]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """All architectures, plain and sealed."""
    folder = tmp_path_factory.mktemp("architectures")
    return {name: seal_folder(one.save(folder / f"{name}-plain"), folder / name) for name, one in ARCHITECTURES.items()}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no call reach for a hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def result(name: str, load: Callable[..., Any], given: dict[str, Any]) -> tuple[Any, Exception | None]:
    """Return the logits of a call, or its error."""
    torch.manual_seed(11)  # where weights may be filled with random values, those are the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = load(**given)
            return ARCHITECTURES[name].run(made[0] if isinstance(made, tuple) else made), None
        except Exception as error:  # noqa: BLE001 - whatever the library raises
            return None, error


@pytest.mark.parametrize(("name", "call", "given"), CALLS, ids=[f"{name}-{call}" for name, call, _ in CALLS])
def test_each_call_gives_the_same_logits_or_a_refusal_that_names_the_argument(
    samples: dict[str, Sample], name: str, call: str, given: Given
) -> None:
    sample = samples[name]
    auto = getattr(transformers, ARCHITECTURES[name].auto)
    asked = given(sample.plain)
    plain, _ = result(name, lambda **kwargs: auto.from_pretrained(sample.plain, **kwargs), given(sample.plain))
    made, error = result(
        name, lambda **kwargs: sealed.from_pretrained(sample.directory, auto, keys=sample.keys, **kwargs), asked
    )
    if error is None:
        assert plain is not None, f"the plain folder refuses {call}, the sealed one loads"
        assert plain.dtype == made.dtype
        assert torch.equal(plain, made), f"{call}: other weights"
    elif plain is not None:
        assert isinstance(error, NodesealError | ValueError), error
        assert any(argument in str(error) for argument in asked), error


def test_the_table_has_every_argument_that_the_library_documents() -> None:
    documented = set(inspect.signature(transformers.PreTrainedModel.from_pretrained).parameters)
    known = arguments.PASSED | arguments.KERNELS | arguments.HANDLED | arguments._REFUSED.keys()
    assert documented - {"pretrained_model_name_or_path", "model_args", "kwargs"} <= known
