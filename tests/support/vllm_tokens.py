"""A program: generate tokens with vLLM from the model in the folder named first; a second argument names a key file."""

from __future__ import annotations

import json
import sys

from support.llama import NEW_TOKENS, PROMPT


def main() -> None:
    """Print the tokens as JSON."""
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - far too heavy to import with the tests

    folder, *key = sys.argv[1:]
    sealed = {"load_format": "nodeseal", "model_loader_extra_config": {"insecure_key_file": key[0]}} if key else {}
    engine = LLM(
        folder,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=128,
        dtype="float32",
        gpu_memory_utilization=0.1,
        **sealed,
    )
    settings = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, detokenize=False)
    (made,) = engine.generate({"prompt_token_ids": PROMPT}, settings)
    print("TOKENS", json.dumps(PROMPT + list(made.outputs[0].token_ids)))  # noqa: T201 - what this program is for


if __name__ == "__main__":
    main()
