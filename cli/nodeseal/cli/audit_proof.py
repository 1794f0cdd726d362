"""``nodeseal audit prove``, ``export``, ``verify`` and ``follow``: the log as something that can be proved."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.audit_witness import read_vkey
from nodeseal.cli.output import CLIENT, Block, ClientOption, FactList, JsonOption
from nodeseal.cli.witness_client import WitnessPlace, cosigned_by, parse_url
from nodeseal.client.connection import connect
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.files import read_small, replace_file, write_new
from nodeseal.findings import Finding, FindingId
from nodeseal.tlog.checkpoint import Cosigned, SignedCheckpoint, open_checkpoint, verify_cosignature
from nodeseal.tlog.note import MAX_NOTE, VerifierKey
from nodeseal.tlog.proof_text import MAX_PROOF, LogProof, decode_proof
from nodeseal.tlog.tree import hash_leaf, verify_consistency, verify_inclusion

if TYPE_CHECKING:
    from nodeseal.client.verifier import Verifier
    from nodeseal.verifier.results.audit import AuditReport

KeyOption = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Key of the log, from nodeseal-verifier log-key.")
]
WitnessOption = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Have this witness cosign, as http://HOST:PORT; repeatable.")
]
WitnessKeyOption = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="Key of a witness whose cosignature counts; repeatable.")
]


def _places(urls: Sequence[str] | None, keys: Sequence[Path] | None) -> tuple[WitnessPlace, ...]:
    urls, keys = urls or (), keys or ()
    if len(urls) != len(keys):
        raise typer.BadParameter("each --witness needs its --witness-key, in the same order")
    return tuple(WitnessPlace(parse_url(url), read_vkey(path)) for url, path in zip(urls, keys, strict=True))


def _head(verifier: Verifier, key: VerifierKey, places: Sequence[WitnessPlace]) -> SignedCheckpoint:
    """Return the head of the log, signed by its key and cosigned by each witness."""
    return _cosigned(verifier, open_checkpoint(verifier.get_checkpoint().note, key), places)


def _cosigned(verifier: Verifier, signed: SignedCheckpoint, places: Sequence[WitnessPlace]) -> SignedCheckpoint:
    size = signed.checkpoint.size
    for place in places:
        signed = cosigned_by(place, signed, lambda old: verifier.prove_consistency(old, size))
    return signed


def prove(  # noqa: PLR0913, PLR0917 - one parameter per option
    sequence: Annotated[int, typer.Argument(metavar="SEQUENCE", min=1, help="Its number, as audit list shows it.")],
    key: KeyOption,
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the proof.")],
    witness: WitnessOption = None,
    witness_key: WitnessKeyOption = None,
    client: ClientOption = CLIENT,
) -> None:
    """Write a proof that an act is in the log: one file (C2SP tlog-proof) that anybody can verify offline.

    The file holds the act's envelope, which names kind, time, subjects and the digest of its body.
    """
    places, log = _places(witness, witness_key), read_vkey(key)
    with connect(client) as verifier:
        signed = _head(verifier, log, places)
        proved = verifier.prove_record(sequence, signed.checkpoint.size)
    proof = LogProof(index=proved.index, path=tuple(proved.path), note=signed.raw, extra=proved.content)
    _verify_proof(proof, log)
    write_new(to, proof.encode(), 0o644)
    output.show_note(f"{to}: act {sequence} is leaf {proved.index} of {signed.checkpoint.size}")


def export(  # noqa: PLR0913 - one parameter per option
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    key: KeyOption,
    witness: WitnessOption = None,
    witness_key: WitnessKeyOption = None,
    client: ClientOption = CLIENT,
    *,
    withhold: Annotated[
        bool, typer.Option("--withhold", help="Leave out bodies of acts that widen no trust, with their findings.")
    ] = False,
) -> None:
    """Write all of the log to a folder: acts, documents, and what is in force, for audit verify."""
    from nodeseal.cli.audit_folder import ExportWriter, new_export  # noqa: PLC0415 - needs the verifier's packages

    places, log = _places(witness, witness_key), read_vkey(key)
    with connect(client) as verifier, new_export(folder) as draft:
        writer, parts = ExportWriter(draft, withhold=withhold), verifier.export_log()
        signed = open_checkpoint(next(parts).checkpoint.note, log)
        for part in parts:
            writer.add(part)
        signed = _cosigned(verifier, signed, places)
        writer.write(signed.raw)
    output.show_note(f"{folder}: {signed.checkpoint.size} acts, {writer.withheld} bodies withheld")


def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of an export, or file of a proof.")],
    key: KeyOption,
    witness_key: WitnessKeyOption = None,
    previous: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An earlier checkpoint that the log must go on from.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Verify an export or a proof, offline and without the verifier. Exit code 1: it does not hold.

    Of an export: every act is in the tree that was signed, each witness cosigned it, and people, grants, goldens, keys,
    models, nodes and leases follow from the acts and from nothing else. Where bodies are withheld, it says incomplete.
    """
    log, witnesses = read_vkey(key), tuple(map(read_vkey, witness_key or ()))
    before = open_checkpoint(read_small(previous, MAX_NOTE), log) if previous else None
    if path.is_file():
        proof = decode_proof(read_small(path, MAX_PROOF))
        signed = _verify_proof(proof, log)
        cosigned = [verify_cosignature(signed.note, witness) for witness in witnesses]
        parts = _proof_facts(proof, signed, cosigned)
        output.show(lambda: _plain_proof(proof, signed, cosigned), parts, as_json=as_json)
        return
    from nodeseal.cli.audit_folder import read_export  # noqa: PLC0415 - needs the verifier's packages
    from nodeseal.verifier.results.audit import verify_export  # noqa: PLC0415 - as above

    report = verify_export(read_export(path), log, witnesses, before)
    output.show(lambda: _plain_report(report), _report_parts(report), as_json=as_json)


def follow(  # noqa: PLR0913, PLR0917 - one parameter per option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The last checkpoint seen; made if not there.")],
    key: KeyOption,
    witness: WitnessOption = None,
    witness_key: WitnessKeyOption = None,
    every: Annotated[
        int, typer.Option(min=0, max=86_400, metavar="SECONDS", help="Look again after so long, until Ctrl-C; 0: once.")
    ] = 0,
    client: ClientOption = CLIENT,
) -> None:
    """Follow the log: make sure that it goes on from the checkpoint in FILE, then keep the new one there.

    Exit code 1 says that the log was rewritten or put back; FILE then keeps the old checkpoint as evidence.
    """
    places, log = _places(witness, witness_key), read_vkey(key)
    while True:
        signed = _followed(file, log, places, client)
        typer.echo(f"{signed.checkpoint.size} acts, root {signed.checkpoint.root.hex()}")
        if not every:
            return
        time.sleep(every)


def _followed(file: Path, log: VerifierKey, places: Sequence[WitnessPlace], client: Path) -> SignedCheckpoint:
    before = open_checkpoint(read_small(file, MAX_NOTE), log).checkpoint if file.exists() else None
    with connect(client) as verifier:
        signed = _head(verifier, log, places)
        now = signed.checkpoint
        if before is not None:
            if now.size < before.size:
                seen = f"{now.size} acts, after {before.size}"
                raise ProofFailed(Finding(id=FindingId.LOG_FORK, expected="a log that only grows", seen=seen))
            path = verifier.prove_consistency(before.size, now.size)
            verify_consistency(before.size, before.root, now.size, now.root, path)
    replace_file(file, signed.raw, file.with_name(f".{file.name}.new"), 0o644)
    return signed


def _verify_proof(proof: LogProof, log: VerifierKey) -> SignedCheckpoint:
    if not proof.extra:
        raise MalformedInput("proof: holds no envelope", remedy="write it with nodeseal audit prove")
    signed = open_checkpoint(proof.note, log)
    found = signed.checkpoint
    verify_inclusion(hash_leaf(proof.extra), proof.index, found.size, found.root, proof.path)
    return signed


def _plain_proof(proof: LogProof, signed: SignedCheckpoint, cosigned: Sequence[Cosigned]) -> dict[str, object]:
    return {**_plain_head(signed, cosigned), "leaf": proof.index, "envelope": json.loads(proof.extra)}


def _proof_facts(proof: LogProof, signed: SignedCheckpoint, cosigned: Sequence[Cosigned]) -> Iterator[Block]:
    envelope = json.loads(proof.extra)
    yield Text(f"proved: leaf {proof.index} of {signed.checkpoint.size}")
    yield FactList(
        (
            ("kind", envelope["kind"]),
            ("time", envelope["at"]),
            ("subjects", ", ".join(envelope["subjects"])),
            ("body", envelope["body"]),
            *_head_facts(signed, cosigned),
        )
    )


def _plain_head(signed: SignedCheckpoint, cosigned: Sequence[Cosigned]) -> dict[str, object]:
    checkpoint = signed.checkpoint
    witnesses = [{"witness": each.witness, "at": each.at.isoformat()} for each in cosigned]
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "cosigned": witnesses,
    }


def _head_facts(signed: SignedCheckpoint, cosigned: Sequence[Cosigned]) -> tuple[tuple[str, str], ...]:
    witnesses = ", ".join(f"{each.witness} at {each.at:%Y-%m-%d %H:%M:%S}Z" for each in cosigned)
    return (
        ("log", signed.checkpoint.origin),
        ("root", signed.checkpoint.root.hex()),
        ("cosigned by", witnesses or "nobody asked for"),
    )


def _plain_report(report: AuditReport) -> dict[str, object]:
    return {
        **_plain_head(report.signed, report.cosigned),
        "acts": report.acts,
        "complete": report.complete,
        "withheld": dict(report.withheld),
        "rows": {"compared": report.compared, "unknown": report.unknown, "older": report.older},
    }


def _report_parts(report: AuditReport) -> Iterator[Block]:
    word = "complete" if report.complete else "INCOMPLETE"
    yield Text(f"{word}: {report.acts} acts are those that were signed; {report.compared} rows follow from them")
    withheld = ", ".join(f"{kind} {count}" for kind, count in report.withheld.items())
    yield FactList(
        (
            ("bodies withheld", f"{sum(report.withheld.values())} ({withheld})" if withheld else "0"),
            ("rows that rest on them", str(report.unknown)),
            ("rows older than the log", str(report.older)),
            *_head_facts(report.signed, report.cosigned),
        )
    )
