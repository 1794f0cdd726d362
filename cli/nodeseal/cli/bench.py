"""``nodeseal bench``: measure this machine with a model's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.cli import output
from nodeseal.cli.expected import DigestOption, agent_keys
from nodeseal.cli.output import BLANK_LINE, JsonOption, Rows
from nodeseal.errors import MalformedInput
from nodeseal.loader import open_model
from nodeseal.loader.agent_keys import DEFAULT_SOCKET
from nodeseal.loader.measure import drop, measure_cipher, measure_disk, measure_load, processors
from nodeseal.sealed.paths import SEALED_SUFFIX

app = typer.Typer(help="Measure what disk, cipher and load bring on this machine.", no_args_is_help=True)

_GIB: Final = 1 << 30
_SECONDS: Final = 1.0


@app.callback()
def _group() -> None:
    """Measure what disk, cipher and load bring on this machine."""


@app.command(epilog="Example: nodeseal bench model ./llama")
def model(  # noqa: PLR0913 - a command's options
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    socket: Annotated[Path, typer.Option(metavar="PATH", help="The agent's key socket.")] = DEFAULT_SOCKET,
    limit: Annotated[int, typer.Option("--gib", min=1, help="GiB to read from the disk in each way.")] = 4,
    *,
    no_load: Annotated[bool, typer.Option("--no-load", help="Leave out the load, which needs a key.")] = False,
    digest: DigestOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say what the disk, the cipher and a load of a sealed model bring here, and which one is the limit.

    The load opens the model through this node's agent and verifies all of it. Nothing is written.
    """
    paths = sorted(directory.rglob(f"*{SEALED_SUFFIX}"))
    if not paths:
        raise MalformedInput(f"{directory}: no sealed files", remedy="name a folder that `nodeseal seal` made")
    rates: dict[str, float | None] = {one.name: one.rate for one in measure_disk(paths, limit * _GIB)}
    rates["cipher, one processor"] = measure_cipher(_SECONDS, 1)
    rates[_cipher()] = measure_cipher(_SECONDS, processors())
    if not no_load:
        drop(paths)
        with open_model(directory, agent_keys(socket, digest)) as opened:
            drop(paths)
            rates["load, from the disk"] = measure_load(opened)
            rates["load, once more"] = measure_load(opened)
    _show(rates, as_json=as_json)


def _cipher() -> str:
    return f"cipher, {processors()} processors"


def _show(rates: Mapping[str, float | None], *, as_json: bool) -> None:
    limit = limit_of(rates)
    plain = {"gb_per_second": {name: rate and round(rate / 1e9, 3) for name, rate in rates.items()}, "limit": limit}
    rows = [(name, "not possible here" if rate is None else f"{rate / 1e9:.2f}") for name, rate in rates.items()]
    output.show(
        plain, Rows(("what", "GB/s"), rows, ""), BLANK_LINE, f"The limit of a load is the {limit}.\n", as_json=as_json
    )


def limit_of(rates: Mapping[str, float | None]) -> str:
    """Return what a load from the disk waits for: ``disk`` or ``cipher``."""
    disk = max(rate or 0.0 for name, rate in rates.items() if name.startswith("disk"))
    cipher = max(rate or 0.0 for name, rate in rates.items() if name.startswith("cipher"))
    return "disk" if disk < cipher else "cipher"
