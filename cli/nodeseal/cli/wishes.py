"""What ``nodeseal propose`` does whatever is proposed: draft, check, sign, make, show; and its shared options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message
from nodeseal.cli.proposal_view import shown_proposal
from nodeseal.client.ssh import sign_with_ssh
from nodeseal.client.verifier import Verifier
from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.governance.proposal import decode_proposal
from nodeseal.ids import parse_person_id

ReasonOption = Annotated[str, typer.Option(help="Why; whoever approves reads it, and it is recorded.")]
HoursOption = Annotated[int, typer.Option("--expires-hours", min=1, max=720, help="How long it may be approved.")]
SshKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--ssh-key",
        metavar="FILE",
        envvar="NODESEAL_SSH_KEY",
        help="Your SSH key: a private key, or the .pub file of one in your agent.",
    ),
]
PersonArgument = Annotated[
    str, typer.Argument(metavar="PERSON", parser=output.argument(parse_person_id), help="Name of the person.")
]

RequestArgument = Annotated[
    Path,
    typer.Argument(metavar="REQUEST", exists=True, dir_okay=False, help="Their person.csr (nodeseal person enrol)."),
]
RoleOption = Annotated[
    list[str], typer.Option(metavar="ROLE", help="viewer, operator, approver or auditor; repeatable.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody proposes.

    Attributes:
        change: its kind and facts.
        attachment: what travels beside it.
        reason: why.
        hours: how long it may be approved.
        ssh_key: what signs it; None: nothing, which is enough under the rule solo.
    """

    change: Mapping[str, object]
    attachment: bytes = b""
    reason: str
    hours: int
    ssh_key: Path | None


def submit(verifier: Verifier, wish: Wish, *, as_json: bool) -> None:
    """Have a proposal drafted, check it, sign it, make it and show it."""
    draft = verifier.draft_proposal(encode_json(dict(wish.change)), wish.reason, wish.hours)
    _require_same(draft.document, wish)
    signature = sign_with_ssh(wish.ssh_key, draft.document) if wish.ssh_key else b""
    made = verifier.make_proposal(draft.document, signature, wish.attachment)
    whole = verifier.get_proposal(made.proposal)
    output.show(lambda: plain_message(whole), shown_proposal(whole), as_json=as_json)


def _require_same(document: bytes, wish: Wish) -> None:
    """Make sure that the verifier drafted what was asked: a person signs nothing else."""
    drafted = decode_proposal(document, "the verifier's draft")
    if drafted.change.to_plain() != dict(wish.change) or drafted.reason != wish.reason:
        raise MalformedInput("the verifier drafted another proposal than you asked for; nothing was signed")
