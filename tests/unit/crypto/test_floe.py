"""FLOE against the known answers of its authors' four implementations, and every refusal of its specification."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from nodeseal.crypto import floe
from nodeseal.crypto.floe import Decryptor, Encryptor, Parameters
from nodeseal.errors import ProofFailed
from nodeseal.findings import FindingId
from support.damage import flipped
from support.data import shared_data

KEY, AAD, NAME = bytes(range(32)), b"aad", "model.safetensors"
SEGMENT = 64
CAPACITY = SEGMENT - floe.SEGMENT_OVERHEAD
TWO_AND_A_HALF = bytes(range(2 * CAPACITY + CAPACITY // 2))

KNOWN_ANSWERS = [
    *(f"{who}_GCM256_IV256_{size}" for who in ("cpp", "go", "java", "pub_java", "rust") for size in ("64", "4K")),
    *(f"{who}_rotation" for who in ("cpp", "go", "java", "pub_java", "rust")),
    "java_lastSegAligned",
    "java_lastSegEmpty",
]


def split(body: bytes, size: int = SEGMENT) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def sealed(plaintext: bytes = TWO_AND_A_HALF, *, aad: bytes = AAD) -> tuple[bytes, list[bytes]]:
    encryptor, segments = Encryptor(KEY, aad, Parameters(SEGMENT)), []
    chunks = split(plaintext, CAPACITY) or [b""]
    for position, chunk in enumerate(chunks):
        out = bytearray(len(chunk) + floe.SEGMENT_OVERHEAD)
        encryptor.encrypt_into(position, memoryview(chunk), memoryview(out), final=position == len(chunks) - 1)
        segments.append(bytes(out))
    return encryptor.header, segments


def decrypt(decryptor: Decryptor, segments: list[bytes]) -> bytes:
    opened = b""
    for position, segment in enumerate(segments):
        out = bytearray(max(0, len(segment) - floe.SEGMENT_OVERHEAD))
        final = position == len(segments) - 1
        decryptor.decrypt_into(position, memoryview(segment), memoryview(out), final=final)
        opened += out
    return opened


def start(header: bytes, *, key: bytes = KEY, aad: bytes = AAD, segment_size: int = SEGMENT) -> Decryptor:
    return Decryptor(key, aad, header, Parameters(segment_size), name=NAME)


def parameters(name: str, size: int) -> Parameters:
    """Known answers of rotation change the key every four segments, to be short."""
    return Parameters(size, rotation_bits=2) if "rotation" in name else Parameters(size)


def refusal(header: bytes, segments: list[bytes]) -> FindingId:
    with pytest.raises(ProofFailed) as caught:
        decrypt(start(header), segments)
    (finding,) = caught.value.findings
    assert finding.where == NAME
    return finding.id


def test_no_known_answer_is_left_out() -> None:
    names = {path.name.removesuffix("_ct.txt") for path in shared_data("floe-kats").glob("*_ct.txt")}
    assert names == set(KNOWN_ANSWERS)


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_known_answers_of_other_implementations_decrypt(name: str) -> None:
    folder = shared_data("floe-kats")
    ciphertext = bytes.fromhex((folder / f"{name}_ct.txt").read_text())
    plaintext = bytes.fromhex((folder / f"{name}_pt.txt").read_text())
    size, header = int.from_bytes(ciphertext[2:6], "big"), ciphertext[: floe.HEADER_SIZE]
    decryptor = Decryptor(bytes(32), b"This is AAD", header, parameters(name, size))
    assert decrypt(decryptor, split(ciphertext[floe.HEADER_SIZE :], size)) == plaintext


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_known_answers_come_out_again_when_their_random_numbers_are_given(name: str) -> None:
    folder = shared_data("floe-kats")
    ciphertext = bytes.fromhex((folder / f"{name}_ct.txt").read_text())
    plaintext = memoryview(bytes.fromhex((folder / f"{name}_pt.txt").read_text()))
    size = int.from_bytes(ciphertext[2:6], "big")
    segments = split(ciphertext[floe.HEADER_SIZE :], size)
    randoms = iter([ciphertext[10:42], *(segment[4:16] for segment in segments)])
    encryptor = Encryptor(bytes(32), b"This is AAD", parameters(name, size), random=lambda _: next(randoms))
    assert encryptor.header == ciphertext[: floe.HEADER_SIZE]
    for position, segment in enumerate(segments):
        at, out = position * (size - floe.SEGMENT_OVERHEAD), bytearray(len(segment))
        chunk = plaintext[at : at + len(segment) - floe.SEGMENT_OVERHEAD]
        encryptor.encrypt_into(position, chunk, memoryview(out), final=position == len(segments) - 1)
        assert out == segment


@pytest.mark.parametrize("size", [0, 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 2 * CAPACITY, 5 * CAPACITY + 7])
def test_any_length_survives(size: int) -> None:
    plaintext = bytes(index % 251 for index in range(size))
    header, segments = sealed(plaintext)
    assert decrypt(start(header), segments) == plaintext


def test_segments_decrypt_in_any_order_from_many_threads() -> None:
    plaintext = bytes(index % 251 for index in range(200 * CAPACITY + 3))
    header, segments = sealed(plaintext)
    decryptor = start(header)

    def one(position: int) -> bytes:
        out = bytearray(len(segments[position]) - floe.SEGMENT_OVERHEAD)
        final = position == len(segments) - 1
        decryptor.decrypt_into(position, memoryview(segments[position]), memoryview(out), final=final)
        return bytes(out)

    backwards = range(len(segments) - 1, -1, -1)
    with ThreadPoolExecutor(4) as pool:
        assert b"".join(reversed(list(pool.map(one, backwards)))) == plaintext


def test_each_flipped_bit_of_the_header_is_found() -> None:
    header, segments = sealed()
    for bit in range(8 * len(header)):
        changed = bytearray(header)
        changed[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(changed), segments) is FindingId.SEALED_HEADER


def test_each_flipped_bit_of_every_segment_is_found() -> None:
    header, segments = sealed()
    for index, segment in enumerate(segments):
        for bit in range(8 * len(segment)):
            changed = bytearray(segment)
            changed[bit // 8] ^= 1 << bit % 8
            tampered = [*segments[:index], bytes(changed), *segments[index + 1 :]]
            assert refusal(header, tampered) is FindingId.SEALED_SEGMENT


@pytest.mark.parametrize(
    ("why", "order"),
    [
        ("swapped", [1, 0, 2]),
        ("repeated", [0, 0, 1, 2]),
        ("dropped at the front", [1, 2]),
        ("dropped in the middle", [0, 2]),
        ("dropped at the end", [0, 1]),
        ("appended", [0, 1, 2, 2]),
        ("last one first", [2, 0, 1]),
    ],
)
def test_segments_out_of_order_are_found(why: str, order: list[int]) -> None:
    header, segments = sealed()
    assert refusal(header, [segments[index] for index in order]) is FindingId.SEALED_SEGMENT, why


def test_segments_of_another_ciphertext_under_the_same_key_are_found() -> None:
    (header, segments), (_, others) = sealed(), sealed()
    assert refusal(header, [segments[0], others[1], segments[2]]) is FindingId.SEALED_SEGMENT


def test_a_last_segment_cut_at_any_byte_is_found() -> None:
    header, segments = sealed()
    for size in range(len(segments[-1])):
        assert refusal(header, [*segments[:-1], segments[-1][:size]]) is FindingId.SEALED_SEGMENT


@pytest.mark.parametrize(("size", "final"), [(SEGMENT - 8, False), (SEGMENT + 8, False), (SEGMENT + 8, True)])
def test_a_segment_of_another_length_is_refused_even_from_who_has_the_key(size: int, final: bool) -> None:  # noqa: FBT001 - a table's column
    encryptor = Encryptor(KEY, AAD, Parameters(SEGMENT))
    encryptor._params = Parameters(size)  # a writer that breaks the rules
    segment, opened = memoryview(bytearray(size)), memoryview(bytearray(size - floe.SEGMENT_OVERHEAD))
    encryptor.encrypt_into(0, memoryview(bytes(len(opened))), segment, final=final)
    with pytest.raises(ProofFailed, match=f"segment of {size} bytes"):
        start(encryptor.header).decrypt_into(0, segment, opened, final=final)


def test_a_final_segment_is_no_inner_one_even_at_full_length() -> None:
    header, segments = sealed(bytes(2 * CAPACITY))
    decryptor, out = start(header), memoryview(bytearray(CAPACITY))
    for position, segment in enumerate(segments):
        relabelled = (b"\xff" * 4 if position == 1 else SEGMENT.to_bytes(4, "big")) + segment[4:]
        with pytest.raises(ProofFailed):
            decryptor.decrypt_into(position, memoryview(relabelled), out, final=position == 0)


@pytest.mark.parametrize(
    "changed",
    [{"key": bytes(32)}, {"aad": b"AAD"}, {"segment_size": SEGMENT + 1}],
    ids=["another key", "another aad", "another segment size"],
)
def test_a_header_opens_under_one_key_one_aad_and_one_segment_size(changed: dict[str, object]) -> None:
    header, _ = sealed()
    with pytest.raises(ProofFailed) as caught:
        start(header, **changed)  # type: ignore[arg-type]  # one fact of the good case
    assert caught.value.findings[0].id is FindingId.SEALED_HEADER


@pytest.mark.parametrize("size", [0, 10, 73, 75])
def test_a_header_of_another_length_is_refused(size: int) -> None:
    header, _ = sealed()
    with pytest.raises(ProofFailed):
        start((header + b"\0")[:size])


def test_no_plaintext_stays_behind_when_a_tag_does_not_hold() -> None:
    header, segments = sealed()
    segment, out = bytearray(segments[0]), bytearray(b"\xaa" * CAPACITY)
    segment[-1] ^= 1
    with pytest.raises(ProofFailed):
        start(header).decrypt_into(0, memoryview(segment), memoryview(out), final=False)
    assert out == bytes(CAPACITY)


def test_no_key_stays_behind_when_the_header_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    (header, _), wiped = sealed(), list[int]()
    monkeypatch.setattr(floe, "wipe", lambda key: wiped.append(len(key)))
    with pytest.raises(ProofFailed):
        start(flipped(header))
    assert wiped == [48]  # the message key, which is that of the good header


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.deepcopy])
def test_keys_of_a_file_are_not_duplicated(duplicate: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        duplicate(start(sealed()[0]))


def test_no_key_stays_behind_when_a_file_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    wiped: list[int] = []
    monkeypatch.setattr(floe, "wipe", lambda key: wiped.append(len(key)))
    encryptor, out = Encryptor(KEY, AAD, Parameters(SEGMENT)), memoryview(bytearray(SEGMENT))
    encryptor.encrypt_into(0, memoryview(bytes(CAPACITY)), out, final=True)
    assert wiped == [32]  # the segments' key, once the cipher has it
    encryptor.close()
    assert wiped == [32, 48]


def test_equal_plaintext_gives_unequal_ciphertext() -> None:
    (first, _), (second, _) = sealed(), sealed()
    assert first != second


def test_a_closed_encryptor_does_not_encrypt_under_a_key_that_everybody_knows() -> None:
    encryptor, out = Encryptor(KEY, AAD, Parameters(SEGMENT)), bytearray(7 + floe.SEGMENT_OVERHEAD)
    encryptor.close()
    with pytest.raises(ValueError, match="wiped"):
        encryptor.encrypt_into(0, memoryview(b"weights"), memoryview(out), final=True)
    assert not any(out[16:])


def test_a_closed_decryptor_opens_nothing_not_even_what_was_made_with_zeros() -> None:
    header, segments = sealed()
    decryptor = start(header)
    decryptor.close()
    with pytest.raises(ProofFailed):
        decrypt(decryptor, segments)
    forger = Encryptor(KEY, AAD, Parameters(SEGMENT), random=lambda count: header[10:42][:count])
    forger._state._message_key = bytearray(48)
    forged = bytearray(len(segments[0]))
    forger.encrypt_into(0, memoryview(bytes(CAPACITY)), memoryview(forged), final=False)
    with pytest.raises(ProofFailed):
        decryptor.decrypt_into(0, memoryview(forged), memoryview(bytearray(CAPACITY)), final=False)


@pytest.mark.parametrize(
    ("position", "size", "final"),
    [(0, CAPACITY - 1, False), (0, CAPACITY + 1, True), (-1, CAPACITY, False), (1 << 40, CAPACITY, False)],
)
def test_a_segment_out_of_range_is_not_encrypted(position: int, size: int, final: bool) -> None:  # noqa: FBT001 - a table's column
    out = memoryview(bytearray(size + floe.SEGMENT_OVERHEAD))
    with pytest.raises(ValueError, match="out of range"):
        Encryptor(KEY, AAD, Parameters(SEGMENT)).encrypt_into(position, memoryview(bytes(size)), out, final=final)


@pytest.mark.parametrize(("key", "size"), [(bytes(31), SEGMENT), (KEY, floe.SEGMENT_OVERHEAD)])
def test_a_short_key_or_segment_is_not_accepted(key: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="FLOE"):
        Encryptor(key, AAD, Parameters(size))


def test_a_cryptography_that_holds_the_gil_is_refused_at_import() -> None:
    code = "import cryptography; cryptography.__version__ = '49.0.0'; import nodeseal.loader"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "nodeseal needs cryptography 50 or newer, found 49.0.0" in run.stderr
