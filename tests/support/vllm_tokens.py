"""Program that generates tokens with vLLM from the model in a folder; ``--help`` lists its options.

With ``VLLM_TOKENS_WATCH`` in its environment, all of its processes add lines to that file: who asked for keys, and how
many elements of which weight were decrypted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

from nodeseal.loader import InsecureFileKeys, Lease
from nodeseal.loader.tensor_slice import TensorSlice
from nodeseal.sealed.slots import Slots
from support.llama import NEW_TOKENS, PROMPT

WATCH = "VLLM_TOKENS_WATCH"


def _watch(told: Path) -> None:
    """Tell of keys and of weights; at import, as vLLM starts processes that import this anew or are forked."""
    open_keys, read = InsecureFileKeys.open, TensorSlice.__getitem__

    def tell(*facts: object) -> None:
        with told.open("a") as file:
            file.write(json.dumps([os.getpid(), *facts]) + "\n")

    def open_and_tell(self: InsecureFileKeys, slots: Slots) -> Lease:
        tell("key")
        return open_keys(self, slots)

    def read_and_tell(self: TensorSlice, index: Any) -> Any:
        tensor = read(self, index)
        tell(self._entry.name, tensor.numel(), math.prod(self.get_shape()))
        return tensor

    InsecureFileKeys.open = open_and_tell  # type: ignore[method-assign] # of this program
    TensorSlice.__getitem__ = read_and_tell  # type: ignore[method-assign] # of this program


if WATCH in os.environ:
    _watch(Path(os.environ[WATCH]))


def main() -> None:
    """Print the tokens as JSON."""
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - far too heavy to import with the tests
    from vllm.lora.request import LoRARequest  # noqa: PLC0415 - see above

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--key", help="file with a model's private key; the model is sealed")
    parser.add_argument("--ranks", type=int, default=1, help="processes that share each weight")
    parser.add_argument("--lora", help="folder of an adapter, sealed or not")
    given = parser.parse_args()
    extra = {"insecure_key_file": given.key}
    sealed = {"load_format": "nodeseal", "model_loader_extra_config": extra} if given.key else {}
    engine = LLM(
        given.folder,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=128,
        dtype="float32",
        gpu_memory_utilization=0.1,
        tensor_parallel_size=given.ranks,
        **sealed,
        **({"enable_lora": True, "max_lora_rank": 8} if given.lora else {}),
    )
    settings = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, detokenize=False)
    adapter = LoRARequest("adapter", 1, given.lora) if given.lora else None
    (made,) = engine.generate({"prompt_token_ids": PROMPT}, settings, lora_request=adapter)
    print("TOKENS", json.dumps(PROMPT + list(made.outputs[0].token_ids)))  # noqa: T201 - what this program is for


if __name__ == "__main__":
    main()
