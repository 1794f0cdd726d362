"""Whatever bytes come: decoders return a value that encodes to the same meaning, or raise MalformedInput."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from nodeseal.crypto.keys import decode_public_key
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import Alg, HashAlg
from nodeseal.tpm.attest import Attest, ClockInfo, Quoted, decode_attest, encode_attest
from nodeseal.tpm.buffer import Reader
from nodeseal.tpm.pcr import PCR_COUNT, PcrSelection, decode_pcr_selection
from nodeseal.tpm.public import decode_public, decode_public_2b, encode_public_2b
from nodeseal.tpm.signature import EccSignature, RsaSignature, TpmSignature, decode_signature, encode_signature
from nodeseal.tpm.tools import decode_pcr_file
from support.tpm_values import ATTESTED, ECC, PUBLICS, RSA, attest

BANKS = st.dictionaries(st.sampled_from(HashAlg), st.sets(st.integers(0, PCR_COUNT - 1), min_size=1), min_size=1)
SELECTIONS = BANKS.map(PcrSelection.of)
SIZED = st.binary(max_size=66)
ATTESTS = st.builds(
    Attest,
    qualified_signer=SIZED,
    extra_data=SIZED,
    clock_info=st.builds(
        ClockInfo,
        clock=st.integers(0, 2**64 - 1),
        reset_count=st.integers(0, 2**32 - 1),
        restart_count=st.integers(0, 2**32 - 1),
        safe=st.booleans(),
    ),
    firmware_version=st.integers(0, 2**64 - 1),
    attested=st.builds(Quoted, st.none() | SELECTIONS, st.binary(max_size=64)) | st.sampled_from([*ATTESTED.values()]),
)
SIGNATURES: st.SearchStrategy[TpmSignature] = st.builds(
    EccSignature, st.sampled_from(HashAlg), st.integers(0, 2**528 - 1), st.integers(0, 2**528 - 1)
) | st.builds(
    RsaSignature, st.sampled_from([Alg.RSASSA, Alg.RSAPSS]), st.sampled_from(HashAlg), st.binary(max_size=512)
)
SAMPLES = [
    *(encode_attest(attest(attested)) for attested in ATTESTED.values()),
    *(public.encode() for public in PUBLICS.values()),
    *(encode_public_2b(public) for public in PUBLICS.values()),
    encode_signature(EccSignature(HashAlg.SHA256, 1, 2)),
]


def _decode_selection(raw: bytes) -> PcrSelection | None:
    reader = Reader(raw, "TPML_PCR_SELECTION")
    selection = decode_pcr_selection(reader)
    reader.end()
    return selection


DECODERS: dict[str, Callable[[bytes], object]] = {
    "attest": decode_attest,
    "public": decode_public,
    "public 2b": decode_public_2b,
    "public key": decode_public_key,
    "signature": decode_signature,
    "selection": _decode_selection,
    "pcr file": lambda raw: decode_pcr_file(raw, PcrSelection.of({HashAlg.SHA256: (0, 1), HashAlg.SHA1: (2,)})),
}


@given(ATTESTS)
def test_every_attestation_survives_the_wire(value: Attest) -> None:
    assert decode_attest(encode_attest(value)) == value


@given(SIGNATURES)
def test_every_signature_survives_the_wire(value: TpmSignature) -> None:
    assert decode_signature(encode_signature(value, 66)) == value


@given(SELECTIONS)
def test_every_selection_survives_the_wire(value: PcrSelection) -> None:
    assert _decode_selection(value.encode()) == value


@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_decoded_or_refused(raw: bytes) -> None:
    for decode in DECODERS.values():
        with contextlib.suppress(MalformedInput):
            decode(raw)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@given(_damaged())
def test_damaged_structures_are_decoded_or_refused(raw: bytes) -> None:
    for decode in DECODERS.values():
        with contextlib.suppress(MalformedInput):
            decode(raw)


@given(_damaged())
def test_a_public_area_has_one_spelling(raw: bytes) -> None:
    """A name is a hash of bytes, so no two spellings of a key may decode to one value."""
    with contextlib.suppress(MalformedInput):
        assert decode_public(raw).encode() == raw


@given(st.text(max_size=300))
def test_arbitrary_text_is_read_as_values_or_refused(text: str) -> None:
    with contextlib.suppress(MalformedInput):
        decode_pcr_file(text.encode(), PcrSelection.of({HashAlg.SHA256: (0,)}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("00" * 32),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["0", "1", "sha256", "sha1", "pcrs", "hash", "pcr", "digest", "x"]), inner, max_size=4
        )
    ),
)


@given(JSON)
def test_arbitrary_json_is_read_as_values_or_refused(value: object) -> None:
    raw = json.dumps(value).encode()
    with contextlib.suppress(MalformedInput):
        decode_pcr_file(raw, PcrSelection.of({HashAlg.SHA256: (0,)}))


def test_the_samples_decode() -> None:
    assert decode_public(ECC.encode()) == ECC
    assert decode_public(RSA.encode()) == RSA
