"""``nodeseal-agent``: enrol, run, status.

A command imports what it needs when it is called, since help and mistakes need none of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nodeseal.errors import MalformedInput, NodesealError, Unavailable
from nodeseal.program import HELP_NAMES, VersionOption, asks_for_json, plain_error

if TYPE_CHECKING:
    from nodeseal.agent.config import AgentConfig
    from nodeseal.wire.varlink import Reply

EXIT_UNFIT: Final = 78
"""Exit status of `run` when waiting does not heal what is wrong (EX_CONFIG of sysexits.h)."""
_REMEDIES: Final = {
    "pending": "compare its endorsement key with your inventory, then: nodeseal node admit NODE",
    "stale": "wait for a round; if it stays, see the agent's log",
    "quarantined": "find out why (nodeseal node show NODE), then: nodeseal node admit NODE, or node retire",
    "retired": "nothing: its endorsement key is not accepted again; stop the agent",
}
_STATUS_SECONDS: Final = 10
_LOOK_AGAIN_SECONDS: Final = 5.0
"""After a fault that would end the agent for good."""
_CHUNK: Final = 64 * 1024
app = typer.Typer(
    name="nodeseal-agent",
    help="Proves to the verifier what this machine booted and runs; opens sealed models for loaders while that holds.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The agent's YAML file; see agent.example.yaml.", show_default=True)
]
_DEFAULT_CONFIG: Final = Path("/etc/nodeseal/agent.yaml")


@app.callback()
def _options(*, _version: VersionOption = False) -> None:
    """Proves to the verifier what this machine booted and runs; opens sealed models for loaders while that holds."""


@app.command()
def enrol(config: _ConfigOption = _DEFAULT_CONFIG) -> None:
    """Enrol this machine's TPM with the verifier, and print the node id.

    `run` enrols by itself when it must. Use this to try it out, or to enrol again.

    Example: nodeseal-agent enrol --config /etc/nodeseal/agent.yaml
    """
    settings = _settings(config)
    print(asyncio.run(_enrol(settings)))  # noqa: T201  # the command's result


@app.command()
def run(config: _ConfigOption = _DEFAULT_CONFIG) -> None:
    """Attest to the verifier and serve keys to local loaders, until SIGTERM or SIGINT.

    Example: nodeseal-agent run --config /etc/nodeseal/agent.yaml
    """
    try:
        settings = _settings(config)
        _prove(settings, config)
        asyncio.run(_run(settings))
    except MalformedInput as error:
        _say(error)
        raise typer.Exit(EXIT_UNFIT) from error


@app.command()
def check(
    config: _ConfigOption = _DEFAULT_CONFIG,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything that `run` checks at its start, and whether the verifier can be reached; show all faults.

    Exit status 1 when `run` would not start or has no verifier. It changes nothing, and may run beside a running agent.

    Example: nodeseal-agent check --config /etc/nodeseal/agent.yaml
    """
    from nodeseal.agent.checks import checks_of, reach_checks
    from nodeseal.agent.config import load_config
    from nodeseal.checks.faults import Fault, find_faults, report_lines

    try:
        settings = load_config(config)
        faults = find_faults((*checks_of(settings, config, datetime.now(UTC)), *reach_checks(settings)))
    except NodesealError as error:
        faults = (Fault(what=str(error), remedy=error.remedy),)
    shown = {"faults": [fault.to_json() for fault in faults]}
    print(json.dumps(shown, indent=2) if as_json else "\n".join(report_lines(faults)) or "no fault found")  # noqa: T201
    if any(fault.fatal or fault.field.startswith("verifier.") for fault in faults):
        raise typer.Exit(1)


egress_app = typer.Typer(no_args_is_help=True, help="Egress limits of this node.", context_settings=HELP_NAMES)
app.add_typer(egress_app, name="egress")


@egress_app.callback()
def _egress() -> None:
    """Egress limits of this node."""


@egress_app.command("plan")
def egress_plan(
    config: _ConfigOption = _DEFAULT_CONFIG,
    *,
    file: Annotated[Path | None, typer.Option("--file", help="An egress file, instead of the configuration's.")] = None,
    tight: Annotated[bool, typer.Option("--tight", help="Show the limits of the level tight.")] = False,
) -> None:
    """Show the table that `run` would install, and which present connections it would limit. Change nothing.

    Exit status 1 if a device of this machine contradicts the file. Needs root, to see whose the connections are.

    Example: nodeseal-agent egress plan --file egress.yaml
    """
    from nodeseal.agent.config import load_config
    from nodeseal.agent.egress.limits import EgressConfig
    from nodeseal.agent.egress.plan import make_plan
    from nodeseal.egress.document import Level

    chosen = EgressConfig(file=file, level=Level.NORMAL) if file is not None else load_config(config).egress
    if chosen is None:
        raise MalformedInput(f"{config}: egress is missing", remedy="name a file: --file egress.yaml")
    plan = make_plan(chosen.file, Level.TIGHT if tight else chosen.level)
    print("\n".join(plan.lines))  # noqa: T201  # the command's result
    if plan.problems:
        raise typer.Exit(1)


@app.command()
def status(
    config: _ConfigOption = _DEFAULT_CONFIG,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the agent answers as JSON.")] = False,
) -> None:
    """Ask the running agent how this node stands: since when, what the verifier last said, and what to do.

    Exit status 1 unless the node is connected and trusted.

    Example: nodeseal-agent status --json
    """
    from nodeseal.agent.config import load_config

    reply = _status(load_config(config).socket)
    print(json.dumps(reply.parameters, indent=2) if as_json else _as_text(reply))  # noqa: T201  # the result
    if reply.parameters.get("state") != "trusted" or "trusted_until" not in reply.parameters:
        raise typer.Exit(1)


def main() -> None:
    """Run the command; refusals and failures become one line on stderr and exit status 1.

    `run` ends with exit status 78 where waiting does not heal what is wrong, and systemd does not start it again then.
    """
    os.environ.setdefault("TSS2_LOG", "all+NONE")  # the TPM stack's log repeats what our errors say
    try:
        app()
    except NodesealError as error:
        _say(error)
        if asks_for_json(sys.argv):
            print(json.dumps(plain_error(error), indent=2))  # noqa: T201  # what a program reads
        raise SystemExit(1) from None


def _say(error: NodesealError) -> None:
    remedy = f"\n  {error.remedy}" if error.remedy else ""
    print(f"nodeseal-agent: {error}{remedy}", file=sys.stderr)  # noqa: T201  # a command's error


def _prove(settings: AgentConfig, file: Path) -> None:
    import structlog

    from nodeseal.agent.checks import checks_of
    from nodeseal.checks.faults import find_faults, require_fit

    faults = find_faults(checks_of(settings, file, datetime.now(UTC)))
    if any(fault.fatal for fault in faults):  # a file may just be being replaced, and nobody starts the agent again
        time.sleep(_LOOK_AGAIN_SECONDS)
        faults = find_faults(checks_of(settings, file, datetime.now(UTC)))
    log = structlog.get_logger("nodeseal.agent")
    for fault in faults:
        if not fault.fatal:
            log.warning("setup", field=fault.field, file=fault.file, what=fault.what, remedy=fault.remedy)
    require_fit(faults)


async def _enrol(settings: AgentConfig) -> str:
    from nodeseal.agent.service import Agent

    agent = Agent(settings)
    try:
        return (await agent.enrol()).node_id
    finally:
        await agent.close()


async def _run(settings: AgentConfig) -> None:
    from nodeseal.agent.service import Agent

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    await Agent(settings).run(stop)


def _settings(path: Path) -> AgentConfig:
    from importlib.metadata import version

    import structlog

    from nodeseal.agent.config import load_config
    from nodeseal.logs import configure_logs

    settings = load_config(path)
    configure_logs(settings.log_style, colors=True)
    log = structlog.get_logger("nodeseal.agent")
    log.info("nodeseal-agent", version=version("nodeseal"))
    for setting in settings.retired:
        log.warning("setting ignored", setting=setting, remedy=f"delete it from {path}")
    return settings


def _status(path: Path) -> Reply:
    from nodeseal.wire.varlink import KEYS_INTERFACE, Call, Frames, decode_reply, encode_call

    frames = Frames()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_STATUS_SECONDS)
            connection.connect(str(path))
            connection.sendall(encode_call(Call(method=f"{KEYS_INTERFACE}.Status")))
            while data := connection.recv(_CHUNK):
                for message in frames.feed(data):
                    return _checked(decode_reply(message))
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}", remedy="is nodeseal-agent running?") from error
    raise Unavailable(f"{path}: the agent closed the connection")


def _checked(reply: Reply) -> Reply:
    if reply.error:
        raise Unavailable(f"the agent refused: {reply.error} {json.dumps(reply.parameters)}")
    return reply


def _as_text(reply: Reply) -> str:
    from nodeseal.documents import Fields

    facts = {name: value for name, value in reply.parameters.items() if name != "findings"}
    findings = Fields(dict(reply.parameters), "answer of the agent").items("findings")
    remedy = facts.pop("remedy", "") or _REMEDIES.get(str(facts.get("state")), "")
    lines = [f"{name:14} {value if isinstance(value, str) else json.dumps(value)}" for name, value in facts.items()]
    do = [f"{'do':14} {remedy}"] if remedy else []
    return "\n".join([*lines, *do, *map(_finding_text, findings)])


def _finding_text(item: object) -> str:
    from nodeseal.documents import Fields
    from nodeseal.wire.findings import MAX_FINDING_TEXT

    fields = Fields(item, "finding of the agent")
    found, where, expected, seen, event, remedy = (
        fields.text(key, max_length=MAX_FINDING_TEXT) for key in ("id", "where", "expected", "seen", "event", "remedy")
    )
    text = f"{'finding':14} {found} ({where}): expected {expected}, seen {seen}{f'; {event}' if event else ''}"
    return f"{text}\n{'do':14} {remedy}"
