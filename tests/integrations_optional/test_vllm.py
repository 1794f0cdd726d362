"""The real vLLM over a sealed model, where somebody installed it: see docs/integrations.md#vllm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import vllm_tokens
from support.llama import sealed_llama, tokens
from support.sealed import Sample

transformers = pytest.importorskip("transformers", reason="transformers is not installed here: make test-integrations")
pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed here (3.5 GB): see docs/integrations.md#vllm"
    ),
    pytest.mark.timeout(900),
]
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_llama(tmp_path_factory.mktemp("llama"))


def run(folder: Path, *key: Path) -> tuple[int, str]:
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
    }
    with subprocess.Popen(
        [sys.executable, vllm_tokens.__file__, folder, *key],
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
    return program.returncode, output


def key_file(sample: Sample) -> Path:
    (path,) = sample.directory.parent.glob("*.insecure")
    return path


def pieces(plain: Path) -> list[bytes]:
    """Return some bytes of every shard, which should be in no file but it."""
    contents = [path.read_bytes() for path in plain.glob("*.safetensors")]
    return [content[at : at + 48] for content in contents for at in range(10_000, len(content) - 48, 20_000)]


def test_a_sealed_model_says_in_vllm_what_the_plain_one_says_and_no_cache_holds_weights(pristine: Sample) -> None:
    code, output = run(pristine.directory, key_file(pristine))
    assert code == 0, output[-5000:]
    (line,) = (line for line in output.splitlines() if line.startswith("TOKENS "))
    plain = transformers.AutoModelForCausalLM.from_pretrained(pristine.plain)
    assert json.loads(line.removeprefix("TOKENS ")) == tokens(plain)
    left = [path for path in (pristine.directory.parent / "home").rglob("*") if path.is_file()]
    assert left, "vLLM keeps nothing in its cache, so this searches the wrong place"
    assert not [path for path in left if any(piece in path.read_bytes() for piece in pieces(pristine.plain))]


def test_a_flipped_byte_in_one_shard_stops_vllm_with_an_error_that_names_it(pristine: Sample, tmp_path: Path) -> None:
    shutil.copytree(pristine.directory, tmp_path / "llama")
    stored = tmp_path / "llama" / "model-00002-of-00003.safetensors.sealed"
    raw = bytearray(stored.read_bytes())
    raw[-1000] ^= 1
    stored.write_bytes(raw)
    code, output = run(tmp_path / "llama", key_file(pristine))
    assert code != 0
    assert "sealed.segment (model-00002-of-00003.safetensors.sealed)" in output
    assert "TOKENS" not in output


def test_without_the_plugin_vllm_finds_no_weights(pristine: Sample) -> None:
    code, output = run(pristine.directory)
    assert code != 0
    assert "Cannot find any model weights" in output
