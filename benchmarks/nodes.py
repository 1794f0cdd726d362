"""Nodes with synthetic TPMs as they are in use: real keys and quotes, a boot log, an IMA log, and rules for both.

No two have the same PCR values: their kernels' command lines name different disks, so PCR 8 and 9 differ, and with them
IMA's boot aggregate in PCR 10.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from nodeseal.appraisal.capture import CaptureOptions, Observation, capture
from nodeseal.boot.claims import boot_claims
from nodeseal.boot.proved import prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.logs import ImaDelta, KnownLogs
from nodeseal.evidence.quote import prove_pcr_values
from nodeseal.evidence.round import Evidence
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ids import Nonce, node_id_of
from nodeseal.ima.log import boot_aggregate_candidates, encode_ima_entry, measured_entry, template_hash
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import EPOCH_PCR, IMA_PCR
from nodeseal.uefi.event_log import decode_event_log, replay

SELECTION: Final = PcrSelection.of({HashAlg.SHA256: (*range(16), EPOCH_PCR)})
"""What verifiers ask for by default."""
FILES: Final = {f"/usr/lib/lib{number}.so": f"content {number}".encode() for number in range(20)}
"""What every node runs."""
_BANK: Final = HashAlg.SHA256
_TEMPLATE: Final = "ima-ng"
_BOOT_ID: Final = "3f0c7c9e-0000-4000-8000-000000000001"
_COMMAND_LINE: Final = "/vmlinuz root=LABEL={} ro quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootedNode:
    """A machine that runs.

    Attributes:
        tpm: its TPM, with the PCRs that the logs lead to.
        boot_log: as its firmware left it.
        ima_log: as its kernel shows it.
    """

    tpm: SyntheticTpm
    boot_log: bytes
    ima_log: bytes


def booted_node(vendor: TpmVendor, name: str) -> BootedNode:
    """Return a node that boots like all others, from a disk of its own, and runs what all others run."""
    tpm, boot_log = SyntheticTpm(vendor), boot_log_of(name)
    tpm.boot(boot_log)
    values = dict(zip(SELECTION.indices(), tpm.read_pcrs(SELECTION), strict=True))
    boot_pcrs = {index: values[_BANK, index] for index in range(IMA_PCR)}
    measured = [
        ImaFields(algorithm="sha256", digest=boot_aggregate_candidates(boot_pcrs, _BANK)[0], path=b"boot_aggregate"),
        *(
            ImaFields(algorithm="sha256", digest=hashlib.sha256(content).digest(), path=path.encode())
            for path, content in FILES.items()
        ),
    ]
    entries = [measured_entry(_TEMPLATE, encode_template(_TEMPLATE, fields)) for fields in measured]
    for entry in entries:
        tpm.extend(IMA_PCR, {_BANK: template_hash(entry, _BANK)})
    return BootedNode(tpm=tpm, boot_log=boot_log, ima_log=b"".join(map(encode_ima_entry, entries)))


def boot_log_of(name: str) -> bytes:
    """Return the boot log of the node that boots from the disk of this name."""
    return sample_boot_log(SampleBoot(command_line=_COMMAND_LINE.format(name)), (_BANK,))


def golden() -> Golden:
    """Return the golden that all nodes match: values where they hold still, rules for what boots and what runs."""
    log = decode_event_log(boot_log_of("disk"))
    replayed = replay(log, _BANK)
    values = [replayed.get(index, bytes(_BANK.digest_size)) for _, index in SELECTION.indices()]
    pcrs = prove_pcr_values(Quoted(SELECTION, pcr_digest(_BANK, values)), _BANK, values)
    proved = prove_boot_log(log, pcrs, FirmwareFacts())
    seen = Observation(
        node_id=node_id_of(b"a TPM"), boot_id=_BOOT_ID, pcrs=pcrs, log=proved, claims=boot_claims(proved)
    )
    files = {path: (FileDigest(digest=hashlib.sha256(content).digest()),) for path, content in FILES.items()}
    made = capture([seen], CaptureOptions(name="rack-a", rules=True, runtime=RuntimeRules(files=files))).golden
    if made.boot is None:
        raise AssertionError("rules were asked for")
    return replace(made, boot=replace(made.boot, command_lines=(_COMMAND_LINE.format("*"),)))


class Attester:
    """The node's side of a round, as cheap as it can be: claims, selection and logs never change.

    Args:
        node: whose.
        channel: what its quotes are bound to.
    """

    def __init__(self, node: BootedNode, channel: Channel) -> None:
        self._node: Final = node
        self._channel: Final = channel
        self._claims: Final = encode_claims(Claims(boot_id=_BOOT_ID, kernel="6.1.0-31-amd64", agent_version="0.1.0"))

    def evidence(self, nonce: Nonce, known: KnownLogs, *, values: bool) -> Evidence:
        """Answer a challenge that names what is known of the logs."""
        node = self._node
        quote = node.tpm.quote(qualifying_data(Purpose.ATTEST, nonce, self._channel, self._claims), SELECTION)
        return Evidence(
            claims=self._claims,
            attest=quote.attest,
            signature=quote.signature,
            pcr_values=node.tpm.read_pcrs(SELECTION) if values else None,
            boot_log=None if known.boot_log_sha256 else node.boot_log,
            ima=ImaDelta(offset=known.ima_offset, entries=node.ima_log[known.ima_offset :]),
        )
