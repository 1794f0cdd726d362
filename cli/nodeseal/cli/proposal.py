"""``nodeseal proposal``: shows proposals, and approves, rejects and withdraws them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message, show_time
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.cli.proposal_diff import differences
from nodeseal.cli.proposal_view import document_facts, read_proposal, shown_proposal
from nodeseal.client.connection import connect
from nodeseal.client.invitation import encode_invitation
from nodeseal.client.ssh import sign_with_ssh
from nodeseal.client.verifier import Verifier
from nodeseal.crypto.ssh_signature import MAX_SIGNATURE
from nodeseal.errors import MalformedInput, NotFound
from nodeseal.files import read_small
from nodeseal.governance.changes import ChangeKind
from nodeseal.governance.proposal import MAX_PROPOSAL, NAMESPACE, decode_proposal, proposal_id
from nodeseal.v1 import governance_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Show proposals, and approve, reject and withdraw them.")

DOCUMENT: Final = "proposal.json"
SIGNATURE: Final = "proposal.json.sig"
_ATTACHMENT: Final = "attachment"
_EXPLANATION: Final = "explanation.txt"
_SHORTEST: Final = 6
_WHOLE: Final = 64

ProposalArgument = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="Its id, or the first letters of it: six at least.")
]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A folder that export wrote.")
]
KeyOption = Annotated[
    Path,
    typer.Option(
        "--ssh-key",
        metavar="FILE",
        envvar="NODESEAL_SSH_KEY",
        help="Your SSH key: a private key, or the .pub file of one in your agent.",
    ),
]
InvitationOption = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the invitation.")]
WhyOption = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


@app.command("list", epilog="Example: nodeseal proposal list --all")
def list_proposals(
    every: Annotated[bool, typer.Option("--all", help="Those too that are settled.")] = False,  # noqa: FBT002 - a flag
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """List open proposals, and say which rules are in force."""
    with connect(client) as verifier:
        found = verifier.list_proposals(every=every)
    columns = ("proposal", "outcome", "expires", "approved by", "would change")
    rows = Rows(columns, map(_row, found.proposals), empty="no open proposals")
    output.show(lambda: plain_message(found), FactList((("rules", found.rules),)), rows, as_json=as_json)


def _row(state: pb.ProposalState) -> tuple[str, ...]:
    approved = ", ".join(approval.person for approval in state.approvals if not approval.refused)
    return state.proposal, state.outcome, show_time(state.expires), approved or "-", read_proposal(state).change.words


@app.command("show", epilog="Example: nodeseal proposal show 3f0c9a")
def show_proposal(proposal: ProposalArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Say in plain words what a proposal would change, by what the verifier knows now, and what it lacks.

    A folder that `proposal export` wrote is shown without a verifier.
    """
    if Path(proposal).is_dir():
        _show_folder(Path(proposal), as_json=as_json)
        return
    with connect(client) as verifier:
        found = verifier.get_proposal(proposal_of(verifier, proposal))
    output.show(lambda: plain_message(found), shown_proposal(found), as_json=as_json)


def _show_folder(folder: Path, *, as_json: bool) -> None:
    document = read_small(folder / DOCUMENT, MAX_PROPOSAL)
    facts = list(document_facts(proposal_id(document), decode_proposal(document, str(folder / DOCUMENT))))
    output.show(dict(facts), FactList(facts), as_json=as_json)


@app.command("diff", epilog="Example: nodeseal proposal diff 3f0c9a --against rack-a")
def diff_proposal(
    proposal: ProposalArgument,
    against: Annotated[
        str, typer.Option(metavar="GOLDEN", help="The golden to compare with; empty: active ones of the same name.")
    ] = "",
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a proposed golden or proposed rules change, line by line: events, files, people."""
    with connect(client) as verifier:
        state = verifier.get_proposal(proposal_of(verifier, proposal))
        found = differences(verifier, state, against)
    rows = Rows(("differs", "now", "then"), ((d.where, d.before, d.after) for d in found), empty="nothing differs")
    plain = [{"where": d.where, "now": d.before, "then": d.after} for d in found]
    output.show(plain, rows, as_json=as_json)


@app.command("approve", epilog="Example: nodeseal proposal approve 3f0c9a --ssh-key ~/.ssh/id_ed25519_sk")
def approve_proposal(
    proposal: ProposalArgument, ssh_key: KeyOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Sign a proposal with your SSH key. The approval that was missing lets it take effect.

    What is signed is the document, whose words are shown first. On a machine without network: nodeseal proposal export.
    """
    with connect(client) as verifier:
        state = verifier.get_proposal(proposal_of(verifier, proposal))
        output.show_note(f"you approve: {read_proposal(state).change.words}")
        signature = sign_with_ssh(ssh_key, state.document)
        found = _approved(verifier, state.proposal, signature)
    output.show(lambda: plain_message(found), shown_proposal(found), as_json=as_json)


def _approved(verifier: Verifier, proposal: str, signature: bytes) -> pb.ProposalState:
    verifier.approve_proposal(proposal, signature)
    return verifier.get_proposal(proposal)


@app.command("reject", epilog="Example: nodeseal proposal reject 3f0c9a --reason 'wrong kernel'")
def reject_proposal(
    proposal: ProposalArgument, reason: WhyOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Settle a proposal: one approver who says no is enough."""
    with connect(client) as verifier:
        found = verifier.reject_proposal(proposal_of(verifier, proposal), reason)
    output.show(lambda: plain_message(found), shown_proposal(found), as_json=as_json)


@app.command("withdraw", epilog="Example: nodeseal proposal withdraw 3f0c9a --reason 'made a better one'")
def withdraw_proposal(
    proposal: ProposalArgument, reason: WhyOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Withdraw a proposal of yours."""
    with connect(client) as verifier:
        found = verifier.withdraw_proposal(proposal_of(verifier, proposal), reason)
    output.show(lambda: plain_message(found), shown_proposal(found), as_json=as_json)


@app.command("export", epilog="Example: nodeseal proposal export 3f0c9a -o ./to-sign")
def export_proposal(
    proposal: ProposalArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to make.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a proposal to a folder, to be read and signed on a machine without network."""
    if out.exists():
        raise MalformedInput(f"{out}: exists already", remedy="name a folder that does not exist yet")
    with connect(client) as verifier:
        state = verifier.get_proposal(proposal_of(verifier, proposal))
        attachment = verifier.get_attachment(state.proposal)
    read_proposal(state)
    out.mkdir()
    output.write_file(out / DOCUMENT, state.document)
    output.write_file(out / _EXPLANATION, "".join(f"{line}\n" for line in state.effects).encode())
    if attachment:
        output.write_file(out / _ATTACHMENT, attachment)
    sign, then = _sign_command(out), f"nodeseal proposal import {out}"
    facts = {"folder": str(out), "proposal": state.proposal, "sign": sign, "then": then}
    output.show(facts, FactList(facts.items()), as_json=as_json)


def _sign_command(folder: Path) -> str:
    """Return the command that signs an exported proposal."""
    return f"ssh-keygen -Y sign -n {NAMESPACE} -f YOUR_KEY {folder / DOCUMENT}"


@app.command("import", epilog="Example: nodeseal proposal import ./to-sign")
def import_proposal(folder: FolderArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Approve by a signature that was made elsewhere: proposal.json.sig beside proposal.json."""
    document = read_small(folder / DOCUMENT, MAX_PROPOSAL)
    if not (folder / SIGNATURE).exists():
        raise MalformedInput(f"{folder / SIGNATURE}: there is no signature", remedy=_sign_command(folder))
    signature = read_small(folder / SIGNATURE, MAX_SIGNATURE)
    with connect(client) as verifier:
        found = _approved(verifier, proposal_id(document), signature)
    output.show(lambda: plain_message(found), shown_proposal(found), as_json=as_json)


@app.command("invitation", epilog="Example: nodeseal proposal invitation 3f0c9a -o kim.invitation")
def proposal_invitation(
    proposal: ProposalArgument, out: InvitationOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Write the invitation of a person whom an approved proposal invites."""
    with connect(client) as verifier:
        state = verifier.get_proposal(proposal_of(verifier, proposal))
    if read_proposal(state).change.kind is not ChangeKind.PERSON_INVITE or not state.result:
        raise MalformedInput(f"proposal {state.proposal} is {state.outcome}, and invites nobody")
    output.write_file(out, encode_invitation(state.result, client))
    output.show({"invitation": str(out)}, FactList((("invitation", str(out)),)), as_json=as_json)


def proposal_of(verifier: Verifier, text: str) -> str:
    """Return the id of the proposal that begins with ``text``.

    Raises:
        NotFound: there is none.
        MalformedInput: too short, or several begin so.
    """
    if len(text) == _WHOLE:
        return text
    if len(text) < _SHORTEST:
        raise MalformedInput(f"{text!a}: too short", remedy=f"give at least {_SHORTEST} letters of the proposal's id")
    found = [each.proposal for each in verifier.list_proposals(every=True).proposals if each.proposal.startswith(text)]
    if not found:
        raise NotFound(f"there is no proposal {text!a}", remedy="nodeseal proposal list --all")
    if len(found) > 1:
        raise MalformedInput(f"{text!a} may mean {', '.join(found[:4])}", remedy="give more letters")
    return found[0]
