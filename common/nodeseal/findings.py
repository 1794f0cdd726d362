"""Findings: stable names for everything that can be wrong with a node, with remedies.

A finding says what was expected, what was seen and what to do next. The meaning of an id never changes, so alerts and
runbooks may rely on it. ``docs/findings.md`` is generated from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """Effect of a finding on the node."""

    WARNING = "warning"
    """Reported; trust is unchanged."""
    UNTRUSTED = "untrusted"
    """The node is not trusted until a later round has no such finding."""
    QUARANTINE = "quarantine"
    """The node is not trusted until a person has looked at it."""


class FindingId(Enum):
    """All findings, with code, severity, meaning and remedy."""

    # Endorsement key and its certificate
    EK_ABSENT = (
        "ek.certificate-missing",
        Severity.UNTRUSTED,
        "the TPM shows no endorsement key certificate and the key is not on the allow list",
        "add the SHA-256 shown to enrolment.ek_allow if you know this TPM, or provision a certificate",
    )
    EK_MALFORMED = (
        "ek.certificate-malformed",
        Severity.UNTRUSTED,
        "the endorsement key certificate does not parse",
        "read the certificate from the TPM's NV index and report its bytes",
    )
    EK_UNTRUSTED_ROOT = (
        "ek.untrusted-root",
        Severity.UNTRUSTED,
        "the endorsement key certificate does not chain to a trusted root",
        "add the TPM vendor's certificates to enrolment.ek_roots if you trust it; nodeseal-verifier ek check says more",
    )
    EK_SIGNATURE = (
        "ek.certificate-signature",
        Severity.UNTRUSTED,
        "a certificate of the endorsement key's chain is not signed by its issuer in an accepted way",
        "check the intermediates; a TPM below an authority that uses SHA-1 can only be put on the allow list",
    )
    EK_EXPIRED = (
        "ek.certificate-expired",
        Severity.UNTRUSTED,
        "a certificate of the endorsement key's chain is not valid now",
        "check the verifier's clock; if the vendor's certificate has expired, put the key on the allow list",
    )
    EK_USAGE = (
        "ek.certificate-usage",
        Severity.UNTRUSTED,
        "a certificate of the endorsement key's chain is not meant for this use",
        "this is not an endorsement key certificate; enrol with the TPM's own, or put the key on the allow list",
    )
    EK_KEY_MISMATCH = (
        "ek.key-mismatch",
        Severity.UNTRUSTED,
        "the certificate certifies another key than the endorsement key shown",
        "the certificate belongs to another TPM or another EK template; check NV indices and templates",
    )
    EK_TEMPLATE = (
        "ek.template",
        Severity.UNTRUSTED,
        "the endorsement key was not made from a template of the TCG EK Credential Profile",
        "recreate the endorsement key from a standard template",
    )
    EK_WEAK = (
        "ek.weak-key",
        Severity.UNTRUSTED,
        "the endorsement key's algorithm or size is not accepted, or its modulus has the ROCA fingerprint",
        "update the TPM's firmware and renew its keys, or replace the TPM",
    )
    # Attestation key
    AK_ATTRIBUTES = (
        "ak.attributes",
        Severity.UNTRUSTED,
        "the attestation key's attributes are not exactly those of a restricted signing key of this TPM",
        "create the attestation key anew; a key without these attributes can sign forged quotes",
    )
    AK_ALGORITHM = (
        "ak.algorithm",
        Severity.UNTRUSTED,
        "the attestation key's algorithm, curve, size, scheme or name algorithm is not accepted",
        "create an ECDSA P-256 or RSA 2048 attestation key with SHA-256",
    )
    AK_ACTIVATION = (
        "ak.activation",
        Severity.UNTRUSTED,
        "the TPM did not prove that it holds both the endorsement and the attestation key",
        "make sure that both keys belong to the same TPM, then enrol again",
    )
    # TLS identities
    TLS_REQUEST = (
        "tls.request",
        Severity.UNTRUSTED,
        "the certificate request is not signed by its own key, or the key is not accepted",
        "make a new P-256 key and request; the agent does so when its state directory is empty",
    )
    TLS_CERTIFICATE = (
        "tls.certificate",
        Severity.UNTRUSTED,
        "the TLS certificate does not name exactly one node, person or verifier of this system",
        "use the certificate that the verifier issued",
    )
    RENEWAL_QUOTE = (
        "renewal.quote",
        Severity.UNTRUSTED,
        "a certificate is renewed for a fresh quote that names the new key, and there was none",
        "update nodeseal-agent; until then the node enrols again when its certificate ends, which ends its leases",
    )
    NODE_UNKNOWN = (
        "node.unknown",
        Severity.UNTRUSTED,
        "the verifier does not know the node, or another certificate stands for it now",
        "enrol the node again",
    )
    NODE_RETIRED = (
        "node.retired",
        Severity.UNTRUSTED,
        "the node was retired; that is final",
        "use another machine; a retired node's endorsement key is not accepted again",
    )
    NODE_NOT_TRUSTED = (
        "node.not-trusted",
        Severity.UNTRUSTED,
        "only a node that is trusted now may do this",
        "see the node's findings: nodeseal node show NODE",
    )
    # People
    PERSON_UNKNOWN = (
        "person.unknown",
        Severity.UNTRUSTED,
        "the verifier does not know the person, or another certificate stands for them now",
        "ask for a certificate: nodeseal-verifier person add",
    )
    PERSON_ROLE = (
        "person.role",
        Severity.UNTRUSTED,
        "the caller has no role that permits this",
        "ask someone with the role, or ask for the role: nodeseal-verifier person add",
    )
    # Signatures of people
    SSH_ALGORITHM = (
        "ssh.algorithm",
        Severity.UNTRUSTED,
        "the SSH signature was made with a hash or a scheme that is not accepted, or not the one of its key",
        "sign with ssh-keygen -Y sign of OpenSSH 8.2 or newer, which uses sha512",
    )
    SSH_NAMESPACE = (
        "ssh.namespace",
        Severity.UNTRUSTED,
        "the SSH signature was made for another purpose",
        "sign with the namespace shown: ssh-keygen -Y sign -n NAMESPACE",
    )
    SSH_SIGNATURE = (
        "ssh.signature",
        Severity.UNTRUSTED,
        "the SSH signature does not verify over this message under the key that it names",
        "sign exactly the file that was shown, byte for byte",
    )
    SSH_USER_PRESENCE = (
        "ssh.user-presence",
        Severity.UNTRUSTED,
        "nobody touched the FIDO2 token that made the signature",
        "make the key anew without the option no-touch-required, and touch the token when it blinks",
    )
    SSH_USER_VERIFICATION = (
        "ssh.user-verification",
        Severity.UNTRUSTED,
        "the signature does not prove that its FIDO2 token knew its user, as the rules demand",
        "sign with a key made by ssh-keygen -t ed25519-sk -O verify-required",
    )
    PERSON_QUORUM = (
        "person.quorum",
        Severity.UNTRUSTED,
        "the rules want more than one person for this",
        "propose it with the command that is named, and let others approve: nodeseal proposal --help",
    )
    PERSON_APPROVAL = (
        "person.approval",
        Severity.UNTRUSTED,
        "the signature does not count as an approval, or not as one of this person",
        (
            "sign with your own registered SSH key (--ssh-key FILE), and let others approve what you proposed; to "
            "register a key: nodeseal person key-add, under a quorum nodeseal propose person key-add"
        ),
    )
    PERSON_SUSPENDED = (
        "person.suspended",
        Severity.UNTRUSTED,
        "the person is locked out for now",
        "ask who suspended them; it lapses after 72 hours unless a second person confirmed it",
    )
    # The log
    LOG_SIGNATURE = (
        "log.signature",
        Severity.UNTRUSTED,
        "a checkpoint of the log is not signed by the key that is expected",
        (
            "compare the key with what nodeseal-verifier log-key prints on the verifier's host; else it is forged; "
            "where a witness's cosignature is missing: ask for it with --witness URL when you export"
        ),
    )
    LOG_PROOF = (
        "log.proof",
        Severity.UNTRUSTED,
        "a proof does not lead from an act, or from an earlier checkpoint, to the checkpoint of the log",
        "keep both as evidence: the log was changed, or what you were shown is not from it",
    )
    LOG_FORK = (
        "log.fork",
        Severity.UNTRUSTED,
        "two checkpoints of one log contradict each other",
        "keep both as evidence and trust neither: somebody showed two histories; find out who could sign for the log",
    )
    LOG_EXPORT = (
        "log.export",
        Severity.UNTRUSTED,
        "what an export says is in force does not follow from its acts",
        "keep the export as evidence: rows of the verifier's database, or the export, were edited",
    )
    # Quotes
    QUOTE_MALFORMED = (
        "quote.malformed",
        Severity.UNTRUSTED,
        "the attestation structure or its signature does not parse, or is not what was asked for",
        "update the agent; if it is current, treat the node as hostile",
    )
    QUOTE_SIGNATURE = (
        "quote.signature",
        Severity.UNTRUSTED,
        "the signature does not verify under the node's enrolled attestation key",
        "enrol the node again if its TPM was replaced on purpose",
    )
    QUOTE_ALGORITHM = (
        "quote.algorithm",
        Severity.UNTRUSTED,
        "the signature's scheme or hash is not the one of the attestation key, or is not accepted",
        "use SHA-256 or better; SHA-1 signatures are never accepted",
    )
    QUOTE_NONCE = (
        "quote.nonce",
        Severity.UNTRUSTED,
        "the answer does not belong to an open challenge: replayed, late, or answered twice",
        "check the network delay to the verifier and the agent's log",
    )
    QUOTE_BINDING = (
        "quote.binding",
        Severity.UNTRUSTED,
        "the quote was not made for this challenge, purpose, node, TLS channel, trust domain and claims",
        "treat the node as hostile: a quote was relayed, reused or its claims were changed",
    )
    QUOTE_SELECTION = (
        "quote.selection",
        Severity.UNTRUSTED,
        "the quote does not cover exactly the PCRs that were asked for",
        "check that the TPM has the bank and PCRs that the verifier's configuration names",
    )
    # PCR values
    PCR_DIGEST = (
        "pcr.digest",
        Severity.UNTRUSTED,
        "the PCR values sent are not the ones that were quoted",
        "the values changed while they were read, or were forged; the next round shows which",
    )
    PCR_MISMATCH = (
        "pcr.mismatch",
        Severity.UNTRUSTED,
        "a PCR has a value that no active golden allows",
        "see what differs: nodeseal golden explain NODE; activate a golden that allows it if the change was intended",
    )
    PCR_UNEXTENDED = (
        "pcr.unextended-bank",
        Severity.UNTRUSTED,
        "a boot PCR still has its reset value, so firmware measured nothing into it",
        "enable this PCR bank in the firmware's settings, or give the golden that asks for it labels",
    )
    PCR_NO_BANK = (
        "pcr.no-bank",
        Severity.UNTRUSTED,
        "the TPM has no active PCR bank of SHA-2, so nothing that it quotes can be judged",
        "activate the SHA-256 bank in the firmware's settings (TPM, PCR banks) or with tpm2_pcrallocate, then reboot",
    )
    PCR_BANK = (
        "pcr.bank",
        Severity.UNTRUSTED,
        "the nearest golden judges by a PCR bank that this node does not quote",
        "capture a golden on a node with this node's banks, or activate the golden's bank in the firmware's settings",
    )
    # Boot log
    UEFI_LOG_MISSING = (
        "uefi.log-missing",
        Severity.UNTRUSTED,
        "a golden judges what the boot log proves, but the node sent no boot log",
        "make the log readable for the agent (boot_log in agent.yaml), or use a golden of exact PCR values",
    )
    UEFI_LOG_MALFORMED = (
        "uefi.log-malformed",
        Severity.UNTRUSTED,
        "the boot log does not parse, or is not a log of this TPM's PCRs",
        "look at the log: nodeseal log show FILE; update the firmware if it writes a broken log",
    )
    UEFI_REPLAY = (
        "uefi.replay",
        Severity.UNTRUSTED,
        "the boot log does not replay to the quoted value of a PCR, so nothing in it about this PCR is believed",
        "compare with an earlier log: nodeseal log diff; if firmware forgot an event, a quirk may describe it",
    )
    UEFI_EVENT = (
        "uefi.event-data",
        Severity.UNTRUSTED,
        "an event's digest does not cover its data, or its type does not fit, so the event is not believed",
        "update the firmware; if it is current, treat the node as hostile: data or type were swapped",
    )
    UEFI_AFTER_SEPARATOR = (
        "uefi.after-separator",
        Severity.UNTRUSTED,
        "firmware state was measured after the separator that ends its measurements, or the separator is missing",
        "update the firmware; if it is current, treat the node as hostile: only firmware measures before the separator",
    )
    UEFI_FIRMWARE_ERROR = (
        "uefi.firmware-error",
        Severity.UNTRUSTED,
        "the firmware measured its own failure (a separator with an error value)",
        "read the firmware's own log on the machine's console, then reboot",
    )
    UEFI_SECURE_BOOT = (
        "uefi.secure-boot-off",
        Severity.UNTRUSTED,
        "secure boot is required but is off, in setup or audit mode, or not proved",
        "turn secure boot on in the firmware's settings and enrol keys",
    )
    UEFI_DMA = (
        "uefi.dma-protection-off",
        Severity.UNTRUSTED,
        "a golden asks for DMA protection, but firmware measured that it was off, or PCR 7 is not proved",
        "turn on the IOMMU and DMA protection (Kernel DMA Protection, Thunderbolt security) in the firmware's settings",
    )
    UEFI_SIGNER = (
        "uefi.signer",
        Severity.UNTRUSTED,
        "a boot image was accepted by an authority that no golden allows",
        "remove its certificate from db or MokList, or add the signer to the golden",
    )
    UEFI_IMAGE = (
        "uefi.image",
        Severity.UNTRUSTED,
        "a boot image that no golden allows ran",
        "predict the update (nodeseal golden predict) and activate the new golden, or restore the image",
    )
    UEFI_DRIVER = (
        "uefi.driver",
        Severity.UNTRUSTED,
        "a firmware driver or option ROM that no golden allows ran",
        "add the device's ROM to the golden if the hardware change was intended",
    )
    UEFI_DBX = (
        "uefi.dbx",
        Severity.UNTRUSTED,
        "the list of forbidden images (dbx) lacks entries that the golden requires",
        "update dbx: fwupdmgr update",
    )
    UEFI_COMMAND_LINE = (
        "uefi.command-line",
        Severity.UNTRUSTED,
        "the kernel's command line matches none of the golden's patterns, or none was proved",
        "restore the boot entry, or add the command line to the golden",
    )
    UEFI_SECTION = (
        "uefi.section",
        Severity.UNTRUSTED,
        "a section of the unified kernel image is not one that the golden allows, or is missing",
        "predict the new image (nodeseal golden predict) and activate the golden, or restore the image",
    )
    UEFI_FILE = (
        "uefi.file",
        Severity.UNTRUSTED,
        "the boot loader read a file that no golden allows",
        "predict the update (nodeseal golden predict) and activate the new golden, or restore the file",
    )
    UEFI_PARTITIONS = (
        "uefi.partitions",
        Severity.UNTRUSTED,
        "the partition table is not one that the golden allows",
        "add the partition table to the golden if the change of disks was intended",
    )
    UEFI_LOADER_CONF = (
        "uefi.loader-conf",
        Severity.UNTRUSTED,
        "the settings of systemd-boot (loader.conf, PCR 5) are not those that the golden allows",
        "restore loader.conf, or add the digest shown to boot.loader_conf of the golden",
    )
    UEFI_ADDON = (
        "uefi.addon",
        Severity.UNTRUSTED,
        "systemd-stub passed an add-on, credential or extension to the kernel that no golden allows (PCR 12)",
        "remove it from the boot partition, or add the digest shown to boot.addons of the golden if you know it",
    )
    UEFI_QUIRK = (
        "uefi.quirk",
        Severity.WARNING,
        "a known deviation of this firmware is accepted: its log replays only with that, or is given up for a PCR",
        "update the firmware when its vendor fixes it",
    )
    # Runtime, as IMA measures it
    IMA_LOG_MISSING = (
        "ima.log-missing",
        Severity.UNTRUSTED,
        "a golden judges what runs, but the node sent no IMA log",
        "boot with an IMA policy and make the log readable for the agent (ima_log in agent.yaml)",
    )
    IMA_LOG_MALFORMED = (
        "ima.log-malformed",
        Severity.UNTRUSTED,
        "the IMA log does not parse",
        "look at the log: nodeseal log show FILE",
    )
    IMA_LOG_TOO_LONG = (
        "ima.log-too-long",
        Severity.UNTRUSTED,
        "the IMA log is longer than one round may bring (64 MiB), so it cannot be proved",
        "reboot the node, and measure less by its IMA policy so that the log stays short",
    )
    IMA_REPLAY = (
        "ima.replay",
        Severity.UNTRUSTED,
        "the IMA log does not replay to the quoted PCR 10: an entry is missing, was changed or does not follow on",
        "reboot: a kexec that does not carry the log loses it; if it does not replay then, treat the node as hostile",
    )
    IMA_TRIMMED = (
        "ima.log-trimmed",
        Severity.UNTRUSTED,
        "the IMA log begins late: its first entries are gone, so what ran before is not known",
        "turn off what trims the log (a daemon, or a kernel that trims lists), then reboot: the log begins anew",
    )
    IMA_CARRIED = (
        "ima.log-carried",
        Severity.UNTRUSTED,
        "the IMA log has a second boot_aggregate, of other PCR values: kexec started a kernel and carried the log on",
        "reboot, and forbid kexec (kernel.kexec_load_disabled=1); if nobody used it, treat the node as hostile",
    )
    IMA_BOOT_AGGREGATE = (
        "ima.boot-aggregate",
        Severity.UNTRUSTED,
        "the IMA log does not begin with the aggregate of the quoted boot PCRs",
        "reboot; if it stays, the log is of another boot or machine",
    )
    IMA_UNKNOWN_FILE = (
        "ima.unknown-file",
        Severity.UNTRUSTED,
        "a file that the golden does not list ran or was read",
        "find out where it came from; add it to the runtime list if it belongs there",
    )
    IMA_CHANGED_FILE = (
        "ima.changed-file",
        Severity.UNTRUSTED,
        "a file that the golden lists had other content",
        "add the new version to the runtime list before an update is rolled out, or restore the file",
    )
    IMA_EXPIRED_FILE = (
        "ima.expired-file",
        Severity.UNTRUSTED,
        "a file had content that the golden allows only at another time",
        "update the package; the list in force when the file was measured did not allow this version",
    )
    IMA_VIOLATION = (
        "ima.violation",
        Severity.UNTRUSTED,
        "a file was written while it was measured, so the content that was used is unknown (a zero digest)",
        "find out what writes the file; reboot to get a log without the violation",
    )
    IMA_SIGNATURE = (
        "ima.signature",
        Severity.UNTRUSTED,
        "a file's signature does not verify, is malformed, or is by a key that is not accepted now",
        "sign the file with an accepted key, or add the key or the file to the golden",
    )
    IMA_BUFFER = (
        "ima.buffer",
        Severity.UNTRUSTED,
        "a measured buffer (a key, a command line) is not one that the golden allows",
        "find out what loaded it; add it to the golden's buffers if it belongs there",
    )
    IMA_TEMPLATE = (
        "ima.template",
        Severity.UNTRUSTED,
        "an entry's template names no file or is unknown, so the entry cannot be judged",
        "set ima_template=ima-ng or ima-sig on the kernel's command line",
    )
    # Platform
    PLATFORM_MANUFACTURER = (
        "platform.tpm-manufacturer",
        Severity.UNTRUSTED,
        "the golden does not allow the TPM's manufacturer",
        "use another machine, or add the manufacturer to the golden",
    )
    PLATFORM_FIRMWARE = (
        "platform.tpm-firmware",
        Severity.UNTRUSTED,
        "the TPM's firmware is older than the golden allows",
        "update the TPM's firmware",
    )
    PLATFORM_EK = (
        "platform.ek-algorithm",
        Severity.UNTRUSTED,
        "the endorsement key is of a kind that the golden does not allow",
        "enrol with another endorsement key of the TPM, or change the golden",
    )
    # Time and reset
    CLOCK_RESET = (
        "clock.reset-without-reboot",
        Severity.UNTRUSTED,
        "the TPM was reset or restarted, but the node claims that it did not reboot",
        "treat the node as hostile: a TPM reset without a reboot lets an attacker replay measurements",
    )
    CLOCK_ROLLBACK = (
        "clock.rollback",
        Severity.QUARANTINE,
        "the TPM's clock ran backwards",
        "find out whether TPM state was restored or cleared; then lift the quarantine, or retire the node",
    )
    CLOCK_UNSAFE = (
        "clock.unsafe",
        Severity.WARNING,
        "the TPM lost power without a shutdown, so its clock may have been set back",
        "nothing to do: it ends when the clock passes its last saved value",
    )
    # Egress limits
    EGRESS_MISSING = (
        "egress.claims-missing",
        Severity.UNTRUSTED,
        "a golden limits what may leave the node, but the node's agent has no egress limits",
        "write the file: nodeseal golden egress GOLDEN; name it in agent.yaml (egress.file); docs/egress.md says how",
    )
    EGRESS_RULESET = (
        "egress.ruleset",
        Severity.UNTRUSTED,
        "the nftables table in the node's kernel is not what the golden names, or somebody changed it meanwhile",
        "find out who changed it; restart nodeseal-agent, which installs the table of its file anew",
    )
    EGRESS_DEVICE = (
        "egress.device",
        Severity.UNTRUSTED,
        "a network device of the node may send and no uplink of the golden names it, or an uplink is not hooked",
        "remove the device, or name it in egress.uplinks (or egress.counted) of the golden and of the node's file",
    )
    EGRESS_PROGRAM = (
        "egress.program",
        Severity.UNTRUSTED,
        "a filter or program on a device of the node may pass bytes on beside the table: tc, XDP, tcx, nftables",
        "remove it; networks that need such programs (Cilium's host routing) cannot have egress limits",
    )
    EGRESS_COUNTERS = (
        "egress.counters-fell",
        Severity.UNTRUSTED,
        "what the node's table has counted fell within one boot: somebody reset or removed it",
        "find out who did, and what left meanwhile (switch counters); the node is judged anew after a reboot",
    )
    EGRESS_UNEXPLAINED = (
        "egress.unexplained-bytes",
        Severity.UNTRUSTED,
        "an uplink of the node sent more than its table let through, so bytes left beside the table",
        "find out what sent them, and where they went (switch counters); the node is judged anew after a reboot",
    )
    # Reference values
    GOLDEN_NONE = (
        "golden.none",
        Severity.UNTRUSTED,
        "no golden measurement is active, so nothing is trusted",
        "capture a golden from a node you trust and activate it",
    )
    GOLDEN_NOT_VALID = (
        "golden.not-valid",
        Severity.UNTRUSTED,
        "no active golden applies now to a node with these labels",
        "activate a golden whose window is open, or label the node: nodeseal node label",
    )
    # Key release
    RELEASE_KEY = (
        "release.key",
        Severity.UNTRUSTED,
        "the release key is not a P-256 key that only this TPM can use, and only by policy",
        "update the agent; a release key must be created in the TPM under a PCR policy",
    )
    RELEASE_CERTIFY = (
        "release.certify",
        Severity.UNTRUSTED,
        "the attestation key did not certify this release key in this exchange",
        "update the agent; if it is current, treat the node as hostile",
    )
    RELEASE_POLICY = (
        "release.policy",
        Severity.UNTRUSTED,
        "the release key's policy is not TPM2_PolicyPCR over the quoted values",
        "PCRs changed during the exchange; try again",
    )
    RELEASE_EPOCH = (
        "release.no-epoch",
        Severity.UNTRUSTED,
        "no lease epoch has begun on the node: PCR 23 has its reset value",
        "update nodeseal-agent on the node; if it is current, restart it and see its log",
    )
    RELEASE_STATE = (
        "release.node-state",
        Severity.UNTRUSTED,
        "the node's state does not allow releases",
        "see the node's findings, admit it, or lift its quarantine",
    )
    RELEASE_MODEL = (
        "release.model-unregistered",
        Severity.UNTRUSTED,
        "the model digest is not registered with the verifier",
        "register the model if its content is what it should be: nodeseal model register",
    )
    RELEASE_RETIRED = (
        "release.model-retired",
        Severity.UNTRUSTED,
        "the model was registered, and a person retired it",
        "open the version that replaced it; to allow this one again: nodeseal model register DIR --again",
    )
    RELEASE_SLOT = (
        "release.slot",
        Severity.UNTRUSTED,
        "the verifier holds no key that opens a slot of the model",
        "seal to a public key of this verifier, and keep slots with their own model",
    )
    RELEASE_GRANT = (
        "release.not-granted",
        Severity.UNTRUSTED,
        "the model key is not granted to this node",
        "nodeseal key grant KEY --node NODE",
    )
    RELEASE_LIMIT = (
        "release.lease-limit",
        Severity.UNTRUSTED,
        "the key has as many running leases as its grant allows",
        "close a model on another node, or raise the limit of the grant",
    )
    RELEASE_WRAPPED = (
        "release.wrapped",
        Severity.UNTRUSTED,
        "the verifier's reply does not open with this node's release key and context",
        "the reply was made for another node, lease or model, or was changed on its way; open the model again",
    )
    RELEASE_TPM = (
        "release.tpm-refused",
        Severity.UNTRUSTED,
        "the TPM refused to use the release key: a measured PCR changed since the release, or the TPM was reset",
        "open the model again; if that is refused too, see the node's findings",
    )
    # Local callers of the agent
    CALLER_REFUSED = (
        "caller.refused",
        Severity.UNTRUSTED,
        "the local process is not allowed to ask for keys",
        "add a rule for its user, executable or unit to the agent's configuration",
    )
    # Sealed models
    SEALED_MODEL = (
        "sealed.model-digest",
        Severity.UNTRUSTED,
        "the key was released for another model than the one in the directory",
        "the directory was changed or mixed with another version; copy the sealed model again",
    )
    SEALED_FILE = (
        "sealed.file",
        Severity.UNTRUSTED,
        "a file of a sealed model is missing, has another size, or is not the one its content file covers",
        "copy the sealed model again; if the file was changed on purpose, seal and register the model anew",
    )
    SEALED_HEADER = (
        "sealed.header",
        Severity.UNTRUSTED,
        "the header of a sealed file does not belong to the data key and the content file",
        "the file was changed, or belongs to another model; copy the sealed model again",
    )
    SEALED_SEGMENT = (
        "sealed.segment",
        Severity.UNTRUSTED,
        "a segment of a sealed file was changed, moved, cut or replaced",
        "copy the sealed model again; if the storage damages files, replace it",
    )
    SEALED_LEASE = (
        "sealed.lease-ended",
        Severity.UNTRUSTED,
        "the node lost the right to use the model, or the model was closed",
        "see the node's findings; open the model again once the node is trusted",
    )

    def __init__(self, code: str, severity: Severity, meaning: str, remedy: str) -> None:
        self.code = code
        self.severity = severity
        self.meaning = meaning
        self.remedy = remedy


BY_CODE = {finding.code: finding for finding in FindingId}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a node.

    Attributes:
        id: kind of problem.
        expected: value or fact that policy or protocol asks for.
        seen: value or fact found instead.
        where: PCR, key, file or setting concerned, or an empty string.
        event: event of the log that explains the problem, or an empty string.
    """

    id: FindingId
    expected: str
    seen: str
    where: str = ""
    event: str = ""

    @property
    def remedy(self) -> str:
        """Next step for an operator."""
        return self.id.remedy

    def __str__(self) -> str:
        return describe(self.id.code, self.where, expected=self.expected, seen=self.seen, event=self.event)


def describe(code: str, where: str, *, expected: str, seen: str, event: str) -> str:
    """Return a finding as one line of text. ``code`` may be an id that this version does not know."""
    place = f" ({where})" if where else ""
    because = f"; {event}" if event else ""
    return f"{code}{place}: expected {expected}, seen {seen}{because}"
