"""``safe_open`` against the reference implementation; what each call reads, verifies, and leaves behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors import SafetensorError
from safetensors.numpy import save

from nodeseal.crypto import floe
from nodeseal.errors import MalformedInput, NotFound, ProofFailed, Unavailable
from nodeseal.loader import TensorFile, load_into, open_model, open_tensors, safe_open
from nodeseal.loader import frameworks as frameworks_module
from nodeseal.loader.library_errors import FileClosed
from nodeseal.loader.numpy import load_file
from support.damage import flip
from support.mappings import left_out_of_core_dumps
from support.sealed import SEGMENT, Sample, seal_files, sealed_model

ROWS, COLUMNS = 700, 300
CAPACITY = SEGMENT - floe.SEGMENT_OVERHEAD
TENSORS = {
    "a.large": np.arange(ROWS * COLUMNS, dtype="<f4").reshape(ROWS, COLUMNS),
    "b.experts": np.arange(3 * 600 * 500, dtype="<i4").reshape(3, 600, 500),
    "c.vector": np.arange(17, dtype="<i8"),
    "d.scalar": np.array(5, dtype="<f8"),
    "e.empty": np.zeros((0, 5), "<f2"),
}
PATH = "model.safetensors"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    raw = save(TENSORS, metadata={"format": "np"})
    return seal_files(tmp_path_factory.mktemp("tensors"), {PATH: raw, "config.json": b"{}"})


def opened(sample: Sample) -> TensorFile:
    return safe_open(sample.directory / PATH, keys=sample.keys)


def test_names_metadata_and_tensors_are_those_of_the_reference(sample: Sample) -> None:
    with safetensors.safe_open(sample.plain / PATH, "np") as reference, opened(sample) as file:
        assert file.keys() == sorted(reference.keys())
        assert file.offset_keys() == reference.offset_keys()
        assert file.metadata() == reference.metadata()
        assert file.get_tensors().keys() == TENSORS.keys()
        for name, tensor in file.get_tensors().items():
            assert np.array_equal(tensor, reference.get_tensor(name))
            assert np.array_equal(file.get_tensor(name), reference.get_tensor(name))
            piece = file.get_slice(name)
            assert piece.get_shape() == reference.get_slice(name).get_shape()
            assert piece.get_dtype() == reference.get_slice(name).get_dtype()


def test_a_file_without_metadata_has_none(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, {PATH: save({"t": np.zeros(1)})})
    with opened(sample) as file:
        assert file.metadata() is None


INDICES: list[tuple[str, Any]] = [
    ("a.large", slice(None)),
    ("a.large", slice(10, 20)),
    ("a.large", slice(-3, None)),
    ("a.large", slice(None, None, 7)),
    ("a.large", slice(20, 10)),
    ("a.large", 5),
    ("a.large", -1),
    ("a.large", (slice(None), slice(100, 200))),
    ("a.large", (slice(3, 9), -1)),
    ("a.large", (..., 7)),
    ("a.large", (4, ..., 7)),
    ("a.large", (699, 299)),
    ("a.large", ...),
    ("b.experts", 1),
    ("b.experts", (slice(None), slice(20, 30))),
    ("b.experts", (slice(0, 3, 2), slice(20, 30), slice(None, None, 100))),
    ("b.experts", (slice(None, None, 2),)),
    ("b.experts", (2, slice(None), slice(0, 10))),
    ("b.experts", (..., slice(499, None))),
    ("b.experts", (slice(0), slice(20, 30))),
    ("b.experts", (slice(None), slice(0))),
    ("c.vector", slice(3, 12, 4)),
    ("d.scalar", ()),
    ("d.scalar", ...),
    ("e.empty", slice(None)),
    ("e.empty", (slice(None), slice(1, 3))),
]


@pytest.mark.parametrize(("name", "index"), INDICES)
@pytest.mark.parametrize("worth_skipping", [1, 1 << 20])
def test_a_slice_is_what_numpy_would_select(
    sample: Sample, name: str, index: Any, worth_skipping: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeseal.loader.tensor_slice._WORTH_SKIPPING", worth_skipping)
    with opened(sample) as file:
        selected = file.get_slice(name)[index]
    expected = TENSORS[name][index]
    assert np.array_equal(selected, expected)
    assert (selected.shape, selected.dtype) == (expected.shape, expected.dtype)
    assert selected.flags.c_contiguous


@pytest.mark.parametrize(("name", "index"), INDICES)
@pytest.mark.parametrize("worth_skipping", [1, 1 << 20])
def test_a_slice_lies_in_memory_that_core_dumps_leave_out(
    sample: Sample, name: str, index: Any, worth_skipping: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeseal.loader.tensor_slice._WORTH_SKIPPING", worth_skipping)
    with opened(sample) as file:
        selected = file.get_slice(name)[index]
        assert not selected.size or left_out_of_core_dumps(selected.ctypes.data)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (ROWS, IndexError),
        (-ROWS - 1, IndexError),
        ((0, 0, 0), IndexError),
        ((..., ...), IndexError),
        (slice(None, None, -1), ValueError),
        (slice(None, None, 0), ValueError),
        (None, TypeError),
        ("x", TypeError),
        (1.0, TypeError),
        ([1, 2], IndexError),
        (slice(0, ROWS + 1), IndexError),
        ((slice(None), slice(0, COLUMNS + 1)), SafetensorError),
    ],
)
def test_an_index_is_refused(sample: Sample, index: Any, error: type[Exception]) -> None:
    with opened(sample) as file, pytest.raises(error):
        file.get_slice("a.large")[index]


def test_a_slice_decrypts_only_the_segments_that_hold_it(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    positions: list[int] = []
    decrypt = floe.Decryptor.decrypt_into

    def note(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        positions.append(position)
        decrypt(self, position, segment, out, final=final)

    monkeypatch.setattr("nodeseal.loader.tensor_slice._WORTH_SKIPPING", SEGMENT)
    with opened(sample) as file:
        monkeypatch.setattr(floe.Decryptor, "decrypt_into", note)
        file.get_slice("a.large")[600:610]
        header = file._header
        start = header.size + 600 * COLUMNS * 4
        assert positions == [start // CAPACITY]
        positions.clear()
        file.get_slice("b.experts")[:, :2]
    (experts,) = (entry for entry in header.tensors if entry.name == "b.experts")
    starts = [header.size + experts.start + number * 600 * 500 * 4 for number in range(3)]
    assert sorted(positions) == [start // CAPACITY for start in starts]


def test_an_index_out_of_bounds_is_told_as_safetensors_tells_it(sample: Sample) -> None:
    for index, message in (
        ((slice(2, None), COLUMNS), f"Error during slicing [2:, {COLUMNS}] with shape [{ROWS}, {COLUMNS}]: index"),
        (slice(None, ROWS + 1, 2), f"Error during slicing [:{ROWS + 1}:2] with shape"),
        ((..., -COLUMNS - 1), f"Invalid index {-COLUMNS - 1} for dimension 1 of size {COLUMNS}"),
    ):
        with opened(sample) as file, pytest.raises(SafetensorError, match=re.escape(message)):
            file.get_slice("a.large")[index]


def test_an_empty_list_selects_nothing(sample: Sample) -> None:
    with opened(sample) as file:
        assert file.get_slice("a.large")[[]].shape == (0, COLUMNS)


def test_a_tensor_that_is_not_there_is_not_found(sample: Sample) -> None:
    with opened(sample) as file:
        for get in (file.get_tensor, file.get_slice):
            with pytest.raises(NotFound, match="nope"):
                get("nope")


@pytest.mark.parametrize("name", [PATH, f"{PATH}.sealed"])
def test_the_model_above_the_file_is_found(sample: Sample, name: str) -> None:
    assert load_file(sample.directory / name, keys=sample.keys).keys() == TENSORS.keys()


@pytest.mark.parametrize("name", ["absent.safetensors", "../absent.safetensors", "../../absent/model.safetensors"])
def test_a_file_that_is_not_there_is_python_s_error_too(sample: Sample, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory: "):
        safe_open(sample.directory / name, keys=sample.keys)


def test_backends_are_those_of_safetensors(sample: Sample) -> None:
    for backend in ("mmap", "pread"):
        assert load_file(sample.directory / PATH, backend=backend, keys=sample.keys).keys() == TENSORS.keys()
    with pytest.raises(ValueError, match="backend 'read'"):
        load_file(sample.directory / PATH, backend="read", keys=sample.keys)


def test_files_outside_a_sealed_model_and_readable_ones_are_not_found(sample: Sample) -> None:
    with pytest.raises(NotFound, match="not in a sealed model"):
        safe_open(sample.plain / PATH, keys=sample.keys)
    with pytest.raises(NotFound, match="not a sealed file"):
        safe_open(sample.directory / "config.json", keys=sample.keys)


def test_closing_closes_the_model_unless_it_was_opened_by_somebody_else(sample: Sample) -> None:
    with opened(sample) as file:
        pass
    with pytest.raises(FileClosed):
        file.get_tensor("c.vector")
    with open_model(sample.directory, sample.keys) as model:
        with open_tensors(model, PATH) as file:
            tensors = file.get_tensors()
            piece = file.get_slice("c.vector")
        with pytest.raises(ValueError, match="closed"):
            piece[:2]
        for ask in (file.keys, file.offset_keys, file.metadata, file.get_tensors):
            with pytest.raises(FileClosed, match="closed"):
                ask()
        for get in (file.get_tensor, file.get_slice):
            with pytest.raises(SafetensorError, match="closed"):
                get("c.vector")
        assert bytes(model.read("config.json")) == b"{}"
    assert np.array_equal(tensors["c.vector"], TENSORS["c.vector"])


@pytest.mark.parametrize("framework", ["tf", "jax", ""])
def test_unknown_frameworks_are_a_mistake(sample: Sample, framework: str) -> None:
    with pytest.raises(ValueError, match="framework"):
        safe_open(sample.directory / PATH, framework, keys=sample.keys)


def test_a_framework_that_is_not_installed_is_named_with_a_remedy(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(frameworks_module._MODULES, "pt", "nodeseal.loader.no_such_module")
    with pytest.raises(Unavailable, match="not installed") as caught:
        safe_open(sample.directory / PATH, "pt", keys=sample.keys)
    assert caught.value.remedy.startswith("pip install")


def test_a_header_longer_than_most_is_read_whole(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, {PATH: save({"t": np.ones(3)}, metadata={"note": "x" * 400_000})})
    with opened(sample) as file:
        assert file.get_tensor("t").tolist() == [1, 1, 1]


def test_a_file_that_is_not_safetensors_gives_its_lease_back(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, {PATH: b"weights"})
    with pytest.raises(MalformedInput):
        opened(sample)
    with open_model(sample.directory, sample.keys) as model, pytest.raises(MalformedInput):
        open_tensors(model, PATH)


# Filling parameters that exist


def parameters() -> dict[str, np.ndarray]:
    return {name: np.full_like(tensor, 7) for name, tensor in TENSORS.items()}


@pytest.mark.parametrize("unseen", [False, True])
def test_parameters_are_filled(sample: Sample, unseen: bool) -> None:  # noqa: FBT001 - a table's column
    params = parameters()
    with opened(sample) as file:
        file.load_into(params, unseen=unseen)
    assert all(np.array_equal(params[name], tensor) for name, tensor in TENSORS.items())


def transposed(params: dict[str, np.ndarray]) -> None:
    params["a.large"] = np.zeros((COLUMNS, ROWS), "<f4").T


def read_only(params: dict[str, np.ndarray]) -> None:
    params["a.large"].flags.writeable = False


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("a missing one", lambda p: p.pop("c.vector")),
        ("a surplus one", lambda p: p.update(x=np.zeros(1))),
        ("another type", lambda p: p.update({"c.vector": np.zeros(17, "<u8")})),
        ("another shape", lambda p: p.update({"c.vector": np.zeros((17, 1), "<i8")})),
        ("one that is not contiguous", transposed),
        ("one that is read-only", read_only),
    ],
)
def test_parameters_are_refused_untouched_for(sample: Sample, why: str, change: Any) -> None:
    params = parameters()
    change(params)
    with opened(sample) as file, pytest.raises(ValueError, match=r"parameter|array"):
        file.load_into(params)
    assert np.all(params["b.experts"] == 7), why


@pytest.fixture
def damaged(tmp_path: Path) -> Sample:
    """The last segment but one does not hold."""
    sample = seal_files(tmp_path, {PATH: save(TENSORS)})
    weights = sample.directory / f"{PATH}.sealed"
    raw = bytearray(weights.read_bytes())
    raw[-SEGMENT - 100] ^= 1
    weights.write_bytes(raw)
    return sample


@pytest.mark.parametrize("unseen", [False, True])
def test_after_a_failure_parameters_hold_zeros_and_nothing_is_read_any_more(damaged: Sample, unseen: bool) -> None:  # noqa: FBT001 - a table's column
    params = parameters()
    with opened(damaged) as file:
        with pytest.raises(ProofFailed) as caught:
            file.load_into(params, unseen=unseen)
        with pytest.raises(ProofFailed) as again:
            file.get_tensor("d.scalar")
    assert again.value.findings == caught.value.findings
    assert not any(np.any(tensor) for tensor in params.values())


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    one, two = ({name: TENSORS[name]} for name in ("a.large", "b.experts"))
    return seal_files(tmp_path_factory.mktemp("sharded"), {"1.safetensors": save(one), "2.safetensors": save(two)})


def shards() -> dict[str, np.ndarray]:
    return {name: np.full_like(TENSORS[name], 7) for name in ("a.large", "b.experts")}


@pytest.mark.parametrize("unseen", [False, True])
def test_all_shards_of_a_model_are_filled_by_one_crew(sharded: Sample, unseen: bool) -> None:  # noqa: FBT001 - a table's column
    params = shards()
    with open_model(sharded.directory, sharded.keys) as model:
        load_into(model, params, unseen=unseen)
    assert all(np.array_equal(param, TENSORS[name]) for name, param in params.items())


@pytest.mark.parametrize(
    ("why", "change", "match"),
    [
        ("missing", lambda p: p.pop("b.experts"), r"no parameter for 1 tensors.*b\.experts"),
        ("surplus", lambda p: p.update(x=np.zeros(1)), "no tensor for 1 parameters.*x"),
        ("another shape", lambda p: p.update({"b.experts": np.zeros(1, "<i4")}), "another type or shape"),
    ],
)
def test_a_model_that_parameters_do_not_fit_changes_none(sharded: Sample, why: str, change: Any, match: str) -> None:
    params = shards()
    change(params)
    with open_model(sharded.directory, sharded.keys) as model, pytest.raises(ValueError, match=match):
        load_into(model, params)
    assert np.all(params["a.large"] == 7), why


def test_a_damaged_shard_leaves_zeros_in_all_of_them(tmp_path: Path) -> None:
    files = {f"{at}.safetensors": save({name: TENSORS[name]}) for at, name in enumerate(("a.large", "b.experts"))}
    sample, params = seal_files(tmp_path, files), shards()
    flip(sample.directory / "1.safetensors.sealed")
    with open_model(sample.directory, sample.keys) as model, pytest.raises(ProofFailed):
        load_into(model, params)
    assert not any(np.any(param) for param in params.values())


def test_a_tensor_that_two_shards_have_is_refused(tmp_path: Path) -> None:
    raw = save({"t": np.zeros(1)})
    sample = seal_files(tmp_path, {"1.safetensors": raw, "2.safetensors": raw})
    with open_model(sample.directory, sample.keys) as model, pytest.raises(MalformedInput, match="one name"):
        load_into(model, {"t": np.ones(1)})


def test_nothing_unverified_is_ever_written_to_parameters_in_use(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = parameters()
    outside: list[bool] = []
    decrypt = floe.Decryptor.decrypt_into
    regions = [(tensor.ctypes.data, tensor.ctypes.data + tensor.nbytes) for tensor in params.values()]

    def note(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        address = np.frombuffer(out, np.uint8).ctypes.data
        outside.append(not any(low <= address < high for low, high in regions))
        decrypt(self, position, segment, out, final=final)

    with opened(sample) as file:
        monkeypatch.setattr(floe.Decryptor, "decrypt_into", note)
        file.load_into(params)
        assert all(outside)
        outside.clear()
        file.load_into(params, unseen=True)
        assert not all(outside)


def test_a_tampered_tensor_is_refused_and_others_of_the_file_before_it_are_not(damaged: Sample) -> None:
    with opened(damaged) as file:
        assert np.array_equal(file.get_tensor("a.large"), TENSORS["a.large"])
        with pytest.raises(ProofFailed):
            file.get_tensor("b.experts")


def test_get_tensors_verifies_the_whole_file(damaged: Sample) -> None:
    with opened(damaged) as file, pytest.raises(ProofFailed):
        file.get_tensors()


def test_the_small_model_of_other_tests_opens(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with opened(sample) as file:
        assert file.offset_keys() == ["embed", "bias"]
        assert file.get_slice("bias")[1:].tolist() == [2, 3]
