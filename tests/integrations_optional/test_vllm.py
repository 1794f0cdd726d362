"""The real vLLM over a sealed model, where somebody installed it: see docs/integrations/vllm.md."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
from support import vllm_tokens
from support.data import TESTS
from support.llama import save_llama, sealed_llama, tokens
from support.sealed import Sample, label, seal_folder

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here (3.5 GB): see docs/integrations/vllm.md", allow_module_level=True)
transformers = pytest.importorskip("transformers", reason="transformers is not installed here: make test-integrations")
safetensors = pytest.importorskip("safetensors.torch")
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning"),  # PEFT's
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_llama(tmp_path_factory.mktemp("llama"))


class Run(NamedTuple):
    """What came of a program."""

    pid: int
    code: int
    output: str

    def tokens(self) -> list[int]:
        """Return what it generated."""
        assert self.code == 0, self.output[-5000:]
        (line,) = (line for line in self.output.splitlines() if line.startswith("TOKENS "))
        generated: list[int] = json.loads(line.removeprefix("TOKENS "))
        return generated


def run(folder: Path, *arguments: Path | str, **variables: str) -> Run:
    """Run vLLM in processes of its own, all of which end here."""
    home = folder.parent / "home"
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(TESTS),
        "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor"),
        "VLLM_CACHE_ROOT": str(home / "vllm"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        **variables,
    }
    with subprocess.Popen(
        [sys.executable, vllm_tokens.__file__, folder, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            output, _ = program.communicate(timeout=400)
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
    return Run(program.pid, program.returncode, output)


def with_key(sample: Sample) -> tuple[str, Path]:
    (path,) = sample.directory.parent.glob("*.insecure")
    return "--key", path


def plain_tokens(sample: Sample) -> list[int]:
    return tokens(transformers.AutoModelForCausalLM.from_pretrained(sample.plain))


def pieces(plain: Path) -> list[bytes]:
    """Return some bytes of every shard, which should be in no file but it."""
    contents = [path.read_bytes() for path in plain.glob("*.safetensors")]
    return [content[at : at + 48] for content in contents for at in range(10_000, len(content) - 48, 20_000)]


def test_a_sealed_model_says_in_vllm_what_the_plain_one_says_and_no_cache_holds_weights(pristine: Sample) -> None:
    assert run(pristine.directory, *with_key(pristine)).tokens() == plain_tokens(pristine)
    left = [path for path in (pristine.directory.parent / "home").rglob("*") if path.is_file()]
    assert left, "vLLM keeps nothing in its cache, so this searches the wrong place"
    assert not [path for path in left if any(piece in path.read_bytes() for piece in pieces(pristine.plain))]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks of vLLM want a processor each")
def test_workers_alone_ask_for_keys_and_tensor_parallel_ranks_decrypt_their_share_alone(
    pristine: Sample, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    settings = {vllm_tokens.WATCH: str(told), "VLLM_CPU_OMP_THREADS_BIND": "0|1"}
    made = run(pristine.directory, *with_key(pristine), "--ranks", "2", **settings)
    assert made.tokens() == plain_tokens(pristine)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    askers = [pid for pid, *what in lines if what == ["key"]]
    assert len(askers) == len(set(askers)) == 2
    assert made.pid not in askers
    names = set(json.loads((pristine.plain / "model.safetensors.index.json").read_text())["weight_map"])
    for worker in askers:
        shares = {what[0]: what[1] / what[2] for pid, *what in lines if pid == worker and what != ["key"]}
        assert shares == {name: 1 if "norm" in name else 1 / 2 for name in names}


def test_a_sealed_adapter_says_what_the_plain_one_says(pristine: Sample, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed here: make test-integrations")
    torch = pytest.importorskip("torch")
    base = transformers.AutoModelForCausalLM.from_pretrained(pristine.plain)
    made = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    made.save_pretrained(tmp_path / "plain")
    directory = tmp_path / "adapter"
    seal_model(survey(tmp_path / "plain"), directory, [pristine.key], label("adapter"))
    adapted = run(pristine.directory, *with_key(pristine), "--lora", directory).tokens()
    assert adapted == tokens(made)
    assert adapted != plain_tokens(pristine)


def copy_of(sample: Sample, folder: Path) -> Sample:
    (key,) = sample.directory.parent.glob("*.insecure")
    shutil.copy(key, folder)
    return sample.copied_to(folder / "llama")


def test_a_flipped_byte_in_one_shard_stops_vllm_with_an_error_that_names_it(pristine: Sample, tmp_path: Path) -> None:
    sample = copy_of(pristine, tmp_path)
    stored = sample.directory / "model-00002-of-00003.safetensors.sealed"
    raw = bytearray(stored.read_bytes())
    raw[-1000] ^= 1
    stored.write_bytes(raw)
    made = run(sample.directory, *with_key(sample))
    assert made.code != 0
    assert "sealed.segment (model-00002-of-00003.safetensors.sealed)" in made.output
    assert "TOKENS" not in made.output


def test_a_weight_that_was_never_sealed_stops_vllm_with_an_error_that_names_it(tmp_path: Path) -> None:
    plain = save_llama(tmp_path / "plain")
    (single,) = [path for path in plain.glob("*.safetensors") if b"model.norm.weight" in path.read_bytes()]
    tensors = safetensors.load_file(single)
    del tensors["model.norm.weight"]
    safetensors.save_file(tensors, single, metadata={"format": "pt"})
    index = plain / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    del document["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(document))
    sample = seal_folder(plain, tmp_path / "llama")
    made = run(sample.directory, *with_key(sample))
    assert made.code != 0
    assert "1 weights are missing from the sealed files: model.norm.weight" in made.output


def test_without_the_plugin_vllm_finds_no_weights(pristine: Sample) -> None:
    made = run(pristine.directory)
    assert made.code != 0
    assert "Cannot find any model weights" in made.output
