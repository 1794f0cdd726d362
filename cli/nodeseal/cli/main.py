"""``nodeseal``, the operator's command: one module per command, loaded when it is called, and an exit code for errors.

Exit codes: 0 done, 1 refused or failed, 2 misused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperGroup

from nodeseal.cli.later import Later
from nodeseal.errors import NodesealError
from nodeseal.program import HELP_NAMES, VersionOption, asks_for_json


def _appraise() -> Callable[..., None]:
    from nodeseal.cli.appraise import appraise

    return appraise


def _seal() -> Callable[..., None]:
    from nodeseal.cli.seal import seal

    return seal


def _inspect() -> Callable[..., None]:
    from nodeseal.cli.inspect import inspect

    return inspect


def _open() -> Callable[..., None]:
    from nodeseal.cli.open import open_sealed

    return open_sealed


def _verify() -> Callable[..., None]:
    from nodeseal.cli.verify import verify

    return verify


def _reslot() -> Callable[..., None]:
    from nodeseal.cli.reslot import reslot

    return reslot


def _reseal() -> Callable[..., None]:
    from nodeseal.cli.reseal import reseal

    return reseal


def _doctor() -> Callable[..., None]:
    from nodeseal.cli.doctor import doctor

    return doctor


def _demo() -> Callable[..., None]:
    from nodeseal.cli.demo.command import demo

    return demo


def _node() -> typer.Typer:
    from nodeseal.cli.node import app

    return app


def _golden() -> typer.Typer:
    from nodeseal.cli.golden import app

    return app


def _key() -> typer.Typer:
    from nodeseal.cli.key import app

    return app


def _model() -> typer.Typer:
    from nodeseal.cli.model import app

    return app


def _bench() -> typer.Typer:
    from nodeseal.cli.bench import app

    return app


def _quote() -> typer.Typer:
    from nodeseal.cli.quote import app

    return app


def _log() -> typer.Typer:
    from nodeseal.cli.log import app

    return app


def _audit() -> typer.Typer:
    from nodeseal.cli.audit import app

    return app


def _propose() -> typer.Typer:
    from nodeseal.cli.propose import app

    return app


def _proposal() -> typer.Typer:
    from nodeseal.cli.proposal import app

    return app


def _rules() -> typer.Typer:
    from nodeseal.cli.rules import app

    return app


def _person() -> typer.Typer:
    from nodeseal.cli.person import app

    return app


COMMANDS: Final = (
    Later(
        "appraise",
        "Judge a folder of evidence as the verifier would have done when it arrived. Exit code 1: not trusted.",
        _appraise,
        "nodeseal appraise --golden rack-a.yaml --evidence ./n-4xk2",
    ),
    Later(
        "seal",
        "Seal a model. Needs no secret and no network: only the public half of a model key.",
        _seal,
        "nodeseal seal ./llama-plain --key llama-70b.pub -o ./llama",
    ),
    Later(
        "inspect",
        "Show a sealed model: its files, the keys that open it, and files that are missing, changed or unexpected.",
        _inspect,
        "nodeseal inspect ./llama",
    ),
    Later(
        "open",
        "Open a sealed model through this node's agent, verify all of it and show its content. Writes nothing.",
        _open,
        "nodeseal open ./llama",
    ),
    Later(
        "verify",
        "Verify every byte of a sealed model. Keeps no plaintext and shows no content.",
        _verify,
        "nodeseal verify ./llama",
    ),
    Later(
        "reslot",
        "Let other model keys open a sealed model; the verifier makes their slots and records who asked.",
        _reslot,
        "nodeseal reslot ./llama --key llama-2027.pub --drop llama-2026",
    ),
    Later(
        "reseal",
        "Seal a sealed model again, under a new data key, for when the old one may have leaked.",
        _reseal,
        "nodeseal reseal ./llama -o ./llama-2 --key llama-2027.pub",
    ),
    Later(
        "doctor",
        "Check your own files, certificate and clock, then whether the verifier answers and what it lets you do.",
        _doctor,
        "nodeseal doctor --client ./kim",
    ),
    Later(
        "demo",
        "Show on this machine how an attested node opens sealed weights and a tampered one cannot.",
        _demo,
        "nodeseal demo --keep",
    ),
    Later("node", "Show nodes and decide about them.", _node),
    Later("golden", "Capture, activate and compare golden measurements.", _golden),
    Later("key", "Create model keys and grant them to nodes.", _key),
    Later("model", "Register and retire sealed models; only registered ones can be opened.", _model),
    Later("bench", "Measure what disk, cipher and load bring on this machine.", _bench),
    Later("quote", "Verify TPM quotes from files, offline.", _quote),
    Later("log", "Read, replay and compare boot and IMA logs, offline.", _log),
    Later("audit", "Read the verifier's log: what was decided, by whom, and why.", _audit),
    Later("propose", "Propose what the rules leave to several people.", _propose),
    Later("proposal", "Show proposals, and approve, reject and withdraw them.", _proposal),
    Later("rules", "Show which acts need a proposal, and who must approve it.", _rules),
    Later("person", "Show who operates the verifier, and look after your certificate and keys.", _person),
)
"""What the list says is the first paragraph of the help of each, which is not loaded for it."""


class _Commands(TyperGroup):
    """All commands, none of them loaded."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in COMMANDS:
            self.add_command(command)


app = typer.Typer(
    cls=_Commands,
    context_settings=HELP_NAMES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    help="Keep model weights sealed everywhere but on machines that have proved what they run.",
    epilog="Start here: nodeseal demo",
)


@app.callback()
def _options(*, _version: VersionOption = False) -> None:
    """Keep model weights sealed everywhere but on machines that have proved what they run."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except NodesealError as error:
        from nodeseal.cli import output

        sys.exit(output.report(error, as_json=asks_for_json(sys.argv)))
