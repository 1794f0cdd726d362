"""``nodeseal doctor``: why the verifier cannot be reached, or does not let you."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import typer

from nodeseal.checks.certificates import CLOCK, CLOCK_TOLERANCE
from nodeseal.checks.faults import Fault, find_faults, report_lines
from nodeseal.cli import output
from nodeseal.cli.messages import plain_message, show_time
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption
from nodeseal.client.channel import open_channel
from nodeseal.client.config import ClientConfig, load_client
from nodeseal.client.diagnosis import VERIFIER, own_checks, reach_check
from nodeseal.errors import NodesealError
from nodeseal.v1 import people_pb2


def doctor(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Check your own files, certificate and clock, then whether the verifier answers and what it lets you do.

    Exit code 1 if anything keeps you from it. Warnings do not.
    """
    known: people_pb2.Self | None = None
    try:
        config = load_client(client)
        now = datetime.now(UTC)
        faults = find_faults((*own_checks(config, now), reach_check(config)))
        if not any(fault.field == VERIFIER for fault in faults):
            known, said = _ask(config)
            faults += said
    except NodesealError as error:
        faults = (Fault(field="client", file=str(client), what=str(error), remedy=error.remedy),)
    output.show(_value(known, faults), FactList(_facts(known)), "".join(_lines(known, faults)), as_json=as_json)
    if known is None or any(fault.fatal for fault in faults):
        raise typer.Exit(output.REFUSED)


def _ask(config: ClientConfig) -> tuple[people_pb2.Self | None, tuple[Fault, ...]]:
    try:
        with open_channel(config) as verifier:
            known = verifier.get_self()
    except NodesealError as error:
        remedy = error.remedy or "if the verifier is older than this command, update it"
        return None, (Fault(field=VERIFIER, file=config.verifier, what=str(error), remedy=remedy),)
    return known, tuple(_differences(config, known))


def _differences(config: ClientConfig, known: people_pb2.Self) -> Iterator[Fault]:
    """Compare versions and clocks."""
    here, there = version("nodeseal"), known.verifier_version
    if here.split(".")[:2] != there.split(".")[:2]:
        what, remedy = f"runs {there}, this command is {here}", "update the older one"
        yield Fault(field=VERIFIER, file=config.verifier, what=what, remedy=remedy, fatal=False)
    apart = datetime.now(UTC) - known.time.ToDatetime(UTC)
    if abs(apart) > CLOCK_TOLERANCE:
        side = "ahead of" if apart > timedelta() else "behind"
        what = f"this machine's clock is {abs(apart)} {side} the verifier's"
        yield Fault(field=VERIFIER, file=config.verifier, what=what, remedy=CLOCK, fatal=False)


def _value(known: people_pb2.Self | None, faults: tuple[Fault, ...]) -> dict[str, object]:
    found = {"self": plain_message(known)} if known else {}
    return {**found, "faults": [fault.to_json() for fault in faults]}


def _facts(known: people_pb2.Self | None) -> Iterator[tuple[str, str]]:
    if known is not None:
        yield "person", known.name
        yield "roles", ", ".join(known.roles)
        yield "certificate", f"until {show_time(known.expires)}"
        yield "verifier", known.verifier_version
        if known.rules:
            yield "rules", known.rules


def _lines(known: people_pb2.Self | None, faults: tuple[Fault, ...]) -> Iterator[str]:
    for line in report_lines(faults):
        yield f"{line}\n"
    if known and not faults:
        yield "no fault found\n"
