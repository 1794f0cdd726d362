"""``python -m nodeseal.swtpm``: software-TPM machines by hand.

``vendor DIR`` makes a TPM vendor; ``manufacture DIR NAME --vendor DIR`` a machine; ``sample-log FILE`` a boot log;
``run DIR [--boot LOG]`` runs a machine in the foreground, prints its TCTI, and stops it on SIGTERM or SIGINT;
``measure DIR PATH [--content FILE]`` lets the kernel of a machine that runs with ``--boot`` measure a file.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from nodeseal.errors import NodesealError, OutOfOrder
from nodeseal.swtpm.client import extending
from nodeseal.swtpm.ima import Ima
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except (NodesealError, OSError) as error:
        print(f"nodeseal.swtpm: {error}", file=sys.stderr)  # noqa: T201 # a command's message
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nodeseal.swtpm", description="software-TPM machines")
    commands = parser.add_subparsers(required=True)
    vendor = commands.add_parser("vendor", help="make a TPM vendor")
    vendor.add_argument("directory", type=Path)
    vendor.set_defaults(run=lambda given: TpmVendor.create(given.directory))
    manufacture = commands.add_parser("manufacture", help="make a machine in DIRECTORY/NAME")
    manufacture.add_argument("directory", type=Path)
    manufacture.add_argument("name")
    manufacture.add_argument("--vendor", type=Path, required=True)
    manufacture.add_argument("--ek", default="ecc", help="ecc, rsa, or a template such as H-3")
    manufacture.add_argument("--bank", action="append", dest="banks", help="sha256 if not given")
    manufacture.set_defaults(run=_manufacture)
    sample = commands.add_parser("sample-log", help="write a sample boot log")
    sample.add_argument("file", type=Path)
    sample.add_argument("--boot-loader", default=SampleBoot().boot_loader.decode(), help="text instead of an image")
    sample.set_defaults(run=_sample_log)
    run = commands.add_parser("run", help="run a machine until SIGTERM")
    run.add_argument("directory", type=Path)
    run.add_argument("--boot", type=Path, metavar="LOG", help="event log to boot from")
    run.set_defaults(run=_run)
    measure = commands.add_parser("measure", help="let the kernel of a running machine measure a file")
    measure.add_argument("directory", type=Path)
    measure.add_argument("path", help="what the file is called on the machine")
    measure.add_argument("--content", type=Path, metavar="FILE", help="its content; empty if not given")
    measure.set_defaults(run=_measure)
    return parser


def _manufacture(given: argparse.Namespace) -> None:
    banks = tuple(given.banks or ("sha256",))
    vendor = TpmVendor.load(given.vendor)
    Machine.manufacture(given.directory, name=given.name, vendor=vendor, ek=given.ek, banks=banks)


def _sample_log(given: argparse.Namespace) -> None:
    given.file.write_bytes(sample_boot_log(SampleBoot(boot_loader=given.boot_loader.encode())))


def _run(given: argparse.Namespace) -> None:
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the machine's thread, which inherits it
    with Machine(given.directory) as machine:
        if given.boot:
            machine.boot(given.boot.read_bytes(), ima=True)
        print(machine.tcti, flush=True)  # noqa: T201 # what the caller waits for
        signal.sigwait(ends)


def _measure(given: argparse.Namespace) -> None:
    machine = Machine(given.directory)
    content = given.content.read_bytes() if given.content else b""
    if not machine.ima_log_file.exists():
        raise OutOfOrder(f"{machine.name}: its kernel does not measure", remedy="run it with --boot")
    with extending(machine.socket) as extend:
        Ima(machine.ima_log_file, extend).measure(given.path.encode(), HashAlg.SHA256.digest(content))


if __name__ == "__main__":
    sys.exit(main())
