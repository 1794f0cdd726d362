"""Projectors: each act as rows, one function a kind. Nothing else writes these rows, except steady progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from nodeseal.appraisal.model import TpmFacts
from nodeseal.errors import MalformedInput
from nodeseal.findings import Finding
from nodeseal.governance.quorum import Approval, Outcome
from nodeseal.ids import Digest
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.leaf import Entry
from nodeseal.verifier.states import NodeState, Role
from nodeseal.verifier.store import governance, leases, nodes, persons, policy
from nodeseal.verifier.store.acts import find_document

Contents: TypeAlias = Mapping[Digest, bytes]
"""Goldens and content documents of models, which their rows keep, by digest."""


def project(connection: sa.Connection, entry: Entry, contents: Contents) -> None:
    """Write the rows of an act; the documents that it names are stored already."""
    projector = _PROJECTORS.get(type(entry.act))
    if projector is not None:
        projector(connection, entry, entry.act)
        return
    with_content = _WITH_CONTENT.get(type(entry.act))
    if with_content is not None:
        with_content(connection, entry, entry.act, contents)


def _node_enrolled(connection: sa.Connection, entry: Entry, act: acts.NodeEnrolled) -> None:
    known = nodes.find_node(connection, act.node_id)
    record = node_of(act, entry, known.record.labels if known else {})
    nodes.put_node(connection, record, standing_after(act, known.standing.findings if known else ()))


def node_of(act: acts.NodeEnrolled, entry: Entry, labels: Mapping[str, str]) -> nodes.NodeRecord:
    """Return the identity of a node that enrolled; its labels stay."""
    return nodes.NodeRecord(
        node_id=act.node_id,
        ek_name=act.ek_name,
        ak_name=act.ak_name,
        ak_public=act.ak_public,
        certificate_sha256=act.certificate_sha256,
        next_certificate_sha256=None,
        facts=nodes.NodeFacts(
            hostname=act.hostname,
            boot_id=act.boot_id,
            tpm_manufacturer=act.tpm_manufacturer,
            tpm_firmware=act.tpm_firmware,
        ),
        enrolled=entry.at,
        tpm=TpmFacts(manufacturer=act.certified_manufacturer, ek_algorithm=act.ek_algorithm),
        labels=labels,
    )


def _node_decided(connection: sa.Connection, _entry: Entry, act: acts.DecidesNode) -> None:
    known = nodes.find_node(connection, act.node_id)
    findings = stored_findings(connection, act.findings) if isinstance(act, acts.NodeJudged) else ()
    if not isinstance(act, acts.NodeJudged) and known is not None:
        findings = known.standing.findings
    nodes.save_standing(connection, act.node_id, standing_after(act, findings))
    if isinstance(act, acts.NodeAdmitted) and act.forget_clock:
        nodes.forget_clock(connection, act.node_id)


def standing_after(act: acts.DecidesNode | acts.NodeEnrolled, findings: tuple[Finding, ...]) -> nodes.NodeStanding:
    """Return what an act about a node decides; ``findings`` are those of the last round."""
    match act:
        case acts.NodeJudged():
            return nodes.NodeStanding(
                state=act.state,
                reason=act.reason,
                findings=findings,
                goldens=act.goldens,
                trusted_until=act.trusted_until,
            )
        case acts.NodeEnrolled():
            return nodes.NodeStanding(state=act.state, reason=act.reason, findings=findings)
        case acts.NodeAdmitted():
            return nodes.NodeStanding(state=NodeState.STALE, reason="admitted", findings=findings)
        case acts.NodeQuarantined():
            return nodes.NodeStanding(state=NodeState.QUARANTINED, reason=act.reason, findings=findings)
        case acts.NodeRetired():
            return nodes.NodeStanding(state=NodeState.RETIRED, reason=act.reason, findings=findings)


def stored_findings(connection: sa.Connection, digest: Digest) -> tuple[Finding, ...]:
    """Return the findings of a document; an empty digest stands for none.

    Raises:
        MalformedInput: the document is gone.
    """
    if not digest:
        return ()
    return nodes.decode_findings(_document(connection, digest))


def _document(connection: sa.Connection, digest: Digest) -> bytes:
    content = find_document(connection, digest)
    if content is None:
        raise MalformedInput(f"document {digest} is not in the database")
    return content


def _node_labelled(connection: sa.Connection, _entry: Entry, act: acts.NodeLabelled) -> None:
    nodes.save_labels(connection, act.node_id, nodes.decode_labels(_document(connection, act.labels)))


def _certificates(
    connection: sa.Connection, _entry: Entry, act: acts.CertificateRenewed | acts.CertificateReplaced
) -> None:
    nodes.save_certificates(connection, act.node_id, act.certificate_sha256, act.next_certificate_sha256 or None)


def _lease_issued(connection: sa.Connection, entry: Entry, act: acts.LeaseIssued) -> None:
    leases.add_lease(connection, lease_of(act, entry))


def lease_of(act: acts.LeaseIssued, entry: Entry) -> leases.LeaseRecord:
    """Return the lease that an act started."""
    return leases.LeaseRecord(
        lease_id=act.lease_id,
        node_id=act.node_id,
        key_id=act.key_id,
        model_digest=act.model_digest,
        issued=entry.at,
        silence_seconds=act.silence_seconds,
    )


def _lease_ended(connection: sa.Connection, entry: Entry, act: acts.LeaseEnded) -> None:
    leases.end_lease(connection, act.lease_id, entry.at, act.cause.value if act.cause else None, act.reason)


def _golden_activated(connection: sa.Connection, entry: Entry, act: acts.GoldenActivated, contents: Contents) -> None:
    document = contents[act.document]
    policy.activate_golden(
        connection, policy.GoldenRecord(digest=act.digest, name=act.name, document=document, activated=entry.at)
    )


def _golden_retired(connection: sa.Connection, entry: Entry, act: acts.GoldenRetired) -> None:
    policy.retire_golden(connection, act.digest, entry.at)


def _key_created(connection: sa.Connection, entry: Entry, act: acts.KeyCreated) -> None:
    policy.add_key(
        connection,
        policy.KeyRecord(
            key_id=act.key_id,
            version=act.key_version,
            suite=act.suite,
            public=act.public,
            created=entry.at,
            place=act.place,
            silence_seconds=act.silence_seconds,
        ),
    )


def _key_policy_set(connection: sa.Connection, _entry: Entry, act: acts.KeyPolicySet) -> None:
    policy.set_silence(connection, act.key_id, act.silence_seconds)


def _key_revoked(connection: sa.Connection, entry: Entry, act: acts.KeyRevoked) -> None:
    policy.revoke_key(connection, act.key_id, entry.at)


def _key_granted(connection: sa.Connection, _entry: Entry, act: acts.KeyGranted) -> None:
    policy.grant_key(connection, act.key_id, act.node_id, act.max_leases)


def _grant_withdrawn(connection: sa.Connection, _entry: Entry, act: acts.GrantWithdrawn) -> None:
    policy.withdraw_grant(connection, act.key_id, act.node_id)


def _model_registered(connection: sa.Connection, entry: Entry, act: acts.ModelRegistered, contents: Contents) -> None:
    if act.again:
        policy.restore_model(connection, act.digest, entry.at)
        return
    policy.add_model(
        connection,
        policy.ModelRecord(
            digest=act.digest,
            model_id=act.model_id,
            version=act.model_version,
            size=act.size,
            files=act.files,
            content=contents[act.digest],
            registered=entry.at,
        ),
    )


def _model_retired(connection: sa.Connection, entry: Entry, act: acts.ModelRetired) -> None:
    policy.retire_model(connection, act.digest, entry.at)


def _person_added(connection: sa.Connection, entry: Entry, act: acts.PersonAdded) -> None:
    persons.put_person(connection, person_of(act, entry))


def person_of(act: acts.PersonAdded, entry: Entry) -> persons.Person:
    """Return the person whom an act added."""
    roles = frozenset(map(Role, act.roles))
    return persons.Person(
        name=act.name,
        roles=roles,
        certificate_sha256=act.certificate_sha256,
        added=entry.at,
        expires=entry.at + persons.PERSON_LIFETIME,
    )


def _person_renewed(connection: sa.Connection, _: Entry, act: acts.PersonRenewed) -> None:
    persons.put_next_certificate(connection, act.name, act.next_certificate_sha256, act.expires)


def _person_certificate(connection: sa.Connection, _: Entry, act: acts.PersonCertificateReplaced) -> None:
    persons.replace_certificate(connection, act.name, act.certificate_sha256, act.expires)


def _person_removed(connection: sa.Connection, entry: Entry, act: acts.PersonRemoved) -> None:
    persons.mark_removed(connection, act.name, entry.at)
    governance.remove_person_keys(connection, act.name)


def _key_suspended(connection: sa.Connection, entry: Entry, act: acts.KeySuspended) -> None:
    policy.suspend_key(connection, act.key_id, entry.at, act.until, entry.actor)


def _key_suspension_confirmed(connection: sa.Connection, _: Entry, act: acts.KeySuspensionConfirmed) -> None:
    policy.confirm_key(connection, act.key_id)


def _key_resumed(connection: sa.Connection, _: Entry, act: acts.KeyResumed) -> None:
    policy.suspend_key(connection, act.key_id, None, None, None)


def _person_suspended(connection: sa.Connection, entry: Entry, act: acts.PersonSuspended) -> None:
    persons.suspend_person(connection, act.name, entry.at, act.until, entry.actor)


def _person_suspension_confirmed(connection: sa.Connection, _: Entry, act: acts.PersonSuspensionConfirmed) -> None:
    persons.confirm_person(connection, act.name)


def _person_resumed(connection: sa.Connection, _: Entry, act: acts.PersonResumed) -> None:
    persons.suspend_person(connection, act.name, None, None, None)


def _person_key_added(connection: sa.Connection, entry: Entry, act: acts.PersonKeyAdded) -> None:
    key = governance.PersonKey(
        blob=act.blob, name=act.name, fingerprint=act.fingerprint, in_token=act.in_token, added=entry.at
    )
    governance.add_person_key(connection, key)


def _person_key_removed(connection: sa.Connection, _: Entry, act: acts.PersonKeyRemoved) -> None:
    governance.remove_person_key(connection, act.name, act.fingerprint)


def _rules_set(connection: sa.Connection, entry: Entry, act: acts.RulesSet) -> None:
    governance.put_rules(connection, act.version, _document(connection, act.rules), entry.at)


def _proposal_made(connection: sa.Connection, entry: Entry, act: acts.ProposalMade, contents: Contents) -> None:
    record = governance.ProposalRecord(
        proposal=act.proposal,
        document=_document(connection, act.proposal),
        signature=_document(connection, act.signature) if act.signature else b"",
        attachment=contents[act.attachment] if act.attachment else b"",
        made=entry.at,
        expires=act.expires,
        outcome=Outcome.OPEN.value,
        why="",
        settled=None,
        result=None,
    )
    governance.add_proposal(connection, record)


def _proposal_approved(connection: sa.Connection, entry: Entry, act: acts.ProposalApproved) -> None:
    approval = Approval(person=act.person, signature=_document(connection, act.signature), at=entry.at)
    governance.add_approval(connection, act.proposal, approval)


def _proposal_settled(connection: sa.Connection, entry: Entry, act: acts.ProposalSettled) -> None:
    governance.settle_proposal(connection, act.proposal, act.outcome, act.why, entry.at)
    if act.result:
        governance.put_result(connection, act.proposal, _document(connection, act.result))


def projected_kinds() -> frozenset[str]:
    """Return the kinds of acts that write rows."""
    return frozenset(kind.kind for kind in (*_PROJECTORS, *_WITH_CONTENT))


_PROJECTORS: Final[dict[type[acts.Act], Callable[[sa.Connection, Entry, Any], None]]] = {
    acts.NodeEnrolled: _node_enrolled,
    acts.NodeJudged: _node_decided,
    acts.NodeAdmitted: _node_decided,
    acts.NodeQuarantined: _node_decided,
    acts.NodeRetired: _node_decided,
    acts.NodeLabelled: _node_labelled,
    acts.CertificateRenewed: _certificates,
    acts.CertificateReplaced: _certificates,
    acts.LeaseIssued: _lease_issued,
    acts.LeaseEnded: _lease_ended,
    acts.GoldenRetired: _golden_retired,
    acts.KeyCreated: _key_created,
    acts.KeyPolicySet: _key_policy_set,
    acts.KeyRevoked: _key_revoked,
    acts.KeyGranted: _key_granted,
    acts.GrantWithdrawn: _grant_withdrawn,
    acts.ModelRetired: _model_retired,
    acts.PersonAdded: _person_added,
    acts.PersonRemoved: _person_removed,
    acts.PersonRenewed: _person_renewed,
    acts.PersonCertificateReplaced: _person_certificate,
    acts.KeySuspended: _key_suspended,
    acts.KeySuspensionConfirmed: _key_suspension_confirmed,
    acts.KeyResumed: _key_resumed,
    acts.PersonSuspended: _person_suspended,
    acts.PersonSuspensionConfirmed: _person_suspension_confirmed,
    acts.PersonResumed: _person_resumed,
    acts.PersonKeyAdded: _person_key_added,
    acts.PersonKeyRemoved: _person_key_removed,
    acts.RulesSet: _rules_set,
    acts.ProposalApproved: _proposal_approved,
    acts.ProposalSettled: _proposal_settled,
}
"""The projector of each kind that needs no content; acts that only tell something have none."""
_WITH_CONTENT: Final[dict[type[acts.Act], Callable[[sa.Connection, Entry, Any, Contents], None]]] = {
    acts.GoldenActivated: _golden_activated,
    acts.ModelRegistered: _model_registered,
    acts.ProposalMade: _proposal_made,
}
"""The projector of each kind that needs the content that its act names."""
