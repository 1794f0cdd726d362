"""``nodeseal appraise``: judge kept evidence by goldens from files, without a verifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from nodeseal.appraisal.kinds.ima import progress_of
from nodeseal.appraisal.model import Appraisal
from nodeseal.appraisal.offline import appraise_folder
from nodeseal.boot.claims import BootClaims
from nodeseal.boot.secure_boot import secure_boot_word
from nodeseal.cli import output
from nodeseal.cli.evidence import read_evidence
from nodeseal.cli.golden_source import QuirksOption, quirks_of, read_golden
from nodeseal.cli.output import FactList, JsonOption
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.inert import inert
from nodeseal.tpm.public import decode_public
from nodeseal.wire import findings

_EXPLAINED: Final = {
    FindingId.PCR_MISMATCH: "activate a golden that allows it if the change was intended, else restore what changed",
}
"""Remedies where people see already what ``nodeseal golden explain`` shows."""
GoldenOption = Annotated[
    list[Path],
    typer.Option("--golden", metavar="FILE", exists=True, dir_okay=False, help="A golden in YAML; may be repeated."),
]
EvidenceOption = Annotated[
    Path,
    typer.Option(
        "--evidence", metavar="DIR", exists=True, file_okay=False, help="A folder that nodeseal node evidence wrote."
    ),
]


def appraise(
    golden: GoldenOption, evidence: EvidenceOption, quirks: QuirksOption = None, *, as_json: JsonOption = False
) -> None:
    """Judge a folder of evidence as the verifier would have done when it arrived. Exit code 1: not trusted.

    The folder is worth what its ak.pub is worth: compare its name with `nodeseal node show NODE`.
    """
    folder = read_evidence(evidence)
    appraisal = appraise_folder(folder, [read_golden(file) for file in golden], quirks_of(quirks))
    output.show(
        lambda: _plain_appraisal(folder, appraisal),
        FactList(_appraisal_facts(folder, appraisal)),
        finding_lines(appraisal.findings),
        as_json=as_json,
    )
    if not appraisal.trusted:
        raise typer.Exit(output.REFUSED)


def finding_lines(findings: Iterable[Finding], *, explained: bool = False) -> Iterator[Text]:
    """Yield findings as people read them: what is wrong, which event explains it, what to do.

    Args:
        findings: the findings.
        explained: whether the events that differ are shown beside them, so that no remedy says how to see them.
    """
    for finding in findings:
        remedy = _EXPLAINED.get(finding.id, finding.remedy) if explained else finding.remedy
        colour = "yellow" if finding.id.severity is Severity.WARNING else "red"
        place = (" ", (finding.where, "bold")) if finding.where else ()
        yield Text.assemble((finding.id.code, colour), *place)
        for name, text in (
            ("expected", finding.expected),
            ("seen", finding.seen),
            ("because", finding.event),
            ("do", remedy),
        ):
            if text:
                yield Text.assemble("  ", (f"{name:>8}", "dim"), " ", text)


def plain_finding(finding: Finding) -> dict[str, object]:
    """Return a finding as plain values."""
    return {**findings.plain_finding(finding), "severity": finding.id.severity.value, "remedy": finding.remedy}


def _verdict(appraisal: Appraisal) -> str:
    return "trusted" if appraisal.trusted else "untrusted"


def _key_name(folder: EvidenceFolder) -> str:
    """Return the name of the key that signed (TPM 2.0 Part 1, "Names"), as ``node show`` prints it."""
    return decode_public(folder.ak_public).name().hex()


def _appraisal_facts(folder: EvidenceFolder, appraisal: Appraisal) -> Iterator[tuple[str, str]]:
    yield "verdict", _verdict(appraisal)
    yield "node", folder.channel.node_id
    yield "attestation key", _key_name(folder)
    yield "received", folder.received.isoformat()
    yield "goldens matched", ", ".join(golden.name for golden in appraisal.goldens) or "none"
    boot = appraisal.detail(BootClaims)
    if boot is not None:
        yield "secure boot", secure_boot_word(boot.secure_boot)
        yield from (("firmware says", word.text) for word in boot.secure_boot.words)
        for image in boot.chain.images:
            yield "boot image", f"{image.path} {image.digest.hex()}"
        for line in boot.command_lines:
            yield "command line", "not proved" if line.text is None else inert(line.text)
    progress = progress_of(appraisal.baseline)
    yield "IMA log", f"{progress.mark.offset} bytes proved" if progress else "none"


def _plain_appraisal(folder: EvidenceFolder, appraisal: Appraisal) -> dict[str, object]:
    boot, progress = appraisal.detail(BootClaims), progress_of(appraisal.baseline)
    return {
        "verdict": _verdict(appraisal),
        "node_id": folder.channel.node_id,
        "ak_name": _key_name(folder),
        "received": folder.received.isoformat(),
        "goldens": [{"name": golden.name, "digest": golden.digest} for golden in appraisal.goldens],
        "boot": _plain_boot(boot) if boot else None,
        "ima_proved_bytes": progress.mark.offset if progress else None,
        "findings": [plain_finding(finding) for finding in appraisal.findings],
    }


def _plain_boot(boot: BootClaims) -> dict[str, object]:
    return {
        "secure_boot": boot.secure_boot.enabled,
        "firmware_words": [word.text for word in boot.secure_boot.words],
        "images": [{"path": image.path, "digest": image.digest.hex()} for image in boot.chain.images],
        "command_lines": [line.text for line in boot.command_lines],
    }
