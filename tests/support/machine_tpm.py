"""TPMs for attacks: a real software TPM in the place of a synthetic one, and a TPM whose clock a test sets."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CC, TPMA_SESSION
from tpm2_pytss.types import TPM2B_ENCRYPTED_SECRET, TPM2B_ID_OBJECT, TPM2B_PUBLIC, TPMT_PUBLIC

from nodeseal.agent.tpm import templates
from nodeseal.agent.tpm.connection import Connection, SavedKey
from nodeseal.agent.tpm.device import Device
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.synthetic import Attestation, SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, decode_public
from nodeseal.uefi.event_log import EventLog
from nodeseal.v1 import enrollment_pb2

SHA256: Final = HashAlg.SHA256


# TPMs


class ClockworkTpm(SyntheticTpm):
    """A synthetic TPM whose clock and counters a test sets.

    Attributes:
        info: of the next attestation; None: an honest TPM's.
    """

    info: ClockInfo | None = None

    def clock_info(self) -> ClockInfo:
        """Return the test's clock and counters, or the honest ones."""
        return self.info or super().clock_info()


class _TemplateDevice(Device):
    """The agent's device with an attestation key of the attacker's making."""

    def __init__(self, connection: Connection, unique: bytes, template: EccPublic | None) -> None:
        super().__init__(connection, unique)
        self._template = template or templates.attestation_key(unique)

    def _attestation_key(self) -> SavedKey:
        if self._ak is None:
            self._ak = self._tpm.create_primary(ESYS_TR.ENDORSEMENT, self._template.encode())
        return self._ak


class MachineTpm(SyntheticTpm):
    """A software-TPM machine that answers as a node's TPM; call :meth:`connect` after the machine was off.

    Args:
        machine: which runs.
        template: of the attestation key, the agent's by default.
    """

    def __init__(self, machine: Machine, template: EccPublic | None = None) -> None:
        self.machine = machine
        self.device: Device | None = None
        self._unique, self._template = secrets.token_bytes(64), template
        self._saved: dict[bytes, SavedKey] = {}
        self.connect()

    def connect(self) -> None:
        """Connect anew, as an agent does that starts."""
        self.close()
        self.device = _TemplateDevice(Connection(self.machine.tcti), self._unique, self._template)
        identity = self.device.identity()
        ek, ak = decode_public(identity.ek_public), decode_public(identity.ak_public)
        assert isinstance(ak, EccPublic)
        self.ek, self.ak, (self.ek_certificate, *_) = ek, ak, identity.ek_certificates  # type: ignore[assignment]  # RSA too

    def close(self) -> None:
        """Close the connection."""
        if self.device is not None:
            self.device.close()
            self.device = None

    def activate_external(
        self, key: EccPublic, challenge: enrollment_pb2.CredentialChallenge, *, by_policy: bool
    ) -> bytes:
        """Try TPM2_ActivateCredential for a key that the TPM knows by TPM2_LoadExternal, without its private part."""
        tpm, ek = self._open._tpm, self._open._endorsement_key()
        external = tpm.esys.load_external(
            TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(key.encode())[0]), hierarchy=ESYS_TR.NULL
        )
        with (
            tpm._flushed(external),
            tpm.session(ek.key, policy=True, hash_alg=TPM2_ALG.SHA256) as endorsement,
            tpm.session(ek.key, policy=True, hash_alg=TPM2_ALG.SHA256) as session,
            tpm.loaded(ek.key) as ek_handle,
        ):
            tpm.esys.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION)  # one session encrypts, at most
            tpm.esys.policy_secret(ESYS_TR.ENDORSEMENT, endorsement, expiration=0)
            tpm.esys.policy_command_code(session, TPM2_CC.ActivateCredential)
            blob = TPM2B_ID_OBJECT.unmarshal(challenge.id_object)[0]
            secret = TPM2B_ENCRYPTED_SECRET.unmarshal(challenge.encrypted_secret)[0]
            auth = session if by_policy else ESYS_TR.PASSWORD
            return bytes(tpm.esys.activate_credential(external, ek_handle, blob, secret, auth, endorsement))

    def pass_time(self, milliseconds: int) -> None:
        """Let time pass by TPM2_ClockSet, which only ever moves the clock forward."""
        esys = self._open._tpm.esys
        esys.clock_set(esys.read_clock().clockInfo.clock + milliseconds)

    @property
    def _open(self) -> Device:
        assert self.device is not None
        return self.device

    def boot(self, event_log: bytes) -> EventLog:
        """Reboot the machine, and connect as its agent does then."""
        self.close()
        log = self.machine.boot(event_log)
        self.connect()
        return log

    def extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        self.machine.extend(pcr, digests[SHA256])

    def begin_epoch(self) -> None:
        self._open.begin_epoch()

    def read_pcrs(self, selection: PcrSelection) -> tuple[bytes, ...]:
        return self._open.read_pcrs(selection)

    def quote(self, extra_data: bytes, selection: PcrSelection) -> Attestation:
        signed = self._open.quote(selection, extra_data).signed
        return Attestation(signed.attest, signed.signature)

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        return self._open.activate(id_object, encrypted_secret)

    def create_release_key(self, selection: PcrSelection) -> EccPublic:
        saved = self._open.create_release_key(policy_pcr(selection, pcr_digest(SHA256, self.read_pcrs(selection))))
        public = decode_public(saved.public)
        assert isinstance(public, EccPublic)
        self._saved[public.name()] = saved
        return public

    def certify(self, key: EccPublic, extra_data: bytes) -> Attestation:
        signed = self._open.certify(self._saved[key.name()], extra_data)
        return Attestation(signed.attest, signed.signature)

    def ecdh(self, key: EccPublic, selection: PcrSelection, x: bytes, y: bytes) -> bytes:
        return self._open.agree(self._saved[key.name()], selection, (x, y))


@contextmanager
def tpm_of(machine: Machine, template: EccPublic | None = None) -> Iterator[MachineTpm]:
    """Connect to a machine's TPM."""
    tpm = MachineTpm(machine, template)
    try:
        yield tpm
    finally:
        tpm.close()
