"""Notes, checkpoints and cosignatures: C2SP's own examples parse, and one that was changed does not verify."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key, verify_ed25519
from nodeseal.crypto.tls_key import new_tls_key
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.tlog.checkpoint import (
    Checkpoint,
    cosign,
    log_key,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    verify_cosignature,
    with_signatures,
)
from nodeseal.tlog.note import (
    MAX_NOTE,
    NoteSignature,
    SignatureType,
    VerifierKey,
    decode_note,
    parse_key_name,
    parse_signatures,
    parse_vkey,
)
from nodeseal.tlog.proof_text import AddCheckpoint, LogProof, decode_add_checkpoint, decode_proof
from support.damage import flipped

AT = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
LOG, WITNESS = Ed25519Signer(new_log_key(), "log"), Ed25519Signer(new_log_key(), "witness")
CHECKPOINT = Checkpoint(origin="example.org/log", size=7, root=bytes(range(32)))
SIGNED = sign_checkpoint(CHECKPOINT, LOG)
KEY = log_key("example.org/log", LOG.public)
WITNESS_KEY = VerifierKey(name="example.org/w", type=SignatureType.COSIGNATURE, public=WITNESS.public)
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
    "zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0"
    "xUe+mbIUBkBIfZ+qnA==\n"
).encode()
"""The example of C2SP tlog-cosignature."""
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
"""The verifier key in the documentation of Go's package note."""


def test_the_example_of_the_specification_parses_and_encodes_to_itself() -> None:
    note = decode_note(EXAMPLE)
    assert note.encode() == EXAMPLE
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert [each.name for each in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]


def test_the_key_of_go_s_documentation_parses_to_itself() -> None:
    assert parse_vkey(VKEY).text == VKEY
    assert parse_vkey(VKEY).name == "PeterNeumann"


def test_a_checkpoint_opens_with_the_key_of_its_log_alone() -> None:
    assert open_checkpoint(SIGNED.raw, KEY) == SIGNED
    for key in (log_key("example.org/log", WITNESS.public), log_key("example.org/other", LOG.public)):
        with pytest.raises(ProofFailed) as refused:
            open_checkpoint(SIGNED.raw, key)
        assert refused.value.findings[0].id is FindingId.LOG_SIGNATURE


def test_a_signature_of_a_known_key_that_does_not_hold_refuses_the_whole_note() -> None:
    (good,) = SIGNED.note.signatures
    bad = NoteSignature(name=good.name, key_id=good.key_id, signature=flipped(good.signature))
    with pytest.raises(ProofFailed):
        open_checkpoint(with_signatures(SIGNED, (bad,)).raw, KEY)
    stranger = NoteSignature(name=good.name, key_id=b"1234", signature=b"x")
    assert open_checkpoint(with_signatures(SIGNED, (stranger,)).raw, KEY).checkpoint == CHECKPOINT


def test_an_origin_that_is_not_the_signer_s_name_is_refused() -> None:
    other = sign_checkpoint(CHECKPOINT, LOG)
    text = other.note.text.replace("example.org/log", "example.org/lot")
    signature = NoteSignature(name=KEY.name, key_id=KEY.key_id, signature=LOG.sign(text.encode()))
    with pytest.raises(ProofFailed):
        open_checkpoint(f"{text}\n{signature.line}".encode(), KEY)


def test_a_changed_checkpoint_never_opens() -> None:
    raw = SIGNED.raw
    for at in range(len(raw)):
        for changed in (flipped(raw, at), raw[:at]):
            with pytest.raises((ProofFailed, MalformedInput)):
                open_checkpoint(changed, KEY)


def test_a_cosignature_names_witness_and_second() -> None:
    cosigned = with_signatures(SIGNED, (cosign(SIGNED, WITNESS_KEY.name, WITNESS, AT),))
    found = verify_cosignature(decode_note(cosigned.raw), WITNESS_KEY)
    assert (found.witness, found.at) == ("example.org/w", AT.replace(microsecond=0))
    assert with_signatures(cosigned, cosigned.note.signatures) == cosigned
    assert open_checkpoint(cosigned.raw, KEY).checkpoint == CHECKPOINT


def test_a_changed_cosignature_does_not_count() -> None:
    good = cosign(SIGNED, WITNESS_KEY.name, WITNESS, AT)
    for raw in (*(flipped(good.signature, at) for at in range(len(good.signature))), good.signature[:-1], b"x"):
        bad = NoteSignature(name=good.name, key_id=good.key_id, signature=raw)
        with pytest.raises(ProofFailed):
            verify_cosignature(with_signatures(SIGNED, (bad,)).note, WITNESS_KEY)
    with pytest.raises(ProofFailed, match="none by this key"):
        verify_cosignature(SIGNED.note, WITNESS_KEY)
    late = NoteSignature(name=good.name, key_id=good.key_id, signature=b"\xff" * 8 + good.signature[8:])
    with pytest.raises(ProofFailed, match="a time and a signature"):
        verify_cosignature(with_signatures(SIGNED, (late,)).note, WITNESS_KEY)


def test_the_latest_of_several_cosignatures_counts() -> None:
    lines = tuple(cosign(SIGNED, WITNESS_KEY.name, WITNESS, AT.replace(year=year)) for year in (2026, 2027, 2025))
    assert verify_cosignature(with_signatures(SIGNED, lines).note, WITNESS_KEY).at.year == 2027


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n01\n" + "A" * 43 + "=\n",
        "o\n-1\n" + "A" * 43 + "=\n",
        "o\n9999999999999999\n" + "A" * 43 + "=\n",
        "o\n1\n" + "A" * 42 + "B=\n",
        "o\n1\nAA==\n",
        "o\n1\n!\n",
        "\n1\n" + "A" * 43 + "=\n",
        "o\n1\n" + "A" * 43 + "=\n\nx\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        parse_checkpoint(text)


def test_extension_lines_are_carried() -> None:
    extended = Checkpoint(origin="o", size=1, root=bytes(32), extensions=("a", "b"))
    assert parse_checkpoint(extended.text) == extended


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"x" * (MAX_NOTE + 1), "at most"),
        (b"\xff\n\n\xe2\x80\x94 a AAAAAAA=\n", "not UTF-8"),
        (b"a\x1b\n\n\xe2\x80\x94 a AAAAAAA=\n", "control characters"),
        (b"a\n", "no empty line"),
        (b"\n\n\xe2\x80\x94 a AAAAAAA=\n", "no empty line"),
        (b"a\n\n\xe2\x80\x94 a AAAAAAA=", "with a newline"),
        (b"a\n\n- a AAAAAAA=\n", "not a signature line"),
        (b"a\n\n\xe2\x80\x94 a+b AAAAAAA=\n", "not a name"),
        (b"a\n\n\xe2\x80\x94 a AAAA\n", "empty signature"),
        (b"a\n\n\xe2\x80\x94 a AAAAAAB=\n", "one Base64 spelling"),
        (b"a\n\n" + b"\xe2\x80\x94 a AAAAAAA=\n" * 65, "1 to 64"),
    ],
)
def test_what_is_no_note_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(MalformedInput, match=why):
        decode_note(raw)


@pytest.mark.parametrize(
    "text",
    ["", "a", VKEY + "=", VKEY.replace("c74f20a3", "c74f20a4"), "a b" + VKEY, VKEY.replace("+AR", "+BR"), VKEY[:-4]],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        parse_vkey(text)


@pytest.mark.parametrize("text", ["", "a b", "a+b", "a\x1b", "a" * 256])
def test_a_name_has_no_spaces_and_prints(text: str) -> None:
    with pytest.raises(MalformedInput):
        parse_key_name(text)


def test_signature_lines_alone_parse() -> None:
    line = cosign(SIGNED, WITNESS_KEY.name, WITNESS, AT).line
    assert [each.line for each in parse_signatures(line * 2)] == [line, line]
    with pytest.raises(MalformedInput):
        parse_signatures("")


@pytest.mark.parametrize("pem", [b"", b"x", new_tls_key()])
def test_another_key_signs_no_log(pem: bytes) -> None:
    with pytest.raises(MalformedInput, match="log key"):
        Ed25519Signer(pem, "log key")


def test_a_public_key_that_is_none_verifies_nothing() -> None:
    with pytest.raises(ProofFailed):
        verify_ed25519(b"short", bytes(64), b"", "x")


@pytest.mark.parametrize("extra", [b"", b"\0data"])
@pytest.mark.parametrize("path", [(), (bytes(32), bytes(range(32)))])
def test_a_proof_is_one_text(extra: bytes, path: tuple[bytes, ...]) -> None:
    proof = LogProof(index=5, path=path, note=SIGNED.raw, extra=extra)
    assert decode_proof(proof.encode()) == proof
    assert proof.encode().startswith(b"c2sp.org/tlog-proof@v1\n")
    request = AddCheckpoint(old=0, path=path, note=SIGNED.raw)
    assert decode_add_checkpoint(request.encode()) == request


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"c2sp.org/tlog-proof@v1\nindex 1\n\n",
        b"c2sp.org/tlog-proof@v2\nindex 1\n\nnote",
        b"c2sp.org/tlog-proof@v1\nindex 01\n\nnote",
        b"c2sp.org/tlog-proof@v1\n\nnote",
        b"c2sp.org/tlog-proof@v1\nextra AB==\nindex 1\n\nnote",
        b"c2sp.org/tlog-proof@v1\nextra A\nindex 1\n\nnote",
        b"c2sp.org/tlog-proof@v1\nindex 1\nAA==\n\nnote",
        b"c2sp.org/tlog-proof@v1\nindex \xff\n\nnote",
        b"c2sp.org/tlog-proof@v1\nindex 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\nnote",
        bytes(130 * 1024),
    ],
)
def test_what_is_no_proof_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        decode_proof(raw)
    with pytest.raises(MalformedInput):
        decode_add_checkpoint(raw)
