"""``nodeseal log``: read, replay and compare logs from files, without verifier, network or TPM.

The bytes of a file tell a boot log from an IMA log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.cli import log_boot, output
from nodeseal.cli.log_boot import Grouping
from nodeseal.cli.log_ima import ImaFile, read_ima, replay_ima_file, show_ima, show_ima_difference
from nodeseal.cli.output import JsonOption
from nodeseal.errors import MalformedInput
from nodeseal.files import read_regular
from nodeseal.ima.log import MAX_IMA_LOG
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import LAST_PCR
from nodeseal.uefi.event_log import EventLog, decode_event_log, replay

_WHICH_FILES: Final = (
    "a boot log is binary_bios_measurements, an IMA log binary_runtime_measurements, as the kernel has them"
)

app = typer.Typer(no_args_is_help=True, help="Read, replay and compare boot and IMA logs, offline.")


@app.callback()
def _group() -> None:
    """Read, replay and compare boot and IMA logs, offline."""


LogArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="A boot log, such as /sys/kernel/security/tpm0/binary_bios_measurements, or an IMA log.",
    ),
]
BankOption = Annotated[
    HashAlg | None,
    typer.Option(
        "--bank", metavar="BANK", parser=output.argument(HashAlg.from_name), help="sha1, sha256, sha384 or sha512."
    ),
]
PcrOption = Annotated[
    list[int] | None, typer.Option("--pcr", min=0, max=LAST_PCR, help="Only events of this PCR; may be repeated.")
]
ByOption = Annotated[Grouping, typer.Option("--by", help="A branch for each PCR, or all events in order.")]


@app.command("show", epilog="Example: nodeseal log show /sys/kernel/security/tpm0/binary_bios_measurements --pcr 7")
def show_log(
    file: LogArgument,
    bank: BankOption = None,
    pcr: PcrOption = None,
    by: ByOption = Grouping.PCR,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a log says was measured, event by event, and which parts of it no digest covers."""
    log = _load(file)
    if isinstance(log, ImaFile):
        show_ima(log, pcr or (), as_json=as_json)
        return
    with _naming(file):
        chosen = log_boot.chosen_bank(bank, log)
    log_boot.show_boot_log(log, chosen, pcr or (), by, as_json=as_json)


@app.command("replay", epilog="Example: nodeseal log replay boot.log --bank sha256")
def replay_log(file: LogArgument, bank: BankOption = None, *, as_json: JsonOption = False) -> None:
    """Print the PCRs that a log accounts for, in every bank or in one, as YAML."""
    log = _load(file)
    with _naming(file):
        if isinstance(log, ImaFile):
            values = replay_ima_file(log, bank)
        else:
            values = {each: replay(log, each) for each in ((bank,) if bank else log.algorithms)}
    log_boot.show_replayed(values, as_json=as_json)


@app.command("diff", epilog="Example: nodeseal log diff yesterday.log today.log")
def diff_logs(first: LogArgument, second: LogArgument, bank: BankOption = None, *, as_json: JsonOption = False) -> None:
    """Show the first event of each PCR in which two logs differ. Exit code 1: they do."""
    before, after = _load(first), _load(second)
    if isinstance(before, ImaFile) and isinstance(after, ImaFile):
        differ = show_ima_difference(before, after, as_json=as_json)
    elif isinstance(before, ImaFile) or isinstance(after, ImaFile):
        raise MalformedInput("one file is an IMA log, the other is none", remedy="give two logs of one kind")
    else:
        names = str(first), str(second)
        with _naming(*names):
            chosen = log_boot.chosen_bank(bank, before, after)
            differ = log_boot.show_boot_differences((before, after), names, chosen, as_json=as_json)
    if differ:
        raise typer.Exit(output.REFUSED)


def _load(path: Path) -> EventLog | ImaFile:
    raw = read_regular(path, MAX_IMA_LOG + 1)
    with _naming(path, remedy=_WHICH_FILES):
        return read_ima(path, raw) or decode_event_log(raw)


@contextmanager
def _naming(*files: Path | str, remedy: str = "") -> Iterator[None]:
    """Add the files' names, and a remedy if there is none, to refusals in the block."""
    try:
        yield
    except MalformedInput as error:
        raise MalformedInput(f"{', '.join(map(str, files))}: {error}", remedy=error.remedy or remedy) from error
