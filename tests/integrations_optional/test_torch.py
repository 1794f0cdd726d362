"""PyTorch over sealed files, against safetensors' own loader; ``make test-integrations`` runs this."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.loader import open_model, open_tensors, safe_open
from support.mappings import left_out_of_core_dumps
from support.sealed import Sample, safetensors_bytes, seal_files

torch = pytest.importorskip("torch", reason="PyTorch is not installed here: make test-integrations")
safetensors = pytest.importorskip("safetensors.torch")
sealed = pytest.importorskip("nodeseal.loader.torch")

PATH = "model.safetensors"
DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "float16",
    "bfloat16",
    "uint32",
    "int32",
    "float32",
    "uint64",
    "int64",
    "float64",
    "complex64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]


def bits(tensor: Any) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def tensors() -> dict[str, Any]:
    torch.manual_seed(1)
    made = {name: torch.randint(0, 2, (3, 4)).to(getattr(torch, name)) for name in DTYPES}
    made |= {"large": torch.randn(600, 700).to(torch.bfloat16), "scalar": torch.tensor(2.5)}
    return made | {"empty": torch.empty((0, 7), dtype=torch.float16)}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    raw = safetensors.save(tensors(), metadata={"format": "pt"})
    return seal_files(tmp_path_factory.mktemp("torch"), {PATH: raw})


def test_every_type_comes_back_bit_for_bit_as_from_the_plain_file(sample: Sample) -> None:
    plain = safetensors.load_file(sample.plain / PATH)
    loaded = sealed.load_file(sample.directory / PATH, keys=sample.keys)
    assert loaded.keys() == plain.keys()
    for name, expected in plain.items():
        assert (loaded[name].dtype, loaded[name].shape) == (expected.dtype, expected.shape), name
        assert bits(loaded[name]) == bits(expected), name


def test_tensors_are_views_of_one_piece_of_memory(sample: Sample) -> None:
    loaded = sealed.load_file(sample.directory / PATH, keys=sample.keys)
    with safe_open(sample.directory / PATH, "pt", keys=sample.keys) as file:
        entries = file._header.tensors
    first = loaded[entries[0].name].data_ptr() - entries[0].start
    assert all(loaded[entry.name].data_ptr() == first + entry.start for entry in entries if loaded[entry.name].numel())
    assert first % 64 == 0
    loaded["large"].zero_()


@pytest.mark.parametrize(
    "index", [slice(5, 9), (slice(None), slice(100, 200)), -1, (..., 3), (2, 4), slice(9, 2), slice(None, None, 100)]
)
def test_slices_are_those_of_the_plain_file(sample: Sample, index: Any) -> None:
    expected = tensors()["large"][index]
    with safe_open(sample.directory / PATH, "pt", keys=sample.keys) as file:
        selected = file.get_slice("large")[index]
        assert file.get_slice("large").get_dtype() == "BF16"
    assert torch.equal(selected, expected)
    assert selected.is_contiguous()
    assert not selected.numel() or left_out_of_core_dumps(selected.data_ptr())


@pytest.mark.parametrize("unseen", [False, True])
def test_parameters_of_a_module_are_filled(tmp_path: Path, unseen: bool) -> None:  # noqa: FBT001 - a table's column
    torch.manual_seed(2)
    source, target = (torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.LayerNorm(400)) for _ in range(2))
    sample = seal_files(tmp_path, {PATH: safetensors.save(source.state_dict())})
    with safe_open(sample.directory / PATH, "pt", keys=sample.keys) as file:
        file.load_into(target.state_dict(), unseen=unseen)
    assert all(torch.equal(target.state_dict()[name], tensor) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize(
    "wrong", [torch.zeros(400, 300).T, torch.zeros(300, 400, dtype=torch.float64), torch.zeros(1, 300, 400)]
)
def test_parameters_that_do_not_fit_are_refused(tmp_path: Path, wrong: Any) -> None:
    sample = seal_files(tmp_path, {PATH: safetensors.save({"w": torch.ones(300, 400)})})
    with safe_open(sample.directory / PATH, "pt", keys=sample.keys) as file, pytest.raises(ValueError, match="w: a"):
        file.load_into({"w": wrong})


def test_parameters_hold_zeros_after_a_failure(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, {PATH: safetensors.save({"w": torch.ones(300, 400)})})
    weights = sample.directory / f"{PATH}.sealed"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    params = {"w": torch.ones(300, 400)}
    with safe_open(sample.directory / PATH, "pt", keys=sample.keys) as file, pytest.raises(ProofFailed):
        file.load_into(params)
    assert not torch.any(params["w"])


def test_a_type_that_pytorch_lacks_is_refused(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, {PATH: safetensors_bytes({"t": ("F6_E2M3", [4], b"123")})})
    with pytest.raises(MalformedInput, match="PyTorch"):
        safe_open(sample.directory / PATH, "pt", keys=sample.keys)


def test_files_serve_readers_that_insist_on_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(1000)}, buffer)
    sample = seal_files(tmp_path, {"weights": buffer.getvalue()})
    with open_model(sample.directory, sample.keys) as model:
        assert torch.equal(torch.load(model.as_file("weights"), weights_only=True)["w"], torch.arange(1000))


def test_a_memory_file_serves_safetensors_own_loader(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model, model.to_memfd(PATH) as file:
        loaded = safetensors.load_file(file.path)
    assert all(bits(loaded[name]) == bits(tensor) for name, tensor in tensors().items())


def test_pinned_memory_needs_a_gpu(sample: Sample) -> None:
    if torch.cuda.is_available():
        loaded = sealed.load_file(sample.directory / PATH, pin_memory=True, keys=sample.keys)
        assert loaded["large"].is_pinned()
        on_device = sealed.load_file(sample.directory / PATH, "cuda", pin_memory=True, keys=sample.keys)
        assert torch.equal(on_device["large"].cpu(), tensors()["large"])
    else:
        with pytest.raises(Unavailable, match="pinned"):
            sealed.load_file(sample.directory / PATH, pin_memory=True, keys=sample.keys)


def test_a_model_that_is_open_gives_tensors_on_a_device(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model, open_tensors(model, PATH, "torch", "meta") as file:
        assert file.get_tensor("large").device.type == "meta"
