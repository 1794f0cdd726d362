"""``nodeseal quote``: verify a TPM quote from files, without verifier, network or TPM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.output import Block, FactList, JsonOption, Rows
from nodeseal.crypto.signatures import InsecureSha1Verifier, SignatureVerifier
from nodeseal.errors import MalformedInput, NodesealError, ProofFailed
from nodeseal.evidence.quote_files import QuoteFiles, VerifiedQuote, verify_quote_files
from nodeseal.files import read_regular
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import Alg, HashAlg, ObjectAttributes
from nodeseal.tpm.buffer import MAX_NAME
from nodeseal.tpm.public import RsaPublic, Scheme, TpmPublic

_MAX_FILE = 1024 * 1024
_SCHEMES = {
    str(scheme): scheme
    for scheme in (Scheme(alg, hash_alg) for alg in (Alg.RSASSA, Alg.RSAPSS, Alg.ECDSA) for hash_alg in HashAlg)
}
_HINTS = {
    FindingId.QUOTE_MALFORMED: "the key signed something that is no quote: a restricted TPM key cannot have made it",
    FindingId.QUOTE_SIGNATURE: "check that key, attestation and signature belong together and that --scheme is right",
    FindingId.QUOTE_ALGORITHM: "quote with a key and scheme of SHA-256 or better",
    FindingId.QUOTE_NONCE: "the quote was made for another challenge: ask for a fresh one",
    FindingId.QUOTE_SELECTION: "quote the PCRs that you want to know",
    FindingId.PCR_DIGEST: "give the values that were read together with this quote",
}
"""Remedies for findings about a file, where there is no node, agent or enrolment."""

app = typer.Typer(no_args_is_help=True, help="Verify TPM quotes from files, offline.")


@app.callback()
def _group() -> None:
    """Verify TPM quotes from files, offline."""


def _read(path: Path) -> bytes:
    raw = read_regular(path, _MAX_FILE + 1)
    if len(raw) > _MAX_FILE:
        raise typer.BadParameter(f"{path} is larger than {_MAX_FILE} bytes")
    return raw


def _parse_nonce(text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text) if text.isalnum() or not text else None
    except ValueError:
        nonce = None
    if nonce is None or len(nonce) > MAX_NAME:
        raise typer.BadParameter(f"not the hex of at most {MAX_NAME} bytes")
    return nonce


def _parse_scheme(text: str) -> Scheme:
    if text not in _SCHEMES:
        raise typer.BadParameter(f"use one of {', '.join(_SCHEMES)}")
    return _SCHEMES[text]


_NonceOption = Annotated[
    bytes, typer.Option("--nonce", metavar="HEX", parser=_parse_nonce, help="What the quote must carry; may be ''.")
]
_SchemeOption = Annotated[
    Scheme | None,
    typer.Option(
        "--scheme",
        metavar="SCHEME",
        parser=_parse_scheme,
        help="For a plain signature without TPMT_SIGNATURE around it: rsassa-sha256, rsapss-sha256, ecdsa-sha256 "
        "(DER, or r and s), or with another hash.",
    ),
]
_Sha1Option = Annotated[
    bool,
    typer.Option(
        "--insecure-allow-sha1",
        help="FORENSICS ONLY: accept SHA-1 signatures of old quotes. They can be forged; trust nothing that needs it.",
    ),
]


def _file_option(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, exists=True, dir_okay=False, readable=True, help=text)
    return option


@app.command(
    epilog="Example: nodeseal quote verify --attest q.msg --signature q.sig --public ak.pem --pcrs q.pcrs --nonce 5e1f"
)
def verify(  # noqa: PLR0913 - one option for each file and fact
    *,
    attest: Annotated[Path, _file_option("--attest", "TPMS_ATTEST, the signed bytes (tpm2_quote --message).")],
    signature: Annotated[Path, _file_option("--signature", "TPMT_SIGNATURE, or plain with --scheme.")],
    public: Annotated[Path, _file_option("--public", "Attestation key: PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC.")],
    nonce: _NonceOption,
    pcrs: Annotated[
        Path | None,
        _file_option("--pcrs", "PCR values: of tpm2_quote, tpm2_pcrread or JSON. Without it no value is proved."),
    ] = None,
    scheme: _SchemeOption = None,
    allow_sha1: _Sha1Option = False,
    as_json: JsonOption = False,
) -> None:
    """Verify that a TPM key signed this quote for this nonce, and that the PCR values are the quoted ones.

    Exit code 0: everything holds. 1: refused, with each reason. 2: misused.
    """
    files = QuoteFiles(
        attest=_read(attest),
        signature=_read(signature),
        public=_read(public),
        pcrs=_read(pcrs) if pcrs else None,
        plain_scheme=scheme,
    )
    try:
        verified = verify_quote_files(files, nonce, InsecureSha1Verifier if allow_sha1 else SignatureVerifier)
    except (ProofFailed, MalformedInput) as error:
        _refuse(error, as_json=as_json)
        raise typer.Exit(output.REFUSED) from error
    output.show(_plain_quote(verified), _quote_parts(verified), as_json=as_json)


def _reasons(error: NodesealError) -> Iterator[tuple[str, str, str]]:
    """Yield id, text and hint of each reason."""
    if isinstance(error, ProofFailed):
        for finding in error.findings:
            yield finding.id.code, str(finding), _HINTS.get(finding.id, finding.remedy)
    else:
        yield "malformed", str(error), error.remedy


def _refuse(error: NodesealError, *, as_json: bool) -> None:
    reasons = [{"id": code, "reason": text, "remedy": hint} for code, text, hint in _reasons(error)]
    plain = {"verified": False, "reasons": reasons}
    output.show(plain, _refusal_lines(error), as_json=as_json, to=output.errors)


def _refusal_lines(error: NodesealError) -> Iterator[Text]:
    yield Text.assemble(("refused:", "bold red"), " this quote proves nothing")
    for _, text, hint in _reasons(error):
        yield Text(f"  {text}")
        if hint:
            yield Text.assemble("    ", ("hint:", "yellow"), " ", hint)


def _plain_quote(verified: VerifiedQuote) -> dict[str, object]:
    attest, quoted = verified.attest, verified.attest.quoted
    banks = quoted.selection.banks if quoted.selection else ()
    return {
        "verified": True,
        "key": _describe_key(verified.public),
        "scheme": str(verified.public.scheme),
        "nonce": attest.extra_data.hex(),
        "qualified_signer": attest.qualified_signer.hex(),
        "clock_info": {
            "clock": attest.clock_info.clock,
            "reset_count": attest.clock_info.reset_count,
            "restart_count": attest.clock_info.restart_count,
            "safe": attest.clock_info.safe,
        },
        "firmware_version": f"0x{attest.firmware_version:016x}",
        "selection": {bank.hashlib_name: list(indices) for bank, indices in banks},
        "pcr_digest": quoted.pcr_digest.hex(),
        "pcrs": _plain_pcrs(verified),
        "notes": list(_notes(verified)),
    }


def _plain_pcrs(verified: VerifiedQuote) -> dict[str, dict[str, str]] | None:
    if verified.pcrs is None:
        return None
    banks: dict[str, dict[str, str]] = {}
    for (bank, index), value in verified.pcrs.items():
        banks.setdefault(bank.hashlib_name, {})[str(index)] = value.hex()
    return banks


def _quote_parts(verified: VerifiedQuote) -> Iterator[Block]:
    attest, clock = verified.attest, verified.attest.clock_info
    proved = "the TPM held these values" if verified.pcrs else "signature and nonce hold; no PCR value was proved"
    yield Text.assemble(("verified:", "bold green"), " ", proved)
    yield FactList(
        (
            ("key", f"{_describe_key(verified.public)}, {verified.public.scheme}"),
            ("nonce", attest.extra_data.hex() or "none"),
            ("clock", f"{clock.clock} ms, {clock.reset_count} resets, {clock.restart_count} restarts"),
            ("firmware", f"0x{attest.firmware_version:016x}"),
            ("selected", str(attest.quoted.selection or "no PCR")),
        )
    )
    if verified.pcrs:
        rows = ((bank.hashlib_name, str(index), value.hex()) for (bank, index), value in verified.pcrs.items())
        yield Rows(("bank", "PCR", "value"), rows, empty="no PCR")
    for note in _notes(verified):
        yield Text.assemble(("note:", "yellow"), " ", note)


def _describe_key(public: TpmPublic) -> str:
    return f"RSA {public.key_bits}" if isinstance(public, RsaPublic) else f"ECC {public.curve.name}"


def _notes(verified: VerifiedQuote) -> Iterator[str]:
    """Yield what the reader should know although everything holds."""
    attributes = verified.public.attributes
    if verified.pcrs is None:
        yield "no --pcrs was given: the quote is authentic and fresh, but what it measured is unknown"
    if not verified.attest.extra_data:
        yield "the nonce is empty, so this quote may be a replay"
    if attributes == ObjectAttributes(0):
        yield "the key came without TPM attributes: that a TPM made this quote rests on where the key came from"
    elif not attributes & ObjectAttributes.RESTRICTED:
        yield "the key is not restricted: anyone who may use it can sign a forged quote"
    if verified.ignored:
        yield f"{verified.ignored} further values in the PCR file are not covered by the quote and were ignored"
    if verified.public.scheme and verified.public.scheme.hash_alg is HashAlg.SHA1:
        yield "SHA-1: this signature could have been forged; trust nothing that rests on it"
