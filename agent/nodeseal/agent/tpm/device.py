"""What the agent asks of its TPM (TPM 2.0 Part 3), as blocking calls on one connection.

Keys: the *endorsement key* from its TCG template; the *attestation key*, a primary key in the endorsement hierarchy
that a stored random ``unique`` makes again at any time, so that no private part lies on disk; *release keys*,
primary keys in the NULL hierarchy, which no command can make persistent and which end with the next TPM reset.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CAP, TPMA_SESSION
from tpm2_pytss.types import (
    TPM2B_ECC_POINT,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_EVENT,
    TPM2B_ID_OBJECT,
    TPMS_ECC_POINT,
    TPMS_PCR_SELECTION,
    TPMT_SIG_SCHEME,
)

from nodeseal.agent.tpm import templates
from nodeseal.agent.tpm.connection import Connection, SavedKey, tss_selection
from nodeseal.agent.tpm.endorsement import (
    EndorsementKey,
    EndorsementSlot,
    endorsement_slots,
    make_endorsement_key,
)
from nodeseal.agent.tpm.failures import TpmBusy, TpmFailed, TpmForgot, TpmLost, TpmPolicyFailed, wrapped
from nodeseal.crypto.secret import wipe
from nodeseal.errors import Unavailable
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import EPOCH_PCR, STATIC_PCRS

_PCRS_PER_READ: Final = 8
"""TPML_DIGEST holds eight digests (Part 2), so TPM2_PCR_Read answers at most that many."""
_PT_MANUFACTURER: Final = 0x105
_PT_FIRMWARE_VERSION_1: Final = 0x10B
"""TPM_PT (Part 2)."""
_QUOTE_ATTEMPTS: Final = 8
_EPOCH_BYTES: Final = 32
_RANDOM: Final = Path("/dev/urandom")
"""Read straight into memory that is wiped; Python's own functions return bytes that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAttest:
    """TPMS_ATTEST and the attestation key's TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedState:
    """A quote and the PCR values that it covers, in the order of its selection."""

    signed: SignedAttest
    values: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmIdentity:
    """What enrolment shows the verifier. See ``Identity`` in ``enrollment.proto``; ``template`` stays here."""

    template: str
    ek_public: bytes
    ek_certificates: tuple[bytes, ...]
    ek_chain: tuple[bytes, ...]
    ak_public: bytes
    manufacturer: str
    firmware: str


class Device:
    """The agent's operations. Every method raises :class:`~nodeseal.agent.tpm.failures.TpmFailed` or a kind of it.

    Args:
        connection: becomes the device's own.
        ak_unique: 64 random bytes; the same bytes on the same TPM are the same attestation key.
    """

    def __init__(self, connection: Connection, ak_unique: bytes) -> None:
        self._tpm: Final = connection
        self._ak_unique: Final = ak_unique
        self._slots: tuple[EndorsementSlot, ...] = ()
        self._eks: dict[str, EndorsementKey] = {}
        self._ek: EndorsementKey | None = None
        self._ak: SavedKey | None = None
        self._last_values: tuple[bytes, ...] = ()
        self._banks: tuple[int, ...] = ()

    def close(self) -> None:
        """Close the connection."""
        self._tpm.close()

    def templates(self) -> tuple[str, ...]:
        """Return the templates of the endorsement keys that the TPM may show, the best one first."""
        return tuple(slot.template.name for slot in self._endorsement_slots())

    def use(self, template: str) -> TpmIdentity:
        """Use the endorsement key of that template from now on, and return what the TPM shows then."""
        self._ek = self._made(template)
        return self.identity()

    def identity(self) -> TpmIdentity:
        """Return the TPM's keys, certificates and maker; of several endorsement keys, the one in use."""
        ek = self._endorsement_key()
        first, second = self._property(_PT_FIRMWARE_VERSION_1), self._property(_PT_FIRMWARE_VERSION_1 + 1)
        words = (first >> 16, first & 0xFFFF, second >> 16, second & 0xFFFF)
        return TpmIdentity(
            template=ek.slot.template.name,
            ek_public=ek.key.public,
            ek_certificates=ek.slot.certificates,
            ek_chain=ek.slot.chain,
            ak_public=self._attestation_key().public,
            manufacturer=_text(self._property(_PT_MANUFACTURER)),
            firmware=".".join(map(str, words)),
        )

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Prove that both keys are in this TPM (TPM2_ActivateCredential).

        Args:
            id_object: TPM2B_ID_OBJECT.
            encrypted_secret: TPM2B_ENCRYPTED_SECRET.

        Returns:
            The secret that the verifier chose.
        """
        ek, esys = self._endorsement_key(), self._tpm.esys
        blob = TPM2B_ID_OBJECT.unmarshal(id_object)[0]
        secret = TPM2B_ENCRYPTED_SECRET.unmarshal(encrypted_secret)[0]
        with (
            self._tpm.session(ek.key, policy=ek.by_policy, hash_alg=TPM2_ALG.SHA256) as session,
            self._tpm.loaded(self._attestation_key()) as ak,
            self._tpm.loaded(ek.key) as ek_handle,
        ):
            if ek.by_policy:
                with wrapped("TPM2_PolicySecret"):
                    esys.policy_secret(ESYS_TR.ENDORSEMENT, session, expiration=0)
            with wrapped("TPM2_ActivateCredential"):
                return bytes(esys.activate_credential(ak, ek_handle, blob, secret, ESYS_TR.PASSWORD, session))

    def banks(self) -> tuple[int, ...]:
        """Return the numbers of the active banks that have the PCRs of a quote (TPM2_GetCapability, TPM_CAP_PCRS).

        A TPM changes its banks only when it restarts, so it is asked once.
        """
        if not self._banks:
            with wrapped("TPM2_GetCapability(PCRs)"):
                _, found = self._tpm.esys.get_capability(TPM2_CAP.PCRS, 0, 1)
            self._banks = tuple(int(each.hash) for each in found.data.assignedPCR if _is_active(each))
        return self._banks

    def quote(self, selection: PcrSelection, qualifying_data: bytes) -> QuotedState:
        """Quote PCRs and return values that match the quote (TPM2_Quote, TPM2_PCR_Read).

        PCR 10 may move between the two commands, so this repeats both until they agree.

        Raises:
            Unavailable: the PCRs would not hold still, or the TPM lacks one of the PCRs or banks.
        """
        for _ in range(_QUOTE_ATTEMPTS):
            signed = self._quote(selection, qualifying_data)
            if decode_attest(signed.attest).quoted.selection != selection:
                raise Unavailable(f"the TPM lacks a bank or PCR of {selection}", remedy="activate the bank, or reboot")
            if self._matches(signed, self._last_values):
                return QuotedState(signed=signed, values=self._last_values)
            self._last_values = self.read_pcrs(selection)
        raise Unavailable("the PCRs keep changing while they are read")

    def read_pcrs(self, selection: PcrSelection) -> tuple[bytes, ...]:
        """Return PCR values in the order of ``selection``, as they were one after the other (TPM2_PCR_Read).

        Raises:
            Unavailable: the TPM lacks one of the PCRs or banks.
        """
        values: list[bytes] = []
        for bank, indices in selection.banks:
            for start in range(0, len(indices), _PCRS_PER_READ):
                part = PcrSelection.of({bank: indices[start : start + _PCRS_PER_READ]})
                with wrapped("TPM2_PCR_Read"):
                    _, _, digests = self._tpm.esys.pcr_read(tss_selection(part))
                values.extend(bytes(digest) for digest in digests)
        if len(values) != selection.size:
            raise Unavailable(f"the TPM holds {len(values)} of the {selection.size} PCRs asked for")
        return tuple(values)

    def create_release_key(self, policy: bytes) -> SavedKey:
        """Create a P-256 ECDH key that only ``policy`` can use, and that dies with the next reset."""
        template = templates.release_key(policy, secrets.token_bytes(templates.UNIQUE_SIZE))
        return self._tpm.create_primary(ESYS_TR.NULL, template.encode())

    def certify(self, release_key: SavedKey, qualifying_data: bytes) -> SignedAttest:
        """Let the attestation key certify a release key (TPM2_Certify)."""
        scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
        with (
            self._tpm.loaded(release_key) as subject,
            self._tpm.loaded(self._attestation_key()) as ak,
            wrapped("TPM2_Certify"),
        ):
            attest, signature = self._tpm.esys.certify(subject, ak, qualifying_data, scheme)
            return SignedAttest(attest=bytes(attest), signature=signature.marshal())

    def agree(self, release_key: SavedKey, selection: PcrSelection, point: tuple[bytes, bytes]) -> bytes:
        """Return x of the point that a release key and a peer agree on (TPM2_PolicyPCR, TPM2_ECDH_ZGen).

        Args:
            release_key: from :meth:`create_release_key`.
            selection: the PCRs of its policy.
            point: x and y of the peer's point on P-256.

        Raises:
            TpmPolicyFailed: a selected PCR has moved, or the key is gone.
        """
        peer = TPM2B_ECC_POINT(TPMS_ECC_POINT(x=point[0], y=point[1]))
        salt = self._endorsement_key().key
        with self._tpm.session(salt, policy=True, hash_alg=TPM2_ALG.SHA256) as session:
            with wrapped("TPM2_PolicyPCR"):
                self._tpm.esys.policy_pcr(session, b"", tss_selection(selection))
            try:
                with self._tpm.loaded(release_key) as handle, wrapped("TPM2_ECDH_ZGen"):
                    shared = self._tpm.esys.ecdh_zgen(handle, peer, session)
            except TpmForgot as error:
                raise TpmPolicyFailed(f"the release key is gone: {error}", error.code) from error
        return bytes(shared.point.x)

    def begin_epoch(self) -> None:
        """Begin a new lease epoch: give PCR 23 a value that nobody can give it again (TPM2_PCR_Reset, TPM2_PCR_Event).

        Every active bank is extended with a digest of random bytes, which are wiped at once and encrypted on the bus.
        From then on the TPM refuses all release keys that were made before. The reset alone ends them, so it comes
        before the session, which a TPM whose sessions are all taken refuses. Nothing is released while PCR 23 is zero.
        """
        event, esys = TPM2B_EVENT(bytes(_EPOCH_BYTES)), self._tpm.esys
        try:
            with _RANDOM.open("rb", buffering=0) as random:
                random.readinto(event.buffer)
            with wrapped("TPM2_PCR_Reset"):
                esys.pcr_reset(ESYS_TR(EPOCH_PCR))
            with (
                self._tpm.session(self._endorsement_key().key, policy=False, hash_alg=TPM2_ALG.SHA256) as session,
                wrapped("TPM2_PCR_Event"),
            ):
                esys.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT)
                esys.pcr_event(ESYS_TR(EPOCH_PCR), event, session)
        finally:
            wipe(event.buffer)

    def _matches(self, signed: SignedAttest, values: tuple[bytes, ...]) -> bool:
        return pcr_digest(HashAlg.SHA256, values) == decode_attest(signed.attest).quoted.pcr_digest

    def _quote(self, selection: PcrSelection, qualifying_data: bytes) -> SignedAttest:
        with self._tpm.loaded(self._attestation_key()) as ak, wrapped("TPM2_Quote"):
            attest, signature = self._tpm.esys.quote(ak, tss_selection(selection), qualifying_data)
            return SignedAttest(attest=bytes(attest), signature=signature.marshal())

    def _endorsement_key(self) -> EndorsementKey:
        """Return the endorsement key in use; before :meth:`use`, that is the first one that the TPM can make."""
        if self._ek is None:
            self._ek = self._first_that_works()
        return self._ek

    def _endorsement_slots(self) -> tuple[EndorsementSlot, ...]:
        self._slots = self._slots or endorsement_slots(self._tpm)
        return self._slots

    def _first_that_works(self) -> EndorsementKey:
        *others, last = self.templates()
        for template in others:
            try:
                return self._made(template)
            except (TpmBusy, TpmLost):
                raise
            except TpmFailed:
                continue  # the TPM lacks the curve or size; the last one's error is the one to show
        return self._made(last)

    def _made(self, template: str) -> EndorsementKey:
        if template not in self._eks:
            slots = {slot.template.name: slot for slot in self._endorsement_slots()}
            self._eks[template] = make_endorsement_key(self._tpm, slots[template])
        return self._eks[template]

    def _attestation_key(self) -> SavedKey:
        if self._ak is None:
            template = templates.attestation_key(self._ak_unique)
            self._ak = self._tpm.create_primary(ESYS_TR.ENDORSEMENT, template.encode())
        return self._ak

    def _property(self, which: int) -> int:
        with wrapped("TPM2_GetCapability(properties)"):
            _, found = self._tpm.esys.get_capability(TPM2_CAP.TPM_PROPERTIES, which, 1)
        return int(found.data.tpmProperties[0].value)


def _is_active(bank: TPMS_PCR_SELECTION) -> bool:
    """Tell whether a bank has PCR 0 to 15 and the lease epoch; a bank that is turned off has none."""
    bits = int.from_bytes(bytes(bank.pcrSelect)[: bank.sizeofSelect], "little")
    return all(bits >> pcr & 1 for pcr in (*STATIC_PCRS, EPOCH_PCR))


def _text(word: int) -> str:
    return word.to_bytes(4, "big").rstrip(b"\0 ").decode("ascii", "replace")
