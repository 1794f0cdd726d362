"""``nodeseal reslot``: let another model key open a sealed model, without touching its data.

The verifier opens an old slot and seals the data key to the new keys; the data key itself stays there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.expected import DigestOption, refuse_other
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption
from nodeseal.cli.proposal import proposal_of
from nodeseal.client.connection import connect
from nodeseal.errors import MalformedInput
from nodeseal.files import read_small
from nodeseal.ids import parse_key_id
from nodeseal.loader.reslot import replace_slots, rotated, rotating
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, ModelKey, parse_model_key
from nodeseal.sealed.slots import Slot, Slots, parse_slots


def reslot(  # noqa: PLR0913 - a command's options
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", metavar="PUBLIC", exists=True, help="Public file of a key that shall open it. Repeatable."
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A key whose slots are removed. Repeatable.")
    ] = None,
    client: ClientOption = CLIENT,
    *,
    proposal: Annotated[
        str, typer.Option(metavar="ID", help="Take the slots of an approved proposal (nodeseal propose reslot).")
    ] = "",
    digest: DigestOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let other model keys open a sealed model; the verifier makes their slots and records who asked."""
    if bool(keys) == bool(proposal):
        raise typer.BadParameter("give either --key or --proposal")
    recipients = [parse_model_key(read_small(path, MAX_MODEL_KEY_FILE), str(path)) for path in keys or ()]
    dropped = {output.argument(parse_key_id)(key) for key in drop or ()}
    with rotating(directory) as old:
        refuse_other(old, digest)
        rotated(old, [key.slot(old.model_digest, bytes(32)) for key in recipients], dropped)  # refuses before it asks
        made = _proposed(client, old, proposal) if proposal else _ask(client, old, recipients)
        slots = rotated(old, made, dropped)
        replace_slots(directory, slots)
    facts = [("directory", str(directory)), ("digest", slots.model_digest)]
    facts += [("opens with", f"{slot.key_id}, version {slot.key_version}") for slot in slots.slots]
    if dropped:
        facts.append(("next", "when every copy has its new slots: nodeseal key revoke OLD --reason rotated"))
    output.show(_plain_slots(directory, slots), FactList(facts), as_json=as_json)


def _proposed(client: Path, old: Slots, proposal: str) -> tuple[Slot, ...]:
    with connect(client) as verifier:
        found = verifier.get_proposal(proposal_of(verifier, proposal))
    if not found.result:
        raise MalformedInput(
            f"proposal {found.proposal} is {found.outcome}: there are no slots", remedy="nodeseal proposal show"
        )
    made = parse_slots(found.result, "the proposal's slots")
    if made.model_digest != old.model_digest:
        raise MalformedInput("the proposal is about another model; nothing was changed")
    return made.slots


def _ask(client: Path, old: Slots, recipients: Sequence[ModelKey]) -> tuple[Slot, ...]:
    with connect(client) as verifier:
        made = verifier.rewrap_slots(old, recipients)
    asked = [(key.key_id, key.key_version, key.public.suite) for key in recipients]
    keys = [(slot.key_id, slot.key_version, slot.suite) for slot in made.slots]
    if (made.model_digest, keys) != (old.model_digest, asked):
        raise MalformedInput("the verifier answered with slots of another model or other keys; nothing was changed")
    return made.slots


def _plain_slots(directory: Path, slots: Slots) -> dict[str, object]:
    listed = [{"key_id": slot.key_id, "key_version": slot.key_version} for slot in slots.slots]
    return {"directory": str(directory), "model_digest": slots.model_digest, "slots": listed}
