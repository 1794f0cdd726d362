"""What listeners hear of an open model."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from nodeseal.errors import PolicyRefused
from nodeseal.loader import Ended, Verified, open_model
from nodeseal.loader.events import Event
from support.sealed import PLAIN_WEIGHTS, Sample, sealed_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("events"))


def test_progress_grows_to_the_size_of_each_file_and_the_end_comes_last(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model:
        heard = model.events()
        model.read(WEIGHTS)
        model.verify("config.json")
    events = list(heard)
    weights = [event.done for event in events if isinstance(event, Verified) and event.path == WEIGHTS]
    assert weights == sorted(weights)
    assert (len(weights), weights[-1]) == (3, len(PLAIN_WEIGHTS))
    config = (sample.plain / "config.json").stat().st_size
    assert events[-2:] == [
        Verified(path="config.json", done=config, size=config),
        Ended(reason="the model was closed", revoked=False),
    ]


def test_a_revocation_in_the_middle_of_a_load_is_heard_at_once_and_ends_it(sample: Sample) -> None:
    told, heard = list[str](), list[Event]()
    with open_model(sample.directory, sample.keys, on_revoked=told.append) as model:
        stream = model.events()
        listener = Thread(target=lambda: heard.extend(stream))
        listener.start()
        key = model._lease.data_key()
        with pytest.raises(PolicyRefused, match="a PCR moved"):
            model.read(WEIGHTS, progress=lambda _: model._lease.end("a PCR moved"))
        listener.join(10)
        assert not listener.is_alive()
        for read in (model.read, model.open, model.as_file, model.to_memfd, model.verify):
            with pytest.raises(PolicyRefused, match="a PCR moved"):
                read(WEIGHTS)
    assert not any(key)
    assert told == ["a PCR moved"]
    assert Ended(reason="a PCR moved", revoked=True) == heard[-1]


def test_who_listens_after_the_end_hears_of_it(sample: Sample) -> None:
    model = open_model(sample.directory, sample.keys)
    model.close()
    assert list(model.events()) == [Ended(reason="the model was closed", revoked=False)]


def test_who_stops_listening_is_forgotten(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model:
        heard = model.events()
        model.read("config.json")
        assert isinstance(next(heard), Verified)
        heard.close()  # type: ignore[attr-defined]  # a generator's
        assert model._events._queues == []


def test_a_model_that_nobody_listens_to_counts_nothing(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model:
        counted: list[int] = []
        model.read(WEIGHTS, progress=counted.append)
        assert sum(counted) == len(PLAIN_WEIGHTS)
