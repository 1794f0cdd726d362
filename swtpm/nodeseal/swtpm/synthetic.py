"""A TPM in a few kilobytes of memory: real keys and signatures, no process. For load generators and tests.

Its answers look like a TPM's: keys from the same templates, a vendor's endorsement certificate, TPMS_ATTEST with clock
and counters, PCRs that only extends change, release keys under a policy. It has only the functions that nodeseal uses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.errors import OutOfOrder
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.attest import Attest, Certified, ClockInfo, Quoted, encode_attest
from nodeseal.tpm.buffer import u16, u32
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.handles import PermanentHandle
from nodeseal.tpm.node_keys import ATTESTATION_KEY_ATTRIBUTES, RELEASE_KEY_ATTRIBUTES
from nodeseal.tpm.pcr import PCR_COUNT, PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import DYNAMIC_PCRS, EPOCH_PCR
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, Scheme
from nodeseal.uefi.event_log import EventLog, decode_event_log, startup_locality

_FIRMWARE_VERSION: Final = 0x0001_0000_0000_0000
_EARLIER_MS: Final = 30 * 24 * 3_600_000
"""How long the TPM ran before its host's last start: a test may set the clock back by hours on a host just started."""


class Attestation(NamedTuple):
    """The result of TPM2_Quote and TPM2_Certify.

    Attributes:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE over ``attest`` by the attestation key.
    """

    attest: bytes
    signature: bytes


def _life_milliseconds() -> int:
    return _EARLIER_MS + time.monotonic_ns() // 1_000_000


class SyntheticTpm:
    """A TPM with a P-256 endorsement key (template L-2) and a P-256 attestation key.

    Args:
        vendor: vendor that certifies the endorsement key.
        banks: PCR banks.
        milliseconds: the time on the TPM's clock; it counts over the TPM's whole life, not since the host started.

    Attributes:
        ek: public area of the endorsement key.
        ek_certificate: the endorsement key's certificate in DER.
        ak: public area of the attestation key, a primary key of the endorsement hierarchy.
    """

    def __init__(
        self,
        vendor: TpmVendor,
        banks: tuple[HashAlg, ...] = (HashAlg.SHA256,),
        milliseconds: Callable[[], int] = _life_milliseconds,
    ) -> None:
        self._ek, self._ak = SyntheticKey(), SyntheticKey()
        l2 = template("L-2").public
        if not isinstance(l2, EccPublic):
            raise TypeError("template L-2 is ECC")
        self.ek = replace(l2, x=self._ek.x, y=self._ek.y)
        self.ek_certificate = vendor.issue(self.ek)
        self.ak = _public(self._ak, ATTESTATION_KEY_ATTRIBUTES, Scheme(Alg.ECDSA, HashAlg.SHA256))
        self._signer = _qualified_name(self.ak, PermanentHandle.ENDORSEMENT)
        self._milliseconds = milliseconds
        self._reset_count = 0
        self._banks = banks
        self.reset()

    def reset(self, locality: int = 0) -> None:
        """Reboot: resetCount grows by one, PCRs start anew, release keys are lost."""
        self._reset_count += 1
        self._release_keys: dict[bytes, SyntheticKey] = {}
        self._pcrs = {bank: [_start(bank, pcr, locality) for pcr in range(PCR_COUNT)] for bank in self._banks}

    def boot(self, event_log: bytes) -> EventLog:
        """Reboot, then extend every event of ``event_log``.

        Raises:
            MalformedInput: the log does not parse.
        """
        log = decode_event_log(event_log)
        self.reset(startup_locality(log))
        for event in log.extended():
            self.extend(event.pcr, event.digests)
        return log

    def extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        """Extend a PCR in all given banks that are active (TPM2_PCR_Extend)."""
        for bank in self._pcrs.keys() & digests.keys():
            values = self._pcrs[bank]
            values[pcr] = bank.digest(values[pcr] + digests[bank])

    def begin_epoch(self) -> None:
        """Begin a new lease epoch, as agents do: PCR 23 gets a random value in every bank."""
        for bank, values in self._pcrs.items():
            values[EPOCH_PCR] = bank.digest(bytes(bank.digest_size) + secrets.token_bytes(bank.digest_size))

    def read_pcrs(self, selection: PcrSelection) -> tuple[bytes, ...]:
        """Return the selected values in the TPM's order."""
        return tuple(self._pcrs[bank][pcr] for bank, pcr in selection.indices())

    def clock_info(self) -> ClockInfo:
        """Return clock and counters of an attestation made now."""
        return ClockInfo(clock=self._milliseconds(), reset_count=self._reset_count, restart_count=0, safe=True)

    def quote(self, extra_data: bytes, selection: PcrSelection) -> Attestation:
        """Sign the selected PCRs (TPM2_Quote)."""
        return self._attest(extra_data, Quoted(selection, self._digest(selection)))

    def certify(self, key: EccPublic, extra_data: bytes) -> Attestation:
        """Sign that this TPM holds ``key`` (TPM2_Certify).

        Raises:
            OutOfOrder: the TPM does not hold the key, or no longer.
        """
        self._held(key)
        return self._attest(extra_data, Certified(key.name(), _qualified_name(key, PermanentHandle.NULL)))

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that was wrapped for both keys (TPM2_ActivateCredential).

        Raises:
            MalformedInput: the credential was made for other keys.
        """
        return self._ek.activate(self.ak.name(), id_object, encrypted_secret)

    def create_release_key(self, selection: PcrSelection) -> EccPublic:
        """Create an ECDH key in the NULL hierarchy that works only while the selected PCRs keep their values."""
        key = SyntheticKey()
        policy = policy_pcr(selection, self._digest(selection))
        public = _public(key, RELEASE_KEY_ATTRIBUTES, None, policy)
        self._release_keys[public.name()] = key
        return public

    def ecdh(self, key: EccPublic, selection: PcrSelection, x: bytes, y: bytes) -> bytes:
        """Return the x coordinate of the point shared with ``(x, y)``: TPM2_ECDH_ZGen under TPM2_PolicyPCR.

        Raises:
            OutOfOrder: the TPM does not hold the key, or a selected PCR has changed since the key was created.
            MalformedInput: not a point on P-256.
        """
        held = self._held(key)
        if policy_pcr(selection, self._digest(selection)) != key.auth_policy:
            raise OutOfOrder("synthetic TPM: the key's policy does not hold")
        return held.agree(x, y)

    def _held(self, key: EccPublic) -> SyntheticKey:
        if key.name() not in self._release_keys:
            raise OutOfOrder("synthetic TPM: does not hold this key")
        return self._release_keys[key.name()]

    def _digest(self, selection: PcrSelection) -> bytes:
        return pcr_digest(HashAlg.SHA256, self.read_pcrs(selection))

    def _attest(self, extra_data: bytes, attested: Quoted | Certified) -> Attestation:
        attest = encode_attest(
            Attest(
                qualified_signer=self._signer,
                extra_data=extra_data,
                clock_info=self.clock_info(),
                firmware_version=_FIRMWARE_VERSION,
                attested=attested,
            )
        )
        return Attestation(attest, self._ak.sign(attest))


def _public(key: SyntheticKey, attributes: ObjectAttributes, scheme: Scheme | None, policy: bytes = b"") -> EccPublic:
    return EccPublic(
        name_alg=HashAlg.SHA256,
        attributes=attributes,
        auth_policy=policy,
        symmetric=None,
        scheme=scheme,
        curve=CurveId.P256,
        x=key.x,
        y=key.y,
    )


def _qualified_name(key: EccPublic, hierarchy: int) -> bytes:
    """Return the qualified name of a primary key (Part 1): over the hierarchy's handle and the key's name."""
    return u16(key.name_alg) + key.name_alg.digest(u32(hierarchy) + key.name())


def _start(bank: HashAlg, pcr: int, locality: int) -> bytes:
    if pcr in DYNAMIC_PCRS:
        return b"\xff" * bank.digest_size
    return (locality if pcr == 0 else 0).to_bytes(bank.digest_size, "big")
