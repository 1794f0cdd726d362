"""PyTorch over sealed files, against safetensors' own loader; ``make test-integrations`` runs this."""

from __future__ import annotations

import io
import mmap
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.loader import open_model, open_tensors, safe_open
from support.damage import flip
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


def any_bits(name: str) -> Any:
    """Return elements of any bits, numbers or not."""
    dtype = getattr(torch, name)
    raw = torch.randint(0, 2 if name == "bool" else 256, (30, 4 * dtype.itemsize), dtype=torch.uint8)
    return raw.view(dtype)


def tensors() -> dict[str, Any]:
    torch.manual_seed(1)
    made = {name: any_bits(name) for name in DTYPES}
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
    flip(sample.directory / f"{PATH}.sealed")
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


class Cuda:
    """The part of CUDA's runtime that pins memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
        self.pinned: dict[int, int] = {}
        self.sizes: list[int] = []
        self._refuses = refuses
        runtime = SimpleNamespace(cudaHostRegister=self._register, cudaHostUnregister=self.pinned.pop)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)

    def _register(self, address: int, size: int, flags: int) -> int:
        if self._refuses or not size or flags:
            return 1  # cudaErrorInvalidValue
        self.pinned[address] = size
        self.sizes.append(size)
        return 0


def test_memory_is_pinned_while_tensors_use_it(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    loaded = sealed.load_file(sample.directory / PATH, pin_memory=True, keys=sample.keys)
    ((address, size),) = cuda.pinned.items()
    assert address % mmap.PAGESIZE == 0
    for tensor in (tensor for tensor in loaded.values() if tensor.numel()):
        assert address <= tensor.data_ptr() <= address + size - tensor.nbytes
    one = loaded["large"]
    del loaded, tensor
    assert cuda.pinned
    del one
    assert not cuda.pinned


def test_memory_of_each_tensor_is_pinned_and_of_empty_ones_there_is_none(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(monkeypatch)
    with safe_open(sample.directory / PATH, "pt", pin_memory=True, keys=sample.keys) as file:
        assert all(bits(file.get_tensor(name)) == bits(tensor) for name, tensor in tensors().items())
    assert sorted(cuda.sizes) == sorted(tensor.nbytes for tensor in tensors().values() if tensor.numel())


def test_memory_that_cannot_be_pinned_is_an_error(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, refuses=True)
    with pytest.raises(Unavailable, match="bytes of memory cannot be pinned"):
        sealed.load_file(sample.directory / PATH, pin_memory=True, keys=sample.keys)


def test_pinned_memory_needs_a_gpu(sample: Sample) -> None:
    if torch.cuda.is_available():
        loaded = sealed.load_file(sample.directory / PATH, pin_memory=True, keys=sample.keys)
        assert loaded["large"].is_pinned()
        on_device = sealed.load_file(sample.directory / PATH, "cuda", pin_memory=True, keys=sample.keys)
        assert torch.equal(on_device["large"].cpu(), tensors()["large"])
    else:
        with pytest.raises(Unavailable, match="pinned"):
            sealed.load_file(sample.directory / PATH, pin_memory=True, keys=sample.keys)


def test_tensor_by_tensor_onto_a_device_takes_main_memory_for_one(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions: list[weakref.ref[Any]] = []

    def allocate_and_tell(size: int) -> memoryview:
        assert not any(region() for region in regions)
        memory = allocate(size)
        regions.append(weakref.ref(memory.obj))
        return memory

    monkeypatch.setattr(sealed, "allocate", allocate_and_tell)
    with safe_open(sample.directory / PATH, "pt", "meta", keys=sample.keys) as file:
        made = {name: file.get_tensor(name) for name in file.offset_keys()}
        file.verify_tags()
    assert len(regions) == len(made) == len(tensors())


def test_a_model_that_is_open_gives_tensors_on_a_device(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model, open_tensors(model, PATH, "torch", "meta") as file:
        assert file.get_tensor("large").device.type == "meta"
