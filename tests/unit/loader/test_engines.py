"""The loaders for vLLM and SGLang against stand-ins for both; ``tests/integrations_optional`` runs what installs."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from nodeseal.errors import ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.loader import AgentKeys, InsecureFileKeys, open_model
from support.engines import Formats, LoadConfig, Model, ModelConfig, fake_engines, imported
from support.sealed import Sample, seal_files

TENSORS = {"model.embed": np.arange(300_000, dtype="<f4"), "model.norm": np.arange(7, dtype="<i4")}
PRIVATE = "sglang.private.private_model_loader"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return seal_files(tmp_path_factory.mktemp("model"), {"model.safetensors": save(TENSORS), "config.json": b"{}"})


@pytest.fixture
def formats() -> Iterator[Formats]:
    with fake_engines() as formats:
        yield formats


def settings(sample: Sample) -> LoadConfig:
    (key,) = sample.directory.parent.glob("*.insecure")
    return LoadConfig({"insecure_key_file": str(key)})


def load_with_vllm(sample: Sample, model: Model, **config: Any) -> Model:
    imported("vllm").VllmModelLoader(settings(sample)).load_weights(model, ModelConfig(str(sample.directory), **config))
    return model


def load_with_sglang(sample: Sample, model: Model, **config: Any) -> Model:
    loader = imported("sglang").sealed_model_loader(settings(sample))
    loaded: Model = loader.load_model(model_config=ModelConfig(str(sample.directory), **config), device_config=model)
    return loaded


ENGINES = pytest.mark.parametrize("load", [load_with_vllm, load_with_sglang])


@ENGINES
@pytest.mark.usefixtures("formats")
def test_all_weights_arrive(pristine: Sample, load: Any) -> None:
    model = load(pristine, Model(*TENSORS))
    assert model.values.keys() == TENSORS.keys()
    assert all(np.array_equal(model.values[name], tensor) for name, tensor in TENSORS.items())


@ENGINES
@pytest.mark.usefixtures("formats")
def test_a_flipped_byte_stops_the_engine(pristine: Sample, tmp_path: Path, load: Any) -> None:
    sample = pristine.copied_to(tmp_path / "copy")
    raw = bytearray(sample.weights.read_bytes())
    raw[-100] ^= 1
    sample.weights.write_bytes(raw)
    (key,) = pristine.directory.parent.glob("*.insecure")
    shutil.copy(key, tmp_path)
    with pytest.raises(ProofFailed, match=r"model\.safetensors\.sealed"):
        load(sample, Model(*TENSORS))


class Forgetful(Model):
    """Stops after the first weight."""

    def load_weights(self, weights: Iterator[tuple[str, Any]]) -> set[str]:
        name, tensor = next(weights)
        self.values[name] = tensor[...]
        return {name}


@ENGINES
@pytest.mark.usefixtures("formats")
def test_what_was_read_is_compared_with_what_was_sealed_even_if_the_engine_stops_early(
    pristine: Sample, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = ProofFailed(Finding(id=FindingId.SEALED_SEGMENT, expected="one", seen="another"))

    def verify_tags(_: object) -> None:
        raise refusal

    monkeypatch.setattr(imported("weights").Weights, "verify_tags", verify_tags)
    with pytest.raises(ProofFailed, match="another"):
        load(pristine, Forgetful("model.embed"))


@pytest.mark.usefixtures("formats")
def test_vllm_does_not_start_with_parameters_that_nothing_filled(pristine: Sample) -> None:
    with pytest.raises(ValueError, match=r"1 weights are missing from the sealed files: model\.head"):
        load_with_vllm(pristine, Model(*TENSORS, "model.head"))


@pytest.mark.usefixtures("formats")
def test_a_model_that_does_not_say_what_it_loaded_is_refused(pristine: Sample) -> None:
    class Silent(Model):
        def load_weights(self, weights: Iterator[tuple[str, Any]]) -> None:
            super().load_weights(weights)

    with pytest.raises(ValueError, match="Silent does not say"):
        load_with_vllm(pristine, Silent(*TENSORS))


@pytest.mark.usefixtures("formats")
def test_parameters_of_quantised_modules_may_be_computed_and_others_may_not(pristine: Sample) -> None:
    names = (*TENSORS, "mlp.scale")
    load_with_vllm(pristine, Model(*names, quantised_modules=("mlp",)), quantization="fp8")
    for quantization, modules in (("fp8", ()), (None, ("mlp",))):
        with pytest.raises(ValueError, match=r"mlp\.scale"):
            load_with_vllm(pristine, Model(*names, quantised_modules=modules), quantization=quantization)


@ENGINES
@pytest.mark.usefixtures("formats")
def test_code_that_ran_before_it_was_verified_is_refused(pristine: Sample, load: Any) -> None:
    with pytest.raises(ValueError, match="trust-remote-code"):
        load(pristine, Model(*TENSORS), trust_remote_code=True)


@ENGINES
@pytest.mark.usefixtures("formats")
def test_weights_from_other_places_are_refused(pristine: Sample, load: Any) -> None:
    model = Model(*TENSORS)
    model.secondary_weights = ("other/model",)  # type: ignore[attr-defined] # as models of both engines have it
    with pytest.raises(ValueError, match="other places"):
        load(pristine, model)


def test_registration_names_the_format_once_and_asks_nobody(formats: Formats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentKeys, "open", None)
    for _ in range(3):
        imported("vllm").register()
    assert (list(formats), formats.count) == (["nodeseal"], 1)
    formats["nodeseal"](LoadConfig())


@pytest.mark.usefixtures("formats")
def test_sglang_finds_the_loader_of_its_private_format() -> None:
    for _ in range(2):
        imported("sglang").register()
    assert sys.modules[PRIVATE].PrivateModelLoader(LoadConfig()).load_config == LoadConfig({})


@pytest.mark.usefixtures("formats")
def test_another_private_loader_is_not_replaced() -> None:
    module = ModuleType(PRIVATE)
    module.PrivateModelLoader = dict  # type: ignore[attr-defined] # somebody else's
    sys.modules[PRIVATE] = module
    with pytest.raises(RuntimeError, match="somebody else"):
        imported("sglang").register()


@pytest.mark.usefixtures("formats")
def test_downloads_do_nothing(pristine: Sample) -> None:
    imported("vllm").VllmModelLoader(LoadConfig()).download_model(ModelConfig("nowhere"))
    imported("sglang").sealed_model_loader(settings(pristine)).download_model(ModelConfig("nowhere"))


@pytest.mark.usefixtures("formats")
def test_settings_say_who_gives_keys(pristine: Sample) -> None:
    parse = imported("serving").parse_settings
    assert all(isinstance(parse(extra), AgentKeys) for extra in ({}, None, {"socket": "/run/other.sock"}))
    assert isinstance(parse(settings(pristine).model_loader_extra_config), InsecureFileKeys)
    pinned = parse({**settings(pristine).model_loader_extra_config, "model_digest": "0" * 64})
    with pytest.raises(ProofFailed, match=r"sealed\.model-digest"):
        open_model(pristine.directory, pinned)


@pytest.mark.usefixtures("formats")
@pytest.mark.parametrize(
    "extra", ["x", {"sokcet": "/x"}, {"socket": "/x", "insecure_key_file": "/y"}, 5, ["socket"]], ids=repr
)
def test_other_settings_are_refused(extra: Any) -> None:
    with pytest.raises(ValueError, match="extra settings"):
        imported("serving").parse_settings(extra)


@pytest.mark.usefixtures("formats")
def test_without_an_agent_nothing_is_loaded(pristine: Sample, tmp_path: Path) -> None:
    config = LoadConfig({"socket": str(tmp_path / "no.sock")})
    with pytest.raises(Unavailable, match="no agent answers"):
        imported("vllm").VllmModelLoader(config).load_weights(Model(), ModelConfig(str(pristine.directory)))


def test_entry_points_name_functions_that_exist(formats: Formats) -> None:
    del formats
    root = Path(__file__).parents[3]
    groups = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    assert groups.keys() == {"vllm.general_plugins", "sglang.srt.plugins"}
    for group in groups.values():
        module, _, function = group["nodeseal"].partition(":")
        assert callable(getattr(imported(module.removeprefix("nodeseal.loader.")), function))
