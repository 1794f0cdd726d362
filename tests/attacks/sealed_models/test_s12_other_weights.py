"""Attack s12: arguments select other weights than those that are opened, and nobody notices."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from nodeseal.errors import MalformedInput
from nodeseal.loader import open_model
from nodeseal.loader.weights import Weights, WeightsChoice
from support.sealed import Sample, seal_files


def weights(number: float) -> bytes:
    return save({"w": np.full(3, number, "<f4")})


def index(path: str) -> bytes:
    return json.dumps({"weight_map": {"w": path}}).encode()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A model with weights of every kind, each with its own number."""
    files = {
        "model.safetensors": weights(0),
        "model.safetensors.index.json": index("model-1.safetensors"),
        "model-1.safetensors": weights(1),
        "model.fp16.safetensors": weights(2),
        "model.safetensors.index.int8.json": index("model-3.safetensors"),
        "model-3.safetensors": weights(3),
        "sub/model.safetensors": weights(4),
        "sub/model.safetensors.index.fp16.json": index("model-5.safetensors"),
        "sub/model-5.safetensors": weights(5),
        "named.safetensors": weights(6),
    }
    return seal_files(tmp_path_factory.mktemp("several"), files)


@pytest.mark.parametrize(
    ("choice", "number"),
    [
        (WeightsChoice(single_first=True), 0),
        (WeightsChoice(), 1),
        (WeightsChoice(variant="fp16"), 2),
        (WeightsChoice(variant="int8", single_first=True), 3),
        (WeightsChoice(subfolder="sub"), 4),
        (WeightsChoice(subfolder="sub/"), 4),
        (WeightsChoice(subfolder="sub", variant="fp16"), 5),
        (WeightsChoice(name="named.safetensors"), 6),
    ],
    ids=str,
)
def test_s12_the_weights_are_those_that_were_asked_for(several: Sample, choice: WeightsChoice, number: float) -> None:
    with open_model(several.directory, several.keys) as model, Weights(model, "np", choice=choice) as opened:
        assert opened.get_slice("w")[0] == number


@pytest.mark.parametrize(
    "choice",
    [
        WeightsChoice(variant="bf16"),
        WeightsChoice(subfolder="other"),
        WeightsChoice(subfolder="sub", variant="int8"),
        WeightsChoice(name="other.safetensors"),
        WeightsChoice(subfolder="../several"),
    ],
    ids=str,
)
def test_s12_weights_that_are_not_there_are_not_replaced_by_others(several: Sample, choice: WeightsChoice) -> None:
    with open_model(several.directory, several.keys) as model:
        Weights(model, "np").close()
        with pytest.raises(MalformedInput, match="neither"):
            Weights(model, "np", choice=choice)


def test_s12_further_files_that_a_class_names_are_read_as_well(several: Sample) -> None:
    choice = WeightsChoice(extra=("named.safetensors", "absent.safetensors"), single_first=True)
    with open_model(several.directory, several.keys) as model, Weights(model, "np", choice=choice) as opened:
        assert opened.get_slice("w")[0] == 6
