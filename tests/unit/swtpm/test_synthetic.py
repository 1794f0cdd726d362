"""The synthetic TPM answers as a TPM does: checked with the verifier's own codecs and signatures."""

from __future__ import annotations

import os

import pytest

from nodeseal.crypto.credential import make_credential
from nodeseal.crypto.hpke import finish_release, split_point, uncompressed_point, wrap_for_release
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import MalformedInput, OutOfOrder
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.ek_template import identify_ek_template
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.policy import policy_pcr
from nodeseal.uefi.event_log import replay

SELECTION = PcrSelection.of({HashAlg.SHA256: (0, 4, 7)})


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> TpmVendor:
    return TpmVendor.create(tmp_path_factory.mktemp("vendor") / "v")


@pytest.fixture
def tpm(vendor: TpmVendor) -> SyntheticTpm:
    return SyntheticTpm(vendor)


def test_its_endorsement_key_is_made_from_template_l2(tpm: SyntheticTpm) -> None:
    assert identify_ek_template(tpm.ek).name == "L-2"


def test_a_quote_verifies_and_says_what_was_asked(tpm: SyntheticTpm) -> None:
    done = tpm.quote(b"nonce", SELECTION)
    SignatureVerifier(tpm.ak).verify(done.signature, done.attest)
    attest = decode_attest(done.attest)
    assert attest.extra_data == b"nonce"
    assert attest.quoted.selection == SELECTION
    assert attest.quoted.pcr_digest == pcr_digest(HashAlg.SHA256, tpm.read_pcrs(SELECTION))


def test_boot_leaves_the_pcrs_that_the_log_replays_to(tpm: SyntheticTpm) -> None:
    log = tpm.boot(sample_boot_log(SampleBoot()))
    values = replay(log, HashAlg.SHA256)
    assert tpm.read_pcrs(SELECTION) == tuple(values[pcr] for pcr in (0, 4, 7))


def test_a_bank_that_is_not_active_is_not_extended(tpm: SyntheticTpm) -> None:
    before = tpm.read_pcrs(SELECTION)
    tpm.extend(4, {HashAlg.SHA384: bytes(48)})
    assert tpm.read_pcrs(SELECTION) == before


def test_the_clock_counts_and_a_reset_is_counted(vendor: TpmVendor) -> None:
    ticks = iter((5, 9))
    tpm = SyntheticTpm(vendor, milliseconds=lambda: next(ticks))
    first = decode_attest(tpm.quote(b"", SELECTION).attest).clock_info
    tpm.reset()
    second = decode_attest(tpm.quote(b"", SELECTION).attest).clock_info
    assert (first.clock, second.clock) == (5, 9)
    assert second.reset_count == first.reset_count + 1


def test_the_clock_is_older_than_the_host_that_was_started_now(
    vendor: TpmVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic_ns", lambda: 0)
    assert SyntheticTpm(vendor).clock_info().clock > 24 * 3_600_000


def test_it_activates_a_credential_made_for_its_keys(tpm: SyntheticTpm) -> None:
    made = make_credential(tpm.ek, tpm.ak.name(), b"s" * 32)
    assert tpm.activate(made.id_object, made.encrypted_secret) == b"s" * 32


def test_it_does_not_activate_a_credential_for_another_attestation_key(tpm: SyntheticTpm) -> None:
    made = make_credential(tpm.ek, b"\0\x0b" + bytes(32), b"s" * 32)
    with pytest.raises(MalformedInput, match="another key"):
        tpm.activate(made.id_object, made.encrypted_secret)


def test_it_does_not_activate_a_credential_for_another_endorsement_key(tpm: SyntheticTpm, vendor: TpmVendor) -> None:
    made = make_credential(SyntheticTpm(vendor).ek, tpm.ak.name(), b"s" * 32)
    with pytest.raises(MalformedInput, match="another key"):
        tpm.activate(made.id_object, made.encrypted_secret)


def test_a_release_key_is_certified_and_opens_while_the_pcrs_hold(tpm: SyntheticTpm) -> None:
    key = tpm.create_release_key(SELECTION)
    assert key.auth_policy == policy_pcr(SELECTION, pcr_digest(HashAlg.SHA256, tpm.read_pcrs(SELECTION)))
    done = tpm.certify(key, b"binding")
    SignatureVerifier(tpm.ak).verify(done.signature, done.attest)
    assert decode_attest(done.attest).certified.name == key.name()
    point, data_key = uncompressed_point(key.x, key.y), os.urandom(32)
    reply = wrap_for_release(point, b"context", data_key)
    dh = tpm.ecdh(key, SELECTION, *split_point(reply.enc))
    assert finish_release(point, b"context", reply, dh) == data_key


def test_a_release_key_does_not_open_after_an_extend(tpm: SyntheticTpm) -> None:
    key = tpm.create_release_key(SELECTION)
    tpm.extend(4, {HashAlg.SHA256: bytes(32)})
    with pytest.raises(OutOfOrder, match="policy"):
        tpm.ecdh(key, SELECTION, key.x, key.y)


def test_a_release_key_is_gone_after_a_reset(tpm: SyntheticTpm) -> None:
    key = tpm.create_release_key(SELECTION)
    tpm.reset()
    with pytest.raises(OutOfOrder, match="not hold"):
        tpm.certify(key, b"")


def test_a_loaded_vendor_issues_as_the_created_one(vendor: TpmVendor) -> None:
    assert TpmVendor.load(vendor.directory) == vendor
    assert (vendor.directory / "signing-key.pem").stat().st_mode & 0o777 == 0o600
    assert "BEGIN" not in repr(vendor)
