"""PyTorch over sealed files, against safetensors' own loader; ``make test-integrations`` runs this."""

from __future__ import annotations

import io
import mmap
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.loader import InsecureFileKeys, open_model, open_tensors, safe_open
from support.damage import flip
from support.mappings import left_out_of_core_dumps
from support.sealed import Sample, key_file, model_key, safetensors_bytes, seal_files

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


def test_floats_of_four_bits_are_pairs_in_a_byte(tmp_path: Path) -> None:
    raw = safetensors_bytes({"t": ("F4", [2, 4], b"1234"), "odd": ("F4", [2, 1], b"5")})
    sample = seal_files(tmp_path, {PATH: raw})
    with pytest.raises(MalformedInput, match="odd"):
        sealed.load_file(sample.directory / PATH, keys=sample.keys)
    sample = seal_files(tmp_path / "even", {PATH: safetensors_bytes({"t": ("F4", [2, 4], b"1234")})})
    found = sealed.load_file(sample.directory / PATH, keys=sample.keys)["t"]
    assert (found.dtype, tuple(found.shape)) == (torch.float4_e2m1fn_x2, (2, 2))
    assert bits(found) == b"1234"
    plain = safetensors.load_file(sample.plain / PATH)["t"]
    assert (plain.dtype, plain.shape, bits(plain)) == (found.dtype, found.shape, bits(found))
    with safe_open(sample.directory / PATH, "pt", keys=sample.keys) as file:
        assert bits(file.get_slice("t")[1:, 1:].view(torch.uint8)) == b"4"


class Tied(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore] # PyTorch is an extra
    """A module with a tensor of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(4, 3)
        self.b = self.a
        self.c = torch.nn.Linear(3, 2)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, InsecureFileKeys]]:
    """Seal with one of the functions that save; return the file and the keys."""

    def save(how: Any, what: Any, **options: Any) -> tuple[Path, InsecureFileKeys]:
        private, key = model_key()
        path = tmp_path / "made" / PATH
        how(what, path, model_keys=[key], **options)
        return path, InsecureFileKeys(key_file(tmp_path, key, private))

    return save


def test_what_is_sealed_from_memory_comes_back(saved: Any) -> None:
    given = {**tensors(), "packed": torch.tensor([[1, 2]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}
    path, keys = saved(sealed.save_file, given, metadata={"format": "pt"})
    loaded = sealed.load_file(path, keys=keys)
    assert loaded.keys() == given.keys()
    for name, expected in given.items():
        assert (loaded[name].dtype, loaded[name].shape) == (expected.dtype, expected.shape), name
        assert bits(loaded[name]) == bits(expected), name
    with open_model(path.parent, keys) as model:
        assert bytes(model.read(PATH)) == safetensors.save(given, metadata={"format": "pt"})


def test_a_module_comes_back_with_its_tied_tensors(saved: Any) -> None:
    torch.manual_seed(4)
    source, target = Tied(), Tied()
    path, keys = saved(sealed.save_model, source)
    with safe_open(path, "pt", keys=keys) as file:
        assert file.keys() == ["a.bias", "a.weight", "c.bias", "c.weight"]
        assert file.metadata() == {"b.weight": "a.weight", "b.bias": "a.bias"}
    assert sealed.load_model(target, path, keys=keys) == ([], [])
    assert all(torch.equal(target.state_dict()[name], tensor) for name, tensor in source.state_dict().items())


def test_a_module_that_does_not_fit_is_refused_unless_that_is_asked_for(saved: Any) -> None:
    path, keys = saved(sealed.save_file, {"a.weight": torch.ones(3, 4), "z": torch.ones(1)})
    with pytest.raises(RuntimeError, match=r'Missing key.*: "a\.bias", "c\.bias", "c\.weight"\n.*Unexpected.*: "z"'):
        sealed.load_model(Tied(), path, keys=keys)
    assert sealed.load_model(Tied(), path, strict=False, keys=keys) == (["a.bias", "c.bias", "c.weight"], ["z"])


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"a": torch.ones(3, 4).T}, ValueError),
        ({"a": torch.eye(3).to_sparse()}, ValueError),
        ({"a": torch.ones(3).expand(2, 3)}, ValueError),
        ({"a": [1]}, ValueError),
        (dict.fromkeys("ab", torch.ones(3)), RuntimeError),
        (dict(zip("ab", torch.ones(5).unfold(0, 3, 2), strict=True)), RuntimeError),
        ({"a": torch.ones(3, device="meta")}, (RuntimeError, NotImplementedError)),
        ({"a": torch.ones(3, dtype=torch.complex128)}, MalformedInput),
    ],
    ids=["order", "sparse", "expanded", "list", "twice", "overlap", "meta", "type"],
)
def test_tensors_that_cannot_be_saved_are_refused(saved: Any, tmp_path: Path, given: Any, error: Any) -> None:
    with pytest.raises(error):
        saved(sealed.save_file, given)
    assert not (tmp_path / "made").exists()


def test_neighbours_in_one_memory_are_no_overlap(saved: Any) -> None:
    whole = torch.arange(5.0)
    path, keys = saved(sealed.save_file, {"a": whole[:3], "b": whole[3:]})
    assert torch.equal(sealed.load_file(path, keys=keys)["b"], whole[3:])


def test_a_type_that_pytorch_lacks_is_refused(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, {PATH: safetensors_bytes({"t": ("F6_E2M3", [4], b"123")})})
    with pytest.raises(MalformedInput, match="F6_E2M3, a type without PyTorch"):
        safe_open(sample.directory / PATH, "pt", keys=sample.keys)
    found = sealed.load_file(sample.directory / PATH, raw=["F6_E2M3"], keys=sample.keys)["t"]
    assert (found.dtype, bits(found)) == (torch.uint8, b"123")


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
