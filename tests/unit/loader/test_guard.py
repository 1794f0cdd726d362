"""What a revocation does to files and tensors that are open at that moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from nodeseal.crypto import floe
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import digest_of
from nodeseal.loader import Lease, SealedModel, open_model, open_tensors
from nodeseal.loader.folders import MemoryFolder, Source
from nodeseal.loader.guard import Guard
from nodeseal.loader.targets import Targets
from support.sealed import DATA_KEY, PLAIN_WEIGHTS, Sample, sealed_model, stored_files

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("guard"))


def revoke(model: SealedModel) -> None:
    model._lease.end("a PCR moved")


def test_a_revocation_wipes_the_keys_of_files_that_are_open_and_ends_their_tensors(sample: Sample) -> None:
    told: list[str] = []
    with (
        open_model(sample.directory, sample.keys, on_revoked=told.append) as model,
        open_tensors(model, WEIGHTS) as file,
    ):
        before = file.get_tensor("bias").tolist()
        piece = file.get_slice("embed")
        state = file.opened.segments._floe._state
        assert any(state._message_key)
        revoke(model)
        assert not any(state._message_key)
        assert state._ciphers == {}
        reads: list[Callable[[], object]] = [
            lambda: file.get_tensor("bias"),
            lambda: piece[0],
            file.get_tensors,
            lambda: file.load_into({"embed": np.zeros((256, 600), "<f4"), "bias": np.zeros(3, "u1")}),
            lambda: open_tensors(model, WEIGHTS),
        ]
        for read in reads:
            with pytest.raises(PolicyRefused, match="a PCR moved"):
                read()
    assert before == [1, 2, 3]
    assert told == ["a PCR moved"]


def test_plaintext_that_threads_have_kept_is_wiped(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model:
        model.verify(WEIGHTS)
        buffers = [buffer for spare in model._crew._spare.values() for buffer in spare]
        assert any(any(buffer) for buffer in buffers)
        revoke(model)
    assert not any(any(buffer) for buffer in buffers)


def test_parameters_are_zeros_after_a_revocation_in_the_middle(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"embed": np.ones((256, 600), "<f4"), "bias": np.ones(3, "u1")}
    decrypt = floe.Decryptor.decrypt_into
    with open_model(sample.directory, sample.keys) as model, open_tensors(model, WEIGHTS) as file:

        def then_revoke(
            self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool
        ) -> None:
            decrypt(self, position, segment, out, final=final)
            revoke(model)

        monkeypatch.setattr(floe.Decryptor, "decrypt_into", then_revoke)
        with pytest.raises(PolicyRefused, match="a PCR moved"):
            file.load_into(params)
    assert not any(np.any(param) for param in params.values())


def test_what_verified_is_not_handed_out_once_the_lease_has_ended(sample: Sample) -> None:
    """The lease ends after the last segment, before the caller has the plaintext."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if done == len(PLAIN_WEIGHTS):
            revoke(model)

    plaintext = memoryview(bytearray(len(PLAIN_WEIGHTS)))
    with (
        open_model(sample.directory, sample.keys) as model,
        model.open(WEIGHTS) as file,
        pytest.raises(PolicyRefused, match="a PCR moved"),
    ):
        file.fill(Targets([(0, plaintext)]), progress=count)
    assert done == len(PLAIN_WEIGHTS)
    assert not any(plaintext)


def test_many_threads_that_read_all_end_with_the_reason(sample: Sample) -> None:
    ends: list[str] = []
    reading = Event()

    def read(model: SealedModel) -> None:
        try:
            while True:
                assert bytes(model.read_range(WEIGHTS, 100, 300_000)) == PLAIN_WEIGHTS[100:300_000]
                reading.set()
        except NodesealError as error:
            ends.append(str(error))

    with open_model(sample.directory, sample.keys) as model:
        threads = [Thread(target=read, args=(model,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert reading.wait(10)
        revoke(model)
        for thread in threads:
            thread.join(20)
    assert len(ends) == 6
    assert all("a PCR moved" in end for end in ends)


def test_after_a_revocation_nothing_is_asked_of_the_folder(sample: Sample) -> None:
    asked: list[str] = []

    class Noted(MemoryFolder):
        def open(self, path: str) -> Source:
            asked.append(path)
            return super().open(path)

    with open_model(Noted(stored_files(sample.directory)), sample.keys) as model:
        revoke(model)
        asked.clear()
        for read in (model.read, model.verify, model.open, model.as_file, model.to_memfd):
            for path in (WEIGHTS, "config.json"):
                with pytest.raises(NodesealError):
                    read(path)
    assert asked == []


class Held:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_what_is_held_after_the_end_is_closed_at_once() -> None:
    lease, held = Lease(digest_of(b"model"), bytearray(DATA_KEY)), Held()
    guard = Guard(lease)
    lease.end("over")
    with pytest.raises(PolicyRefused, match="over"):
        guard.hold(held)
    assert held.closed


def test_the_first_failure_stands_for_all_later_reads_and_keeps_no_memory(tmp_path: Path) -> None:
    guard = Guard(Lease(digest_of(b"model"), bytearray(DATA_KEY)))
    finding = Finding(id=FindingId.SEALED_SEGMENT, expected="a", seen="b", where=str(tmp_path))
    first = ProofFailed(finding)
    with pytest.raises(ProofFailed), guard.reading():
        raise first
    with pytest.raises(ProofFailed) as again, guard.reading():
        pytest.fail("nothing is read any more")
    assert again.value.findings == (finding,)
    assert again.value is not first
