"""The agent's TPM layer against software TPMs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG
from tpm2_pytss.types import TPM2B_ECC_POINT, TPM2B_EVENT, TPMS_ECC_POINT

from nodeseal.agent.tpm.connection import Connection, SavedKey, tss_selection
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmForgot, TpmLost, TpmPolicyFailed
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.appraisal.release import check_release_key
from nodeseal.crypto.credential import make_credential
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import Unavailable
from nodeseal.evidence.quote import prove_pcr_values, verify_quote
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.ek_template import identify_ek_template
from nodeseal.tpm.node_keys import RELEASE_KEY_ATTRIBUTES
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, decode_public
from support.bus import a_bus
from support.machines import a_machine, a_vendor

UNIQUE = bytes(range(64))
ALL = PcrSelection.of({HashAlg.SHA256: range(16)})
POLICY = PcrSelection.of({HashAlg.SHA256: (0, 2, 4, EPOCH_PCR)})
ROUNDS = int(os.environ.get("NODESEAL_TPM_ROUNDS", "200"))
TRANSIENT, HMAC_SESSIONS, SAVED_SESSIONS = 0x80000000, 0x02000000, 0x03000000


@pytest.fixture(name="machine", scope="module")
def _machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        yield machine


@pytest.fixture(name="device")
def _device(machine: Machine) -> Iterator[Device]:
    device = Device(Connection(machine.tcti), UNIQUE)
    yield device
    device.close()


def handles(device: Device) -> tuple[tuple[int, ...], ...]:
    """What the TPM still holds for this connection."""
    return tuple(device._tpm.handles(kind) for kind in (TRANSIENT, HMAC_SESSIONS, SAVED_SESSIONS))


def new_release_key(device: Device) -> SavedKey:
    values = device.read_pcrs(POLICY)
    return device.create_release_key(policy_pcr(POLICY, pcr_digest(HashAlg.SHA256, values)))


def agreed(device: Device, key: SavedKey) -> tuple[bytes, bytes]:
    """Let the TPM and `cryptography` agree on a point; both results."""
    public, peer = decode_public(key.public), ec.generate_private_key(ec.SECP256R1())
    assert isinstance(public, EccPublic)
    ours = ec.EllipticCurvePublicNumbers(
        int.from_bytes(public.x, "big"), int.from_bytes(public.y, "big"), ec.SECP256R1()
    ).public_key()
    point = peer.public_key().public_numbers()
    here = device.agree(key, POLICY, (point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")))
    return here.rjust(32, b"\0"), peer.exchange(ec.ECDH(), ours)


@pytest.mark.parametrize("template", ["L-1", "L-2", "H-1", "H-2", "H-3", "H-4", "H-6"])
def test_every_kind_of_endorsement_key_activates_a_credential(template: str) -> None:
    with a_vendor() as vendor, a_machine(vendor, ek=template) as machine:
        device = Device(Connection(machine.tcti), UNIQUE)
        shown = device.identity()
        ek = decode_public(shown.ek_public)
        assert identify_ek_template(ek).name == template
        assert shown.ek_chain[0].startswith(vendor.intermediate)
        assert len(shown.ek_certificates) == 1
        secret = os.urandom(32)
        made = make_credential(ek, decode_public(shown.ak_public).name(), secret)
        assert device.activate(made.id_object, made.encrypted_secret) == secret
        assert handles(device) == ((), (), ())
        device.close()


def test_a_tpm_without_certificates_shows_the_low_range_p256_key() -> None:
    from support.bare_tpm import bare_tpm  # noqa: PLC0415  # the only test without a machine

    with bare_tpm() as tcti:
        device = Device(Connection(tcti), UNIQUE)
        shown = device.identity()
        device.close()
    assert identify_ek_template(decode_public(shown.ek_public)).name == "L-2"
    assert shown.ek_certificates == shown.ek_chain == ()
    assert shown.manufacturer == "IBM"


def test_the_attestation_key_comes_again_from_its_unique_and_only_from_it(machine: Machine, device: Device) -> None:
    again, other = Device(Connection(machine.tcti), UNIQUE), Device(Connection(machine.tcti), bytes(64))
    try:
        assert again.identity().ak_public == device.identity().ak_public
        assert other.identity().ak_public != device.identity().ak_public
    finally:
        again.close()
        other.close()


def test_a_quote_proves_the_values_that_come_with_it(machine: Machine, device: Device) -> None:
    verifier = SignatureVerifier(decode_public(device.identity().ak_public))
    for _ in range(2):
        machine.extend(11, os.urandom(32))
        made = device.quote(ALL, b"n" * 32)
        attest = verify_quote(made.signed.attest, made.signed.signature, verifier, b"n" * 32, ALL)
        proved = prove_pcr_values(attest.quoted, HashAlg.SHA256, made.values)
        assert proved.get(HashAlg.SHA256, 11) == machine.read_pcrs()[11]


class Restless(Device):
    """A device whose machine runs a file after each of the first ``moves`` reads of its PCRs."""

    def __init__(self, machine: Machine, moves: int) -> None:
        super().__init__(Connection(machine.tcti), UNIQUE)
        self.reads = 0
        self._machine, self._moves = machine, moves

    def read_pcrs(self, selection: PcrSelection) -> tuple[bytes, ...]:
        values = super().read_pcrs(selection)
        self.reads += 1
        if self.reads <= self._moves:
            self._machine.measure(f"/usr/bin/{self.reads}")
        return values


@pytest.fixture(name="restless")
def _restless(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Restless]:
    device = Restless(machine, request.param)
    yield device
    device.close()


@pytest.mark.parametrize("restless", [0, 1, 3], indirect=True, ids="moves {}".format)
def test_pcrs_are_read_again_until_they_are_those_of_the_quote_and_then_no_more(restless: Restless) -> None:
    made = restless.quote(ALL, b"n" * 32)
    reads = restless.reads
    assert reads == restless._moves + 1
    assert restless.quote(ALL, b"m" * 32).values == made.values
    assert restless.reads == reads
    prove_pcr_values(decode_attest(made.signed.attest).quoted, HashAlg.SHA256, made.values)


@pytest.mark.parametrize("restless", [1000], indirect=True)
def test_pcrs_that_never_hold_still_are_an_error(restless: Restless) -> None:
    with pytest.raises(Unavailable, match="keep changing"):
        restless.quote(ALL, b"n" * 32)


def test_who_listens_on_the_bus_learns_neither_activation_secret_nor_shared_secret(machine: Machine) -> None:
    with a_bus(machine.tcti) as bus:
        device = Device(Connection(bus.tcti), UNIQUE)
        shown, secret = device.identity(), os.urandom(32)
        made = make_credential(decode_public(shown.ek_public), decode_public(shown.ak_public).name(), secret)
        assert device.activate(made.id_object, made.encrypted_secret) == secret
        key = new_release_key(device)
        here, there = agreed(device, key)
        assert here == there
        assert decode_public(key.public).encode() in bus.heard
        assert secret not in bus.heard
        assert here.lstrip(b"\0") not in bus.heard
        assert (bus.sessions(), bus.unsalted_sessions()) == (2, 0)
        device.close()


def test_asking_for_a_bank_that_the_tpm_lacks_is_an_error(device: Device) -> None:
    with pytest.raises(Unavailable, match="0 of the 1 PCRs"):
        device.read_pcrs(PcrSelection.of({HashAlg.SHA384: (0,)}))
    with pytest.raises(Unavailable, match="lacks a bank or PCR of sha256:0\\+sha384:0"):
        device.quote(PcrSelection.of({HashAlg.SHA256: (0,), HashAlg.SHA384: (0,)}), bytes(32))


@pytest.mark.parametrize("banks", [("sha256",), ("sha1", "sha384"), ("sha1",)])
def test_a_device_names_its_active_banks(banks: tuple[str, ...]) -> None:
    with a_vendor() as vendor, a_machine(vendor, banks=banks) as machine:
        device = Device(Connection(machine.tcti), os.urandom(64))
        assert set(device.banks()) == {HashAlg.from_name(bank) for bank in banks}
        device.close()


def test_a_release_key_is_what_the_verifier_demands_and_opens_under_its_policy(device: Device) -> None:
    key = new_release_key(device)
    public = check_release_key(decode_public(key.public))
    assert public.attributes == RELEASE_KEY_ATTRIBUTES
    here, there = agreed(device, key)
    assert here == there


def test_two_release_keys_are_never_the_same(device: Device) -> None:
    assert new_release_key(device).public != new_release_key(device).public


def test_the_attestation_key_certifies_a_release_key_under_the_binding(device: Device) -> None:
    key = new_release_key(device)
    signed = device.certify(key, b"b" * 32)
    SignatureVerifier(decode_public(device.identity().ak_public)).verify(signed.signature, signed.attest)
    attest = decode_attest(signed.attest)
    assert (attest.certified.name, attest.extra_data) == (decode_public(key.public).name(), b"b" * 32)


def test_k03_the_tpm_refuses_a_release_key_after_a_selected_pcr_moved(machine: Machine, device: Device) -> None:
    key = new_release_key(device)
    machine.extend(4, os.urandom(32))
    with pytest.raises(TpmPolicyFailed):
        agreed(device, key)
    assert handles(device) == ((), (), ())


def test_a_pcr_outside_the_policy_may_move(machine: Machine, device: Device) -> None:
    key = new_release_key(device)
    machine.extend(10, os.urandom(32))
    here, there = agreed(device, key)
    assert here == there


def test_a_new_epoch_closes_release_keys_and_later_ones_work(device: Device) -> None:
    device.begin_epoch()
    key = new_release_key(device)
    here, there = agreed(device, key)
    assert here == there
    device.begin_epoch()
    with pytest.raises(TpmPolicyFailed):
        agreed(device, key)
    here, there = agreed(device, new_release_key(device))
    assert here == there


def test_a_policy_session_that_was_satisfied_before_survives_a_new_epoch_as_the_threat_model_says(
    device: Device,
) -> None:
    key, peer = new_release_key(device), ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    point = TPM2B_ECC_POINT(TPMS_ECC_POINT(x=peer.x.to_bytes(32, "big"), y=peer.y.to_bytes(32, "big")))
    tpm = device._tpm
    with tpm.session(device._endorsement_key().key, policy=True, hash_alg=TPM2_ALG.SHA256) as session:
        tpm.esys.policy_pcr(session, b"", tss_selection(POLICY))
        device.begin_epoch()
        with tpm.loaded(key) as handle:
            assert tpm.esys.ecdh_zgen(handle, point, session)


def test_no_epoch_is_like_another_and_none_is_the_reset_value(machine: Machine, device: Device) -> None:
    seen = {bytes(32)}
    for number in range(2, 6):
        device.begin_epoch()
        seen.add(machine.read_pcrs()[EPOCH_PCR])
        assert len(seen) == number


def test_an_epoch_reaches_every_bank_and_no_other_pcr() -> None:
    with a_vendor() as vendor, a_machine(vendor, banks=("sha256", "sha384")) as machine:
        before = {bank: machine.read_pcrs(bank) for bank in ("sha256", "sha384")}
        device = Device(Connection(machine.tcti), UNIQUE)
        device.begin_epoch()
        device.close()
        for bank, values in before.items():
            after = machine.read_pcrs(bank)
            assert {pcr for pcr in after if after[pcr] != values[pcr]} == {EPOCH_PCR}
            assert any(after[EPOCH_PCR])


def test_who_listens_on_the_bus_cannot_give_pcr_23_its_value_again(machine: Machine) -> None:
    with a_bus(machine.tcti) as bus:
        device = Device(Connection(bus.tcti), UNIQUE)
        device.begin_epoch()
        device.close()
        epoch, heard = machine.read_pcrs()[EPOCH_PCR], bytes(bus.heard)
        events = [heard[at : at + 32] for at in range(len(heard) - 31)]
        digest = HashAlg.SHA256.digest
        assert epoch not in {digest(bytes(32) + digest(event)) for event in events}
        assert bus.unsalted_sessions() == 0


def test_what_began_an_epoch_is_wiped_at_once(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    esys, events = device._tpm.esys, list[TPM2B_EVENT]()
    pcr_event = esys.pcr_event

    def recorded(pcr: ESYS_TR, event: TPM2B_EVENT, session: ESYS_TR) -> None:
        assert any(event.buffer)
        events.append(event)
        pcr_event(pcr, event, session)

    monkeypatch.setattr(esys, "pcr_event", recorded)
    device.begin_epoch()
    assert [bytes(event.buffer) for event in events] == [bytes(32)]


def test_an_epoch_starts_from_the_reset_value_whatever_others_extended(machine: Machine) -> None:
    with a_bus(machine.tcti) as bus:
        device = Device(Connection(bus.tcti), UNIQUE)
        device.begin_epoch()
        device.close()
        reset, event = (bus.heard.find((0x13D).to_bytes(4, "big")), bus.heard.find((0x13C).to_bytes(4, "big")))
        assert 0 < reset < event


def test_a_key_whose_context_was_wiped_is_gone(device: Device) -> None:
    key = new_release_key(device)
    key.wipe()
    with pytest.raises(TpmPolicyFailed, match="wiped"):
        agreed(device, key)
    assert handles(device) == ((), (), ())


def test_no_handle_or_session_is_left_after_many_rounds(device: Device) -> None:
    device.identity()
    before = handles(device)
    for number in range(ROUNDS):
        device.quote(ALL, number.to_bytes(32, "big"))
        if number % 10 == 0:
            key = new_release_key(device)
            device.certify(key, b"")
            agreed(device, key)
    assert handles(device) == before == ((), (), ())


def test_a_saved_release_key_dies_with_a_reset(machine: Machine) -> None:
    device = Device(Connection(machine.tcti), UNIQUE)
    device.identity()
    key = new_release_key(device)
    machine.reset()
    with pytest.raises(TpmForgot):
        agreed(device, key)
    device.close()
    device = Device(Connection(machine.tcti), UNIQUE)
    with pytest.raises(TpmPolicyFailed, match="gone"):
        agreed(device, key)
    device.close()


def test_the_owner_opens_the_tpm_again_after_a_restart(machine: Machine) -> None:
    async def scenario() -> None:
        owner = TpmOwner(machine.tcti, UNIQUE, 30)
        before = await owner.call(lambda device: device.identity())
        machine.stop()
        with pytest.raises(TpmLost):
            await owner.call(lambda device: device.read_pcrs(ALL))
        machine.start()
        made = await owner.call(lambda device: device.quote(ALL, b""))
        verifier = SignatureVerifier(decode_public(before.ak_public))
        verifier.verify(made.signed.signature, made.signed.attest)
        owner.close()

    asyncio.run(scenario())


def test_the_owner_sets_its_keys_up_again_after_a_reset(machine: Machine) -> None:
    async def scenario() -> None:
        owner = TpmOwner(machine.tcti, UNIQUE, 30)
        first = await owner.call(lambda device: device.quote(ALL, b""))
        machine.reset()
        second = await owner.call(lambda device: device.quote(ALL, b""))
        clocks = [decode_attest(made.signed.attest).clock_info for made in (first, second)]
        assert clocks[1].reset_count == clocks[0].reset_count + 1
        owner.close()

    asyncio.run(scenario())
