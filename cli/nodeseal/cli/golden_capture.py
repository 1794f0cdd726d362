"""``nodeseal golden capture``: a golden from what machines prove, live or from kept evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from nodeseal.appraisal.capture import Captured, CaptureOptions, PcrCoverage, PcrNote, capture
from nodeseal.appraisal.offline import Observed, appraise_folder, observe
from nodeseal.cli import output
from nodeseal.cli.appraise import finding_lines, plain_finding
from nodeseal.cli.contents_ima import entry_file
from nodeseal.cli.evidence import load_evidence
from nodeseal.cli.golden_source import QuirksOption, quirks_of
from nodeseal.cli.output import CLIENT, Block, ClientOption, FactList, JsonOption
from nodeseal.client.naming import Use
from nodeseal.errors import MalformedInput
from nodeseal.findings import Severity
from nodeseal.golden.document import dump_golden
from nodeseal.golden.paths import path_text
from nodeseal.golden.rules import RuntimeRules
from nodeseal.golden.runtime_list import runtime_list
from nodeseal.ids import parse_name
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import LAST_PCR

_UNEXPLAINED: Final = (
    "no boot log accounts for these PCRs: findings will name values, not events, and there are no rules to take"
)
_NOT_RUN_YET: Final = (
    "the list has what ran on these machines, and nothing else: run once what they are to run, nodeseal open and your "
    "programs, and capture again; or add trees and packages: nodeseal golden runtime --merge"
)
_STYLES: Final = {PcrCoverage.VALUE: "green", PcrCoverage.RULES: "cyan", PcrCoverage.OPEN: "yellow"}

SourcesArgument = Annotated[
    list[str],
    typer.Argument(metavar="NODE|DIR…", help="Connected nodes, or folders that nodeseal node evidence wrote."),
]


def capture_golden(  # noqa: PLR0913 - a command's options
    sources: SourcesArgument,
    name: Annotated[str, typer.Option(help="Name of the golden.")],
    pcrs: Annotated[str, typer.Option(help="PCRs to judge, such as 0,2,4,7; empty: all that do not change.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of stdout.")] = None,
    client: ClientOption = CLIENT,
    *,
    quirks: QuirksOption = None,
    rules: Annotated[bool, typer.Option("--rules", help="Judge by rules instead of values where rules exist.")] = False,
    runtime: Annotated[
        bool, typer.Option("--runtime", help="Allow the files that IMA measured, and no others.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a golden that these machines match, and show which PCRs are the same on all machines and boots.

    Exit code 1: it is written, but a machine would not be trusted by it, or PCRs that matter are left open.

    One boot does not show what the next one measures: keep evidence of a boot (nodeseal node evidence), reboot, and
    give that folder together with the node. Read the golden before you activate it.
    """
    wanted_pcrs = frozenset(output.argument(_parse_pcrs)(pcrs)) if pcrs else frozenset[int]()
    wanted_name = output.argument(_parse_name)(name)
    known = quirks_of(quirks)
    folders = [load_evidence(source, client, Use.TRUST) for source in sources]
    observed = [observe(folder) for folder in folders]
    wanted = CaptureOptions(
        name=wanted_name,
        pcrs=wanted_pcrs,
        rules=rules,
        runtime=_runtime(observed) if runtime else None,
    )
    captured = capture([each.observation for each in observed], wanted)
    document = _comments(captured) + dump_golden(captured.golden)
    if out is not None:
        output.write_file(out, document)
    findings = tuple(f for each in folders for f in appraise_folder(each, (captured.golden,), known).findings)
    plain = {**_plain_capture(captured, document), "findings": list(map(plain_finding, findings))}
    output.show(plain, _capture_parts(captured, out) if out else document, as_json=as_json)
    if not as_json:
        if out is not None and not captured.golden.reference:
            output.show_note(_UNEXPLAINED)
        if out is not None and runtime:
            output.show_note(_NOT_RUN_YET)
        for line in _open_lines(captured):
            output.show_note(line)
        output.show_parts(finding_lines(findings), output.errors)  # why the golden does not make this evidence trusted
    if captured.left_open() or any(each.id.severity is not Severity.WARNING for each in findings):
        raise typer.Exit(output.REFUSED)


def _open_lines(captured: Captured) -> Iterator[str]:
    """Yield what nothing judges although it matters, with what to do."""
    for _, line in _lines(captured.left_open()):
        yield (
            f"{line}. If firmware or its settings were changed in between, capture boots after the change alone,"
            " or make a golden of each; to leave these PCRs open on purpose, name the others with --pcrs"
        )


def _parse_pcrs(text: str) -> list[int]:
    pcrs = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(pcrs) != len(text.split(",")) or not all(0 <= pcr <= LAST_PCR for pcr in pcrs):
        raise MalformedInput(f"not a list of PCR numbers from 0 to {LAST_PCR}: {text[:80]!a}")
    return pcrs


def _parse_name(text: str) -> str:
    return parse_name(text, "golden name")


def _runtime(observed: Iterable[Observed]) -> RuntimeRules:
    """Return the rules that allow what IMA measured on any of the machines.

    Raises:
        MalformedInput: no machine proved an IMA log, or files were hashed with SHA-1.
    """
    entries = (entry for each in observed for entry in each.ima)
    files = runtime_list(
        (path_text(path), digest) for entry in entries for path, digest in entry_file(entry, "golden capture")
    )
    if not files:
        raise MalformedInput(
            "golden capture: no IMA log was proved, so there is nothing to allow",
            remedy="leave --runtime out, or boot the nodes with an IMA policy and let their agents read its log",
        )
    return RuntimeRules(files=files)


def _comments(captured: Captured) -> bytes:
    """Return comments about each PCR, for the person who approves the golden."""
    lines = ("# What the evidence shows of each PCR:", *(f"# - {line}" for _, line in _lines(captured.notes)))
    lines += tuple(f'# - firmware says in PCR 7: "{word}"' for word in captured.words)
    return "".join(f"{line}\n" for line in lines).encode()


def _plain_capture(captured: Captured, document: bytes) -> dict[str, object]:
    return {
        "digest": captured.golden.digest,
        "name": captured.golden.name,
        "pcrs": list(map(_plain_note, captured.notes)),
        "firmware_words": list(captured.words),
        "left_open": [f"{note.bank.hashlib_name}:{note.pcr}" for note in captured.left_open()],
        "document": document.decode(),
    }


def _capture_parts(captured: Captured, out: Path) -> Iterator[Block]:
    golden = captured.golden
    yield FactList((("golden", golden.name), ("digest", golden.digest), ("file", str(out))))
    for judged, line in _lines(captured.notes):
        yield Text.assemble(("•", _STYLES[judged]), " ", line)
    for word in captured.words:
        yield Text.assemble(("•", "yellow"), f' firmware says in PCR 7: "{word}"')


def _lines(notes: Iterable[PcrNote]) -> Iterator[tuple[PcrCoverage, str]]:
    """Yield lines about PCRs. PCRs of one bank with the same note share a line."""
    alike: dict[tuple[HashAlg, PcrCoverage, str], list[int]] = {}
    for note in notes:
        alike.setdefault((note.bank, note.judged, note.said), []).append(note.pcr)
    for (bank, judged, said), pcrs in alike.items():
        yield judged, f"{bank.hashlib_name} PCR {_spans(pcrs)}: {said}"


def _spans(pcrs: Iterable[int]) -> str:
    """Return ascending numbers in short: ``0-7, 9``."""
    spans: list[list[int]] = []
    for pcr in pcrs:
        if spans and pcr == spans[-1][-1] + 1:
            spans[-1].append(pcr)
        else:
            spans.append([pcr])
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else f"{span[0]}" for span in spans)


def _plain_note(note: PcrNote) -> dict[str, object]:
    return {
        "bank": note.bank.hashlib_name,
        "pcr": note.pcr,
        "stability": note.stability.name.lower().replace("_", "-"),
        "values": note.values,
        "judged": note.judged.name.lower(),
        "difference": note.difference,
    }
