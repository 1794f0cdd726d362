"""Nodes that lie about their logs: good cases with a lease at stake, and rounds that must not count.

A :class:`Trial` begins with the unchanged case: a node that a golden trusts by its logs, and that holds a key. What the
test then sends must cost it both (:meth:`Trial.refused`), or must be as good as the truth (:meth:`Trial.believed`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from nodeseal.boot.difference import reference_events
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import Image, RuntimeRules
from nodeseal.ima.log import ImaEntry
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import EventLog, decode_event_log, encode_event_log
from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Challenge, Evidence, Finding, Verdict
from support import ima
from support.admin import Sealed, a_sealed_model, activate, admitted, grant
from support.attackers import last_finding_ids, seen_by
from support.boot_logs import claims_of, rules_from, values_of
from support.fake_node import FakeStream, boot_log_stretches, ima_stretches
from support.logged import LoggedNode
from support.verifier import RunningVerifier, Stubs, a_verifier, refused

SHA1, SHA256 = HashAlg.SHA1, HashAlg.SHA256
GOOD = SampleBoot(option_rom=b"nodeseal sample option ROM")
"""Boot of an honest machine: it extends every PCR that a rule looks at."""
GOOD_LOG = sample_boot_log(GOOD)
LOG = decode_event_log(GOOD_LOG)
UNIFIED = SampleBoot(sections=((".linux", b"linux"), (".initrd", b"initrd"), (".uname", b"6.1")))
"""A machine that boots a unified kernel."""
UNIFIED_LOG = decode_event_log(sample_boot_log(UNIFIED))


def exact_golden(log: EventLog, judged: str = "exact") -> Golden:
    """Return the golden that pins PCR 0 to 7 of a machine that booted by ``log``, and explains by its events."""
    return Golden(
        name=judged,
        pcrs={SHA256: {pcr: frozenset({value}) for pcr, value in values_of(log).items() if pcr in range(8)}},
        nodes={"judged": judged},
        reference=reference_events(log, [SHA256]),
    )


def rules_golden(log: EventLog, judged: str = "rules") -> Golden:
    """Return the golden that judges by every boot rule that ``log`` has something for, and pins no value."""
    rules = rules_from(claims_of(log))
    return Golden(
        name=judged,
        pcrs={},
        boot=replace(rules, images=_numbered(rules.images), drivers=_one(rules.drivers), files=_one(rules.files)),
        nodes={"judged": judged},
    )


def runtime_golden(log: EventLog, rules: RuntimeRules, judged: str) -> Golden:
    """Return the golden that pins a machine's boot by ``log``, and has these runtime rules."""
    exact = exact_golden(log, judged)
    return Golden(name=judged, pcrs=exact.pcrs, runtime=rules, nodes=exact.nodes)


def _numbered(images: tuple[Image, ...] | None) -> tuple[Image, ...] | None:
    """Give each image of a chain a name of its own."""
    return tuple(replace(image, name=f"image {n}") for n, image in enumerate(images)) if images else None


def _one(images: tuple[Image, ...] | None) -> tuple[Image, ...] | None:
    """Put all digests under one name, since a golden's names differ."""
    digests = frozenset(digest for image in images or () for digest in image.digests)
    return (Image(name="measured", digests=digests),) if digests else None


@dataclass(frozen=True, slots=True)
class Court:
    """A verifier with goldens for nodes of several labels, and a model."""

    verifier: RunningVerifier
    model: Sealed
    folder: Path


@contextmanager
def a_court(
    folder: Path, *goldens: Golden, interval_seconds: int = 0, answer_within_seconds: int = 10, trust_seconds: int = 60
) -> Iterator[Court]:
    """Run the verifier; by default it sends the next challenge as soon as a node has answered the last one."""

    async def prepare() -> Sealed:
        async with verifier.person() as admin:
            for golden in goldens:
                await activate(admin, dump_golden(golden))
            return await a_sealed_model(admin)

    with a_verifier(
        folder,
        interval_seconds=interval_seconds,
        answer_within_seconds=answer_within_seconds,
        trust_seconds=trust_seconds,
    ) as verifier:
        yield Court(verifier, asyncio.run(prepare()), folder)


class Suspect(LoggedNode):
    """A node that boots any log, and whose kernel measures anything."""

    def reboot_by(self, log: EventLog | bytes, *, ima_log: bytes = b"") -> None:
        """Boot by a log, under a new boot id; logs start anew, the IMA log with these entries, and keys are gone."""
        self.boot_log = log if isinstance(log, bytes) else encode_event_log(log)
        self.boot_id, self.leases = str(uuid.uuid4()), ()
        self.tpm.boot(self.boot_log)
        self._file.unlink(missing_ok=True)
        if ima_log:
            self._ima.replay(ima_log, SHA1)
        else:
            self._ima.begin(self.boot_pcrs(), SHA256)

    def measure(self, *entries: ImaEntry) -> None:
        """Let the kernel measure: the log grows, and PCR 10 with it."""
        self._ima.replay(ima.log(entries), SHA1)

    def extend_logged(self, log: EventLog) -> None:
        """Let the running system extend PCRs by events that firmware never saw, and add them to its log."""
        for event in log.events[len(decode_event_log(self.boot_log).events) :]:
            self.tpm.extend(event.pcr, event.digests)
        self.boot_log = encode_event_log(log)

    @property
    def ima_bytes(self) -> bytes:
        """The IMA log as the kernel shows it."""
        return self._file.read_bytes()


Tell = Callable[[Suspect, Challenge], Sequence[Evidence]]
"""Makes a node's answer to a challenge."""


def told(
    node: Suspect,
    challenge: Challenge,
    *,
    boot_log: EventLog | bytes = b"",
    ima_log: bytes = b"",
    offset: int = 0,
) -> list[Evidence]:
    """Return an answer with an honest quote, and with these logs and no others."""
    log = boot_log if isinstance(boot_log, bytes) else encode_event_log(boot_log)
    return [*boot_log_stretches(log), *ima_stretches(ima_log, offset), node.evidence(challenge)]


def telling(boot_log: EventLog | bytes) -> Tell:
    """Return how a node answers that has this boot log, and tells the truth otherwise."""

    def tell(node: Suspect, challenge: Challenge) -> list[Evidence]:
        log = boot_log if isinstance(boot_log, bytes) else encode_event_log(boot_log)
        return [*boot_log_stretches(log), *(each for each in node.answer(challenge) if not each.boot_log)]

    return tell


def truth(node: Suspect, challenge: Challenge) -> list[Evidence]:
    """Answer honestly."""
    return node.answer(challenge)


class Trial:
    """A node that was trusted and holds a lease, and its open stream."""

    def __init__(self, court: Court, admin: Stubs, node: Suspect, stream: FakeStream) -> None:
        self.court, self.admin, self.node, self.stream = court, admin, node, stream
        self.lease = ""

    async def earn_trust(self) -> None:
        """Tell the truth, which is good, and get a key by it."""
        verdict = await self.stream.round()
        assert (verdict.state, list(verdict.findings)) == (NODE_STATE_TRUSTED, []), verdict.findings
        released = await self.node.release(self.court.model.digest, [self.court.model.slot])
        assert self.node.open(released) == self.court.model.data_key
        self.lease = released.lease_id

    async def answer(self, tell: Tell) -> Verdict:
        """Answer the next challenge."""
        for message in tell(self.node, await self.stream.challenge()):
            await self.stream.send(message)
        return await asyncio.wait_for(self.stream.verdict(), 20)

    async def refused(self, tell: Tell) -> list[Finding]:
        """Answer the next challenge: trust and lease must end, with a record, and no key be given out."""
        verdict = await self.answer(tell)
        assert (verdict.state, verdict.trusted_for_ms) == (NODE_STATE_UNTRUSTED, 0), verdict
        assert not verdict.HasField("trusted_until")
        assert all(finding.expected and finding.seen and finding.remedy for finding in verdict.findings)
        found = [finding.id for finding in verdict.findings]
        known = await seen_by(self.admin, self.node)
        assert (known.state, list(known.leases)) == (NODE_STATE_UNTRUSTED, [])
        assert last_finding_ids(self.court.verifier, self.node) == found
        assert self.court.verifier.actions(f"lease/{self.lease}") == ["lease.issued", "lease.ended"]
        refusal = await refused(self.node.release(self.court.model.digest, [self.court.model.slot]))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
        shown = ["release.node-state", *found[: len(refusal.findings) - 1]]  # there may be more than there is room for
        assert (list(refusal.findings), bool(refusal.findings[1:])) == (shown, True), refusal
        return list(verdict.findings)

    async def believed(self, tell: Tell = truth) -> None:
        """Answer the next challenge: the node is trusted, and nothing speaks against it."""
        verdict = await self.answer(tell)
        assert (verdict.state, list(verdict.findings)) == (NODE_STATE_TRUSTED, []), verdict.findings


@asynccontextmanager
async def a_trial(
    court: Court,
    judged: str,
    log: EventLog | bytes = GOOD_LOG,
    *,
    measured: Iterable[ImaEntry] = (),
    tpm: SyntheticTpm | None = None,
) -> AsyncIterator[Trial]:
    """Bring a node to court that booted by ``log``, and is trusted by the goldens for the label ``judged``."""
    async with court.verifier.person() as admin:
        node = Suspect(court.verifier, tpm or SyntheticTpm(court.verifier.vendor), court.folder)
        node.reboot_by(log)
        node.measure(*measured)
        await admitted(node)
        await admin.nodes.LabelNode(admin_pb2.LabelNodeRequest(node_id=node.node_id, labels={"judged": judged}))
        await grant(admin, node, max_leases=5)
        async with node.attesting() as stream:
            trial = Trial(court, admin, node, stream)
            await trial.earn_trust()
            yield trial


def places(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Return which findings these are, and where, without the golden's name."""
    return [(finding.id, finding.where.rpartition(", golden ")[0] or finding.where) for finding in findings]


def ids(findings: Iterable[Finding]) -> set[str]:
    """Return which findings these are."""
    return {finding.id for finding in findings}
