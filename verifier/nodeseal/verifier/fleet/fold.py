"""Folds: what each act means for the nodes and goldens in memory, one function a kind.

A fold compares the version that its act carries with the one that memory has, and ignores an older one: acts may arrive
in another order than they were recorded in, and every order gives the same memory. State, attestation key, certificates
and labels of a node have versions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from nodeseal.errors import OutOfOrder
from nodeseal.findings import Finding
from nodeseal.golden.document import parse_golden
from nodeseal.governance.rules import decode_rules
from nodeseal.ids import Digest, PersonId
from nodeseal.verifier.fleet.memory import CERTIFICATE, SUSPENSION, CertificatesOfPerson, Memory
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Recorded
from nodeseal.verifier.ledger.projectors import lease_of, node_of, person_of, standing_after
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.nodes import NodeRecord, decode_findings, decode_labels

AGAIN: Final = "the node has enrolled again"
"""Why the leases and the stream of a node end that enrolled anew."""


_Decides: TypeAlias = acts.DecidesNode | acts.NodeEnrolled


def fold(memory: Memory, recorded: Recorded) -> None:
    """Take over an act that is recorded."""
    follow = _FOLDS.get(type(recorded.entry.act))
    if follow is not None:
        follow(memory, recorded, recorded.entry.act)


def _enrolled(memory: Memory, recorded: Recorded, act: acts.NodeEnrolled) -> None:
    node = memory.nodes.get(act.node_id)
    if node is None:
        node = memory.nodes[act.node_id] = Node(node_of(act, recorded.entry, {}), standing_after(act, ()))
        versions = recorded.entry.versions
        node.version = versions[acts.node_subject(act.node_id)]
        node.identity_version = versions[acts.identity_subject(act.node_id)]
        node.certificate_version = versions[acts.certificate_subject(act.node_id)]
        return
    _take_identity(node, recorded, act)
    _stand(memory, node, recorded, act)
    if node.stream is not None:
        node.stream.close(OutOfOrder(AGAIN))


def _take_identity(node: Node, recorded: Recorded, act: acts.NodeEnrolled) -> None:
    identity = recorded.entry.versions[acts.identity_subject(act.node_id)]
    certificate = recorded.entry.versions[acts.certificate_subject(act.node_id)]
    if identity > node.identity_version:
        kept = node.record
        node.enrol(replace(node_of(act, recorded.entry, kept.labels), **_certificates_of(kept)))
        node.identity_version = identity
    if certificate > node.certificate_version:
        node.record = replace(node.record, certificate_sha256=act.certificate_sha256, next_certificate_sha256=None)
        node.certificate_version = certificate


def _certificates_of(record: NodeRecord) -> dict[str, Any]:
    return {
        "certificate_sha256": record.certificate_sha256,
        "next_certificate_sha256": record.next_certificate_sha256,
    }


def _version(node: Node, recorded: Recorded) -> int:
    return recorded.entry.versions[acts.node_subject(node.record.node_id)]


def _stand(memory: Memory, node: Node, recorded: Recorded, act: _Decides) -> bool:
    """Take over what an act decides about a node; tell whether it is newer than what is known."""
    version = _version(node, recorded)
    if version <= node.version:
        return False
    node.recorded, node.version = standing_after(act, node.recorded.findings), version
    node.goldens = memory.active_of(node.recorded.goldens)
    if not (isinstance(act, acts.NodeJudged) and act.state in {NodeState.TRUSTED, NodeState.STALE}):
        node.trusted_until_steady = 0.0
    return True


def _judged(memory: Memory, recorded: Recorded, act: acts.NodeJudged) -> None:
    node = memory.nodes[act.node_id]
    if _stand(memory, node, recorded, act) and act.state is NodeState.TRUSTED:
        node.trusted_until_steady = max(node.trusted_until_steady, node.proved_until_steady)
    if _version(node, recorded) > node.findings_version:  # later decisions of people leave findings as they are
        findings = findings_of(recorded.documents, act.findings)
        node.recorded, node.findings_version = replace(node.recorded, findings=findings), _version(node, recorded)


def findings_of(documents: Mapping[Digest, bytes], digest: Digest) -> tuple[Finding, ...]:
    """Return the findings of a document; an empty digest stands for none."""
    return decode_findings(documents[digest]) if digest else ()


def _admitted(memory: Memory, recorded: Recorded, act: acts.NodeAdmitted) -> None:
    node = memory.nodes[act.node_id]
    if not _stand(memory, node, recorded, act):
        return
    if act.forget_clock:
        node.baseline = None
    if node.stream is not None:
        node.stream.challenge_now()


def _taken(memory: Memory, recorded: Recorded, act: acts.NodeQuarantined | acts.NodeRetired) -> None:
    node = memory.nodes[act.node_id]
    if _stand(memory, node, recorded, act) and isinstance(act, acts.NodeRetired):
        close_retired(node)


def close_retired(node: Node) -> None:
    """End the stream of a node that was retired."""
    if node.stream is not None:
        node.stream.close(OutOfOrder("the node was retired"))


def _labelled(memory: Memory, recorded: Recorded, act: acts.NodeLabelled) -> None:
    node, version = memory.nodes[act.node_id], recorded.entry.versions[acts.labels_subject(act.node_id)]
    if version <= node.labels_version:
        return
    node.record, node.labels_version = (
        replace(node.record, labels=decode_labels(recorded.documents[act.labels])),
        version,
    )
    if node.stream is not None:
        node.stream.challenge_now()


def _certified(memory: Memory, recorded: Recorded, act: acts.CertificateRenewed | acts.CertificateReplaced) -> None:
    node, version = memory.nodes[act.node_id], recorded.entry.versions[acts.certificate_subject(act.node_id)]
    if version <= node.certificate_version:
        return
    node.certificate_version = version
    node.record = replace(
        node.record,
        certificate_sha256=act.certificate_sha256,
        next_certificate_sha256=act.next_certificate_sha256 or None,
    )


def _lease_issued(memory: Memory, recorded: Recorded, act: acts.LeaseIssued) -> None:
    node = memory.nodes[act.node_id]
    if act.lease_id in memory.ended_early:
        memory.ended_early.discard(act.lease_id)
    elif node.overlay or memory.withheld(act.rests_on) is not None:  # the restriction ends it when it is recorded
        node.ending |= {act.lease_id}
    else:
        node.leases[act.lease_id] = lease_of(act, recorded.entry)


def _lease_ended(memory: Memory, _recorded: Recorded, act: acts.LeaseEnded) -> None:
    node = memory.nodes[act.node_id]
    if act.lease_id in node.ending:
        node.ending -= {act.lease_id}
    elif act.lease_id not in node.leases:
        memory.ended_early.add(act.lease_id)
    elif act.cause is None:  # the node knows
        del node.leases[act.lease_id]
    else:
        node.end_leases((act.lease_id,), act.cause, act.reason)


def _golden_activated(memory: Memory, recorded: Recorded, act: acts.GoldenActivated) -> None:
    if memory.is_newer(acts.golden_subject(act.digest), recorded.entry):
        golden = memory.prepared.get(act.digest)
        memory.activate(golden or parse_golden(recorded.documents[act.document], f"golden {act.name}"))


def _golden_retired(memory: Memory, recorded: Recorded, act: acts.GoldenRetired) -> None:
    if memory.is_newer(acts.golden_subject(act.digest), recorded.entry):
        memory.retire(act.digest)


def _key_created(memory: Memory, recorded: Recorded, act: acts.KeyCreated) -> None:
    if memory.is_newer(acts.key_subject(act.key_id), recorded.entry):
        memory.keys.add(act.key_id)


def _key_revoked(memory: Memory, recorded: Recorded, act: acts.KeyRevoked) -> None:
    if memory.is_newer(acts.key_subject(act.key_id), recorded.entry):
        memory.keys.discard(act.key_id)


def _person_added(memory: Memory, recorded: Recorded, act: acts.PersonAdded) -> None:
    if memory.is_newer(acts.person_subject(act.name), recorded.entry):
        memory.people[act.name] = person_of(act, recorded.entry)
    if memory.is_newer(acts.person_subject(act.name), recorded.entry, SUSPENSION):
        memory.suspended.discard(act.name)
    _speak_for(memory, recorded, act.name, CertificatesOfPerson(act.certificate_sha256, None))


def _person_renewed(memory: Memory, recorded: Recorded, act: acts.PersonRenewed) -> None:
    both = CertificatesOfPerson(act.certificate_sha256, act.next_certificate_sha256)
    _speak_for(memory, recorded, act.name, both)


def _person_certificate(memory: Memory, recorded: Recorded, act: acts.PersonCertificateReplaced) -> None:
    _speak_for(memory, recorded, act.name, CertificatesOfPerson(act.certificate_sha256, None))


def _speak_for(memory: Memory, recorded: Recorded, name: PersonId, certificates: CertificatesOfPerson) -> None:
    if memory.is_newer(acts.person_subject(name), recorded.entry, CERTIFICATE):
        memory.certificates[name] = certificates


def _suspension(memory: Memory, recorded: Recorded, act: acts.PersonSuspended | acts.PersonResumed) -> None:
    if memory.is_newer(acts.person_subject(act.name), recorded.entry, SUSPENSION):
        locked_out = isinstance(act, acts.PersonSuspended)
        (memory.suspended.add if locked_out else memory.suspended.discard)(act.name)


def _rules_set(memory: Memory, recorded: Recorded, act: acts.RulesSet) -> None:
    if memory.is_newer(acts.RULES_SUBJECT, recorded.entry):
        memory.rules = decode_rules(recorded.documents[act.rules], "rules")


def _person_removed(memory: Memory, recorded: Recorded, act: acts.PersonRemoved) -> None:
    if memory.is_newer(acts.person_subject(act.name), recorded.entry):
        memory.people.pop(act.name, None)


_FOLDS: Final[dict[type[acts.Act], Callable[[Memory, Recorded, Any], None]]] = {
    acts.NodeEnrolled: _enrolled,
    acts.NodeJudged: _judged,
    acts.NodeAdmitted: _admitted,
    acts.NodeQuarantined: _taken,
    acts.NodeRetired: _taken,
    acts.NodeLabelled: _labelled,
    acts.CertificateRenewed: _certified,
    acts.CertificateReplaced: _certified,
    acts.LeaseIssued: _lease_issued,
    acts.LeaseEnded: _lease_ended,
    acts.GoldenActivated: _golden_activated,
    acts.GoldenRetired: _golden_retired,
    acts.KeyCreated: _key_created,
    acts.KeyRevoked: _key_revoked,
    acts.PersonAdded: _person_added,
    acts.PersonRenewed: _person_renewed,
    acts.PersonCertificateReplaced: _person_certificate,
    acts.PersonRemoved: _person_removed,
    acts.PersonSuspended: _suspension,
    acts.PersonResumed: _suspension,
    acts.RulesSet: _rules_set,
}
"""The fold of each kind. Of keys and people memory knows names only; every other use reads rows, as for models."""
