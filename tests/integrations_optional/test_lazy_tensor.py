"""Tensors that decrypt when they are used, against tensors that are there; ``make test-integrations`` runs this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nodeseal.crypto.floe import Decryptor
from nodeseal.errors import PolicyRefused
from nodeseal.loader import SealedModel, open_model
from nodeseal.loader.tensor_slice import TensorSlice
from nodeseal.loader.weights import Weights
from support.sealed import Sample, seal_files

REASON = "PyTorch is not installed here: make test-integrations"
torch = pytest.importorskip("torch", reason=REASON)
save = pytest.importorskip("safetensors.torch").save
lazy = pytest.importorskip("nodeseal.loader.lazy_tensor")

EXPERTS, ROWS, COLUMNS = 4, 600, 300


def tensors() -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "matrix": torch.randn(ROWS, COLUMNS),
        "experts": torch.randn(EXPERTS, ROWS, COLUMNS).to(torch.bfloat16),
        "vector": torch.arange(17),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 5),
        "fp8": torch.randn(8, 8).to(torch.float8_e4m3fn),
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return seal_files(tmp_path_factory.mktemp("lazy"), {"model.safetensors": save(tensors())})


@pytest.fixture
def model(sample: Sample) -> Iterator[SealedModel]:
    with open_model(sample.directory, sample.keys) as model:
        yield model


@pytest.fixture
def made(model: SealedModel) -> Iterator[dict[str, Any]]:
    with Weights(model) as weights:
        yield {name: lazy.lazy_tensor(weights.get_slice(name)) for name in weights.names()}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was decrypted, as shapes."""
    shapes: list[Any] = []
    get = TensorSlice.__getitem__

    def remember(piece: TensorSlice, index: Any) -> Any:
        tensor = get(piece, index)
        shapes.append(tuple(tensor.shape))
        return tensor

    monkeypatch.setattr(TensorSlice, "__getitem__", remember)
    return shapes


def test_shapes_and_types_cost_nothing(made: dict[str, Any], read: list[Any]) -> None:
    for name, tensor in tensors().items():
        assert made[name].shape == tensor.shape
        assert (made[name].dtype, made[name].dim(), made[name].numel()) == (tensor.dtype, tensor.dim(), tensor.numel())
        assert made[name].device.type == "cpu"
        assert "LazyTensor" in repr(made[name])
    assert not read


def rank_of_columns(tensor: Any) -> Any:
    return tensor.narrow(0, ROWS // 2, ROWS // 2)


def rank_of_rows(tensor: Any) -> Any:
    return tensor.narrow(1, 0, COLUMNS // 3)


def both(tensor: Any) -> Any:
    return tensor[10:-10].narrow(1, 5, 7)[3:, -2:].detach()


def one_row(tensor: Any) -> Any:
    return tensor[-1]


def one_element(tensor: Any) -> Any:
    return tensor[3][4]


NARROWING: list[tuple[str, Callable[[Any], Any], tuple[int, ...]]] = [
    ("matrix", rank_of_columns, (ROWS // 2, COLUMNS)),
    ("matrix", rank_of_rows, (ROWS, COLUMNS // 3)),
    ("matrix", both, (ROWS - 23, 2)),
    ("matrix", one_row, (COLUMNS,)),
    ("matrix", one_element, ()),
    ("experts", one_row, (ROWS, COLUMNS)),
    ("experts", lambda tensor: rank_of_columns(tensor[2]), (ROWS // 2, COLUMNS)),
    ("experts", lambda tensor: tensor[1:3, :, 5:9], (2, ROWS, 4)),
    ("vector", lambda tensor: tensor[20:30], (0,)),
    ("vector", lambda tensor: tensor[5:2], (0,)),
]


@pytest.mark.parametrize(("name", "narrow", "shape"), NARROWING)
def test_of_what_is_narrowed_only_the_rest_is_read(
    made: dict[str, Any], read: list[Any], name: str, narrow: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    part, expected = narrow(made[name]), narrow(tensors()[name])
    assert part.shape == expected.shape
    assert not read
    target = torch.empty_like(expected)
    target.copy_(part)
    assert torch.equal(target, expected)
    assert read == [shape]


OPERATIONS: list[tuple[str, Callable[[Any], Any]]] = [
    ("matrix", lambda tensor: tensor + 1),
    ("matrix", lambda tensor: tensor.t()),
    ("matrix", lambda tensor: tensor[::7]),
    ("matrix", lambda tensor: tensor.to(torch.bfloat16)),
    ("matrix", lambda tensor: torch.cat([tensor, tensor[:5]])),
    ("matrix", lambda tensor: tensor.chunk(3)[1]),
    ("matrix", lambda tensor: tensor.view(-1)[7:9]),
    ("matrix", lambda tensor: tensor.reshape(COLUMNS, ROWS)),
    ("experts", lambda tensor: torch.stack(tensor.unbind()[:2])),
    ("experts", lambda tensor: tensor.transpose(-1, -2)[0]),
    ("vector", lambda tensor: tensor.clone()),
    ("scalar", lambda tensor: tensor.reshape(1)),
    ("scalar", lambda tensor: tensor.view(1)),
    ("empty", lambda tensor: tensor.clone()),
    ("fp8", lambda tensor: tensor.to(torch.float32)),
    ("fp8", lambda tensor: tensor.view(torch.uint8)),
]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_any_other_operation_gives_what_it_gives_for_tensors_that_are_there(
    made: dict[str, Any], name: str, operation: Callable[[Any], Any]
) -> None:
    result = operation(made[name])
    assert torch.equal(result, operation(tensors()[name]))


def test_one_element_can_be_asked_for(made: dict[str, Any]) -> None:
    assert made["scalar"].item() == 2.5
    assert made["vector"][3].item() == 3


@pytest.mark.parametrize("name", ["mul_", "fill_", "add_"])
def test_sealed_tensors_cannot_be_changed(made: dict[str, Any], name: str) -> None:
    for tensor in (made["matrix"], made["matrix"][0]):
        with pytest.raises(TypeError, match="cannot be changed"):
            getattr(tensor, name)(2)


def test_nothing_is_read_once_the_lease_has_ended(model: SealedModel, made: dict[str, Any]) -> None:
    model.close()
    with pytest.raises(PolicyRefused):
        made["matrix"].clone()


def test_a_share_of_the_rows_reads_a_share_of_the_segments(
    sample: Sample, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    decrypt = Decryptor.decrypt_into

    def remember(this: Decryptor, position: int, *rest: Any, final: bool) -> None:
        seen.add(position)
        decrypt(this, position, *rest, final=final)

    monkeypatch.setattr(Decryptor, "decrypt_into", remember)
    made["experts"][1].clone()
    (stored,) = sample.content.sealed()
    assert len(seen) <= -(-ROWS * COLUMNS * 2 // stored.segment_size) + 1 < stored.size // stored.segment_size
