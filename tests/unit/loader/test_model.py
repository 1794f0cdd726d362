"""Reader rules of the sealed format, one by one, on a real sealed directory."""

from __future__ import annotations

import hmac
import mmap
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nodeseal.crypto import floe
from nodeseal.errors import MalformedInput, NotFound, PolicyRefused, ProofFailed, Unavailable
from nodeseal.findings import FindingId
from nodeseal.ids import digest_of
from nodeseal.loader import Lease, SealedModel, open_model
from nodeseal.loader import model as model_module
from nodeseal.sealed.container import PREFIX_SIZE
from nodeseal.sealed.content import Content, PlainFile, SealedFile
from nodeseal.sealed.slots import Slots
from support.damage import flip
from support.mappings import left_out_of_core_dumps, mapping_of
from support.sealed import PLAIN_WEIGHTS, SEGMENT, Sample, data_key_of, rewrite_first_segment, sealed_model

CAPACITY = SEGMENT - floe.SEGMENT_OVERHEAD
BODY = 4096


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def sample(pristine: Sample, tmp_path: Path) -> Sample:
    """A copy that a test may spoil."""
    return pristine.copied_to(tmp_path / "tiny")


class HeldKeys:
    """Gives the data key for whatever model it is told, and remembers the lease."""

    def __init__(self, sample: Sample, model_digest: str = "") -> None:
        self.asked = 0
        self._sample = sample
        self._digest = model_digest

    def open(self, slots: Slots) -> Lease:
        self.asked += 1
        content, slot = self._sample.content, slots.slots[0]
        key = self._sample.private.open_slot(content.digest, slot.key_id, slot.sealed)
        self.lease = Lease(digest_of(self._digest.encode()) if self._digest else slots.model_digest, key)
        return self.lease


def refusal(sample: Sample) -> ProofFailed:
    with pytest.raises(ProofFailed) as caught:
        open_model(sample.directory, sample.keys)
    return caught.value


def rewrite_content(sample: Sample, content: Content) -> Sample:
    """Write another content and slots for it: what somebody with the data key, but without registration, can do."""
    key, digest = data_key_of(sample), content.digest
    (sample.directory / "nodeseal.model.json").write_bytes(content.encode())
    (sample.directory / "nodeseal.slots.json").write_bytes(Slots(digest, (sample.key.slot(digest, key),)).encode())
    return replace(sample, content=content)


def weights_of(content: Content) -> SealedFile:
    (weights,) = content.sealed()
    return weights


def with_weights(content: Content, **changes: object) -> Content:
    changed = replace(weights_of(content), **changes)  # type: ignore[arg-type]  # one fact of the good case
    return replace(content, files=tuple(changed if isinstance(f, SealedFile) else f for f in content.files))


# Before anything is parsed


def test_a_key_for_another_model_is_refused_before_the_content_is_parsed(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[object] = []
    monkeypatch.setattr(model_module, "parse_content", lambda *args: parsed.append(args))
    keys = HeldKeys(sample, "another model")
    with pytest.raises(ProofFailed) as caught:
        open_model(sample.directory, keys)
    assert caught.value.findings[0].id is FindingId.SEALED_MODEL
    assert parsed == []
    with pytest.raises(PolicyRefused):
        keys.lease.check()


def test_slots_of_another_model_are_refused_before_anyone_is_asked(sample: Sample, tmp_path: Path) -> None:
    other = sealed_model(tmp_path, name="other")
    shutil.copy(other.directory / "nodeseal.slots.json", sample.directory / "nodeseal.slots.json")
    keys = HeldKeys(sample)
    with pytest.raises(ProofFailed) as caught:
        open_model(sample.directory, keys)
    assert caught.value.findings[0].id is FindingId.SEALED_MODEL
    assert keys.asked == 0


def test_documents_that_do_not_parse_or_are_missing_are_refused(sample: Sample) -> None:
    (sample.directory / "nodeseal.slots.json").write_bytes(b"{}")
    with pytest.raises(MalformedInput):
        open_model(sample.directory, sample.keys)
    (sample.directory / "nodeseal.slots.json").unlink()
    with pytest.raises(Unavailable, match="No such file"):
        open_model(sample.directory, sample.keys)


def test_a_content_file_of_any_length_is_not_read(sample: Sample) -> None:
    with (sample.directory / "nodeseal.model.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(MalformedInput, match="at most"):
        open_model(sample.directory, sample.keys)


# Rule 1: what must be sealed is decided by the content file


def test_plaintext_in_place_of_a_sealed_file_is_refused(sample: Sample) -> None:
    sample.weights.write_bytes(PLAIN_WEIGHTS)
    error = refusal(sample)
    assert [(f.id, f.where) for f in error.findings] == [(FindingId.SEALED_HEADER, "model.safetensors.sealed")]


def test_plaintext_beside_a_sealed_file_is_refused(sample: Sample) -> None:
    (sample.directory / "model.safetensors").write_bytes(PLAIN_WEIGHTS)
    error = refusal(sample)
    assert [(f.id, f.where) for f in error.findings] == [(FindingId.SEALED_FILE, "model.safetensors")]


def test_the_directory_is_compared_whole_and_every_difference_is_named(sample: Sample) -> None:
    (sample.directory / "config.json").write_bytes(b'{"architectures":["Evil"]}')
    (sample.directory / "modeling.py").write_bytes(b"import os")
    (sample.directory / "sub" / "tokenizer.json").unlink()
    (sample.directory / "sub" / "adapter_config.json").write_bytes(b"{}")
    flip(sample.weights, 20)
    findings = refusal(sample).findings
    assert {finding.where for finding in findings} == {
        "config.json",
        "modeling.py",
        "sub/tokenizer.json",
        "sub/adapter_config.json",
        "model.safetensors.sealed",
    }


def test_entries_that_start_with_a_dot_are_overlooked(sample: Sample) -> None:
    (sample.directory / ".cache").mkdir()
    (sample.directory / ".cache" / "lock").write_bytes(b"")
    (sample.directory / ".gitattributes").write_bytes(b"")
    open_model(sample.directory, sample.keys).close()


def test_a_plain_file_that_changes_after_opening_is_refused_when_it_is_read(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model:
        flip(sample.directory / "config.json", 3)
        with pytest.raises(ProofFailed) as caught:
            model.read("config.json")
    assert caught.value.findings[0].id is FindingId.SEALED_FILE


# Rule 2: header first, lengths from authenticated sources, checked before allocation


@pytest.mark.parametrize("offset", [0, 9, 11, 15, 16, 100, BODY - 1])
def test_a_changed_header_is_refused_when_the_model_is_opened(sample: Sample, offset: int) -> None:
    flip(sample.weights, offset)
    assert {finding.id for finding in refusal(sample).findings} <= {FindingId.SEALED_HEADER, FindingId.SEALED_FILE}


def test_meta_is_not_parsed_before_the_header_tag_held(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    monkeypatch.setattr("nodeseal.sealed.container.parse_meta", lambda *args: parsed.append(args))
    flip(sample.weights, PREFIX_SIZE + 1)
    assert refusal(sample).findings[0].id is FindingId.SEALED_HEADER
    assert parsed == []


def test_a_header_tag_that_the_content_does_not_cover_is_refused(sample: Sample) -> None:
    changed = rewrite_content(sample, with_weights(sample.content, header_tag=bytes(32)))
    assert refusal(changed).findings[0].expected == "the header tag of the content file"


@pytest.mark.parametrize("changes", [{"file_id": bytes(16)}, {"path": "other.safetensors"}])
def test_an_authentic_header_of_another_file_is_refused_and_its_keys_forgotten(
    sample: Sample, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, wiped = with_weights(sample.content, **changes), list[int]()
    changed = rewrite_content(sample, content)
    sample.weights.rename(sample.directory / weights_of(content).stored_path)
    monkeypatch.setattr(floe, "wipe", lambda key: wiped.append(len(key)))
    (finding,) = refusal(changed).findings
    assert wiped == [48]
    assert (finding.id, finding.seen) == (FindingId.SEALED_HEADER, "META of another file")


def test_ten_gigabytes_declared_in_a_small_file_are_refused_before_allocation(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = rewrite_content(sample, with_weights(sample.content, size=10 << 30))
    allocated: list[int] = []
    monkeypatch.setattr("nodeseal.loader.opened.allocate", allocated.append)
    (finding,) = refusal(changed).findings
    assert finding.id is FindingId.SEALED_FILE
    assert allocated == []


def test_a_plain_file_that_grew_is_refused_before_allocation(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(sample.directory / "config.json", 1 << 40)
    allocated: list[int] = []

    def allocate(size: int) -> memoryview:
        allocated.append(size)
        return memoryview(bytearray(min(size, 100)))

    monkeypatch.setattr(model_module, "allocate", allocate)
    assert [finding.where for finding in refusal(sample).findings] == ["config.json"]
    assert allocated == [2]  # sub/tokenizer.json


@pytest.mark.parametrize("change", [-1, 1, -SEGMENT, SEGMENT])
def test_a_container_of_another_length_is_refused_when_opened(sample: Sample, change: int) -> None:
    os.truncate(sample.weights, sample.weights.stat().st_size + change)
    (finding,) = refusal(sample).findings
    assert finding.id is FindingId.SEALED_FILE
    assert f"{sample.weights.stat().st_size} bytes" in finding.seen


def test_an_empty_container_is_refused(sample: Sample) -> None:
    sample.weights.write_bytes(b"")
    assert refusal(sample).findings[0].id is FindingId.SEALED_HEADER


def test_a_pipe_in_place_of_a_container_is_refused_without_waiting(sample: Sample) -> None:
    sample.weights.unlink()
    os.mkfifo(sample.weights)
    assert "not a regular file" in refusal(sample).findings[0].seen


def test_tags_and_digests_are_compared_in_constant_time(pristine: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    compare = hmac.compare_digest

    def note(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    with open_model(pristine.directory, pristine.keys) as model:
        config, weights, _ = model.files()
        compared.clear()
        model.read("config.json")
        model.read("model.safetensors")
    assert isinstance(config, PlainFile)
    assert isinstance(weights, SealedFile)
    assert compared == [config.sha256, weights.header_tag, weights.header_tag, weights.tags_digest]
    open_model(pristine.directory, pristine.keys).close()
    assert compared[4] == pristine.content.digest


# Rule 3: private staging, never decrypted from memory that others can write


def test_segments_are_decrypted_from_private_memory_only(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[memoryview] = []
    decrypt = floe.Decryptor.decrypt_into

    def note(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        sources.append(segment)
        decrypt(self, position, segment, out, final=final)

    monkeypatch.setattr(floe.Decryptor, "decrypt_into", note)
    with open_model(sample.directory, sample.keys) as model:
        model.read("model.safetensors")
        model.read_range("model.safetensors", 0, 10)
    assert len(sources) == 4
    assert all(mapping_of(np.frombuffer(source, np.uint8).ctypes.data) == "rw-p 0" for source in sources)


# Rule 4: nothing is left behind by a segment that does not verify, and the handle is poisoned


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_bad_segment_leaves_no_plaintext_and_poisons_the_model(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    flip(sample.weights, BODY + position * SEGMENT + 100)
    buffers: list[memoryview] = []

    def allocate(size: int) -> memoryview:
        buffers.append(memoryview(bytearray(b"\xaa" * size)))
        return buffers[-1]

    monkeypatch.setattr("nodeseal.loader.opened.allocate", allocate)
    with open_model(sample.directory, sample.keys) as model:
        with pytest.raises(ProofFailed) as caught:
            model.read("model.safetensors")
        assert caught.value.findings[0].id is FindingId.SEALED_SEGMENT
        destination = max(buffers, key=len)
        assert not any(destination)
        for read in (model.read, model.verify):
            for path in ("config.json", "model.safetensors"):
                with pytest.raises(ProofFailed) as again:
                    read(path)
                assert again.value.findings == caught.value.findings


def test_a_range_that_does_not_verify_leaves_no_plaintext(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(sample.weights, BODY + SEGMENT + 100)
    buffers: list[memoryview] = []

    def allocate(size: int) -> memoryview:
        buffers.append(memoryview(bytearray(size)))
        return buffers[-1]

    monkeypatch.setattr("nodeseal.loader.opened.allocate", allocate)
    with open_model(sample.directory, sample.keys) as model, pytest.raises(ProofFailed):
        model.read_range("model.safetensors", CAPACITY - 1000, CAPACITY + 1000)
    assert not any(buffers[0])


# Rule 5: what verifies what


def test_a_whole_read_refuses_segments_that_were_rewritten_with_the_data_key(sample: Sample) -> None:
    rewrite_first_segment(sample)
    with open_model(sample.directory, sample.keys) as model:
        assert bytes(model.read_range("model.safetensors", 0, 8)) == bytes(8)
        for read in (model.verify, model.read):
            with pytest.raises(ProofFailed, match="segments written later"):
                read("model.safetensors")


def test_a_segment_that_is_rewritten_between_two_reads_is_refused(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model, model.open("model.safetensors") as file:
        assert bytes(file.read_range(0, 10)) == PLAIN_WEIGHTS[:10]
        rewrite_first_segment(sample)
        with pytest.raises(ProofFailed, match="written later with the same data key"):
            file.read_range(0, 10)


def test_a_range_verifies_its_own_segments_only(sample: Sample) -> None:
    flip(sample.weights, BODY + 2 * SEGMENT + 100)
    with open_model(sample.directory, sample.keys) as model:
        assert bytes(model.read_range("model.safetensors", 10, 20)) == PLAIN_WEIGHTS[10:20]
        with pytest.raises(ProofFailed):
            model.read_range("model.safetensors", 0, len(PLAIN_WEIGHTS))


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 0), (0, 1), (CAPACITY - 1, CAPACITY + 1), (CAPACITY, 2 * CAPACITY), (5, len(PLAIN_WEIGHTS)), (7, 7)],
)
def test_a_range_is_what_it_says(pristine: Sample, start: int, stop: int) -> None:
    with open_model(pristine.directory, pristine.keys) as model:
        assert bytes(model.read_range("model.safetensors", start, stop)) == PLAIN_WEIGHTS[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (0, len(PLAIN_WEIGHTS) + 1)])
def test_a_range_outside_the_file_is_a_mistake(pristine: Sample, start: int, stop: int) -> None:
    with open_model(pristine.directory, pristine.keys) as model, pytest.raises(ValueError, match="bytes"):
        model.read_range("model.safetensors", start, stop)


def test_a_buffer_that_reaches_over_the_end_is_a_mistake_and_holds_zeros(pristine: Sample) -> None:
    buffer = memoryview(bytearray(b"\xaa" * 20))
    with open_model(pristine.directory, pristine.keys) as model, model.open("model.safetensors") as file:
        for start in (-1, len(PLAIN_WEIGHTS) - 19):
            with pytest.raises(ValueError, match="bytes"):
                file.read_range_into(buffer, start)
            assert not any(buffer)


# Rule 6: no plaintext and no key where it does not belong


def test_plaintext_lies_in_memory_that_core_dumps_leave_out(pristine: Sample) -> None:
    with open_model(pristine.directory, pristine.keys) as model:
        plaintext = model.read("model.safetensors")
        assert isinstance(plaintext.obj, mmap.mmap)
        address = np.frombuffer(plaintext, np.uint8).ctypes.data
    assert left_out_of_core_dumps(address)


def test_nothing_is_written_and_nothing_stays_open_while_a_model_is_read(pristine: Sample, tmp_path: Path) -> None:
    places = (pristine.directory.parent, tmp_path)
    descriptors = Path("/proc/self/fd")
    before = [set(place.rglob("*")) for place in places], len(list(descriptors.iterdir()))
    with open_model(pristine.directory, pristine.keys) as model:
        model.read("model.safetensors")
        after = [set(place.rglob("*")) for place in places], len(list(descriptors.iterdir()))
    assert after == before


def test_closing_wipes_the_key_and_ends_all_reading(pristine: Sample) -> None:
    keys = HeldKeys(pristine)
    model = open_model(pristine.directory, keys)
    key = keys.lease.data_key()
    assert any(key)
    model.close()
    assert not any(key)
    for read in (model.read, model.verify, model.open, lambda path: model.read_range(path, 0, 1)):
        with pytest.raises(PolicyRefused) as caught:
            read("model.safetensors")
        assert caught.value.findings[0].id is FindingId.SEALED_LEASE


@pytest.mark.parametrize("offset", [PREFIX_SIZE + 1, 8, -1])
def test_a_file_that_is_refused_does_not_stay_open(sample: Sample, offset: int) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with open_model(sample.directory, sample.keys) as model:
        before = descriptors()
        flip(sample.weights, offset)
        with pytest.raises(ProofFailed):
            model.read("model.safetensors")
        assert descriptors() == before


def test_a_model_that_does_not_open_gives_its_lease_back(sample: Sample) -> None:
    (sample.directory / "extra.py").write_bytes(b"")
    keys = HeldKeys(sample)
    with pytest.raises(ProofFailed):
        open_model(sample.directory, keys)
    with pytest.raises(PolicyRefused):
        keys.lease.data_key()


def test_neither_errors_nor_reprs_show_plaintext_or_keys(sample: Sample) -> None:
    key = data_key_of(sample)
    flip(sample.weights, BODY + 100)
    keys = HeldKeys(sample)
    with open_model(sample.directory, keys) as model, pytest.raises(ProofFailed) as caught:
        model.read("model.safetensors")
    shown = repr(caught.value) + str(caught.value) + repr(keys.lease) + repr(model) + repr(sample)
    assert key.hex() not in shown
    assert repr(bytes(key)) not in shown


# Leases


def test_one_release_opens_the_whole_directory(pristine: Sample) -> None:
    keys = HeldKeys(pristine)
    with open_model(pristine.directory, keys) as model:
        for file in model.files():
            model.read(file.path)
    assert keys.asked == 1


def test_a_revocation_wipes_the_key_tells_the_owner_and_ends_all_reading(pristine: Sample) -> None:
    keys, told = HeldKeys(pristine), list[str]()
    with open_model(pristine.directory, keys, on_revoked=told.append) as model:
        key = keys.lease.data_key()
        keys.lease.end("a PCR moved")
        assert told == ["a PCR moved"]
        assert not any(key)
        with pytest.raises(PolicyRefused, match="a PCR moved"):
            model.read("model.safetensors")
    assert told == ["a PCR moved"]


def test_closing_is_no_revocation(pristine: Sample) -> None:
    told: list[str] = []
    open_model(pristine.directory, pristine.keys, on_revoked=told.append).close()
    assert told == []


@pytest.mark.parametrize(
    "call",
    [lambda m, p: m.read("model.safetensors", progress=p), lambda m, p: m.verify("model.safetensors", progress=p)],
)
def test_a_revocation_in_the_middle_of_a_read_ends_it(
    pristine: Sample, call: Callable[[SealedModel, Callable[[int], None]], object]
) -> None:
    keys = HeldKeys(pristine)
    with open_model(pristine.directory, keys) as model, pytest.raises(PolicyRefused, match="revoked"):
        call(model, lambda _: keys.lease.end("revoked"))


def test_a_revocation_in_the_middle_of_a_range_ends_it(pristine: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, decrypt = HeldKeys(pristine), floe.Decryptor.decrypt_into

    def revoke(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        decrypt(self, position, segment, out, final=final)
        keys.lease.end("revoked")

    monkeypatch.setattr(floe.Decryptor, "decrypt_into", revoke)
    with open_model(pristine.directory, keys) as model, pytest.raises(PolicyRefused, match="revoked"):
        model.read_range("model.safetensors", 0, CAPACITY + 1)


def test_readable_files_of_a_closed_model_are_not_given_either(pristine: Sample) -> None:
    model = open_model(pristine.directory, pristine.keys)
    model.close()
    for read in (model.read, model.verify):
        with pytest.raises(PolicyRefused):
            read("config.json")


def test_a_key_that_is_wiped_under_a_read_is_a_revocation_and_no_tampering(
    pristine: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wiped(lease: Lease) -> bytearray:
        lease.end("revoked")
        return bytearray(32)

    with open_model(pristine.directory, pristine.keys) as model:
        monkeypatch.setattr(Lease, "data_key", wiped)
        with pytest.raises(PolicyRefused, match="revoked"):
            model.read("model.safetensors")
    with pytest.raises(PolicyRefused, match="revoked"):
        open_model(pristine.directory, pristine.keys)


# The API


def test_files_are_listed_and_unknown_ones_are_not_found(pristine: Sample) -> None:
    with open_model(pristine.directory, pristine.keys) as model:
        assert [file.path for file in model.files()] == ["config.json", "model.safetensors", "sub/tokenizer.json"]
        for path in ("nope", "../tiny/config.json", "nodeseal.model.json", "model.safetensors.sealed"):
            with pytest.raises(NotFound):
                model.read(path)
        with pytest.raises(NotFound, match="not a sealed file"):
            model.read_range("config.json", 0, 1)


def test_verifying_counts_every_byte_and_returns_nothing(pristine: Sample) -> None:
    counted: list[int] = []
    with open_model(pristine.directory, pristine.keys) as model:
        for file in model.files():
            model.verify(file.path, progress=counted.append)
        assert sum(counted) == model.content.size


def test_models_whose_files_are_links_open(sample: Sample, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    sample.weights.rename(blob)
    sample.weights.symlink_to(blob)
    open_model(sample.directory, sample.keys).close()
