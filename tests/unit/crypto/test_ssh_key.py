"""SSH public keys: accepted kinds parse to one value, others are refused by name."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from nodeseal.crypto.ssh_key import SshKeyKind, decode_ssh_key, parse_ssh_key
from nodeseal.errors import MalformedInput
from support.data import shared_data
from support.ssh import SK_ED25519, SK_P256, ed25519_signer, keygen, mpint, string, token

KINDS = [("ed25519",), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384"), ("ecdsa", "-b", "521"), ("rsa", "-b", "3072")]


def line(blob: bytes, kind: str = "ssh-rsa") -> str:
    return f"{kind} {base64.b64encode(blob).decode()}"


def refusal(text: str) -> str:
    with pytest.raises(MalformedInput) as refused:
        parse_ssh_key(text)
    return str(refused.value)


@pytest.mark.parametrize("options", KINDS, ids=" ".join)
def test_a_key_of_ssh_keygen_parses_to_its_fingerprint_and_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    public = keygen(tmp_path, "-t", *options).with_suffix(".pub")
    listed = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True).stdout
    key = parse_ssh_key(public.read_text())
    assert key.fingerprint == listed.split()[1]
    assert not key.in_token
    assert public.read_text() == f"{key.line} test\n"
    assert parse_ssh_key(key.line) == key == decode_ssh_key(key.blob)


@pytest.mark.parametrize("kind", [SK_ED25519, SK_P256])
def test_a_key_in_a_token_keeps_its_application(kind: str) -> None:
    key = parse_ssh_key(token(kind, application="ssh:vault").line)
    assert (key.kind, key.application, key.in_token) == (SshKeyKind(kind), "ssh:vault", True)


@pytest.mark.parametrize("name", ["rsa", "ecdsa", "ed25519", "ecdsa_sk", "ed25519_sk", "ecdsa_sk_webauthn"])
def test_keys_of_openssh_s_own_tests_parse(name: str) -> None:
    parse_ssh_key(shared_data("openssh-sshsig", f"{name}.pub").read_text())


def test_kinds_that_are_not_accepted_are_named() -> None:
    key = ed25519_signer().line.split()[1]
    assert "is a certificate" in refusal(f"ssh-ed25519-cert-v01@openssh.com {key}")
    assert "ssh-mldsa44-ed25519@openssh.com is not supported yet" in refusal(f"ssh-mldsa44-ed25519@openssh.com {key}")
    assert "'ssh-dss' is not an accepted kind" in refusal(f"ssh-dss {key}")
    assert "the line says ssh-rsa, the key is ssh-ed25519" in refusal(f"ssh-rsa {key}")
    assert "is not an accepted kind" in refusal(f"no-touch-required ssh-ed25519 {key}")
    assert "'ssh-dss'" in refusal(line(string("ssh-dss")))


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (string("ssh-rsa") + mpint(65537) + mpint((1 << 3070) + 1), "modulus has 3071 bits"),
        (string("ssh-rsa") + mpint(65537) + mpint((1 << 8192) + 1), "modulus has 8193 bits"),
        (string("ssh-rsa") + mpint(3) + mpint((1 << 3071) + 1), "exponent is not 65537"),
        (string("ssh-rsa") + mpint((1 << 3000) + 1) + mpint((1 << 3071) + 1), "exponent declares"),
        (string("ssh-rsa") + string(b"\0\1\0\1") + mpint((1 << 3071) + 1), "exponent is not a positive integer"),
        (string("ssh-rsa") + string(b"\x81") + mpint((1 << 3071) + 1), "exponent is not a positive integer"),
    ],
)
def test_a_weak_or_odd_rsa_key_is_refused(blob: bytes, why: str) -> None:
    assert why in refusal(line(blob))


def test_a_point_must_lie_on_its_curve_and_be_uncompressed() -> None:
    start, point = string("ecdsa-sha2-nistp256") + string("nistp256"), bytes.fromhex("04") + bytes(64)
    assert "ecdsa-sha2-nistp256" in refusal(line(start + string(point), "ecdsa-sha2-nistp256"))
    assert "uncompressed" in refusal(line(start + string(b"\2" + bytes(32)), "ecdsa-sha2-nistp256"))
    other = string("ecdsa-sha2-nistp256") + string("nistp384") + string(point)
    assert "curve is not nistp256" in refusal(line(other, "ecdsa-sha2-nistp256"))


@pytest.mark.parametrize("application", ["", "a\nb", "\x1b[2J", "ä", "x" * 257])
def test_an_application_is_printable(application: str) -> None:
    assert "application" in refusal(token(application=application).line)


def test_a_line_is_one_spelling_of_one_key() -> None:
    good = ed25519_signer().line.removesuffix(" test")
    parse_ssh_key(good)
    parse_ssh_key(good + " a comment of words")
    for text in ("", "ssh-ed25519", good + "=", good[:-1], good + "\n\n", " " + good, good + " a\x1bb", good + "\r\n"):
        refusal(text)
    assert "at most 8192" in refusal(good + " " + "x" * 8192)


def test_a_cut_or_longer_blob_is_refused() -> None:
    for blob in (ed25519_signer().blob, token(SK_P256).blob):
        for size in range(len(blob)):
            with pytest.raises(MalformedInput):
                decode_ssh_key(blob[:size])
        with pytest.raises(MalformedInput, match="1 bytes too many"):
            decode_ssh_key(blob + b"\0")
        with pytest.raises(MalformedInput, match="at most 4096"):
            decode_ssh_key(blob + bytes(4096))
