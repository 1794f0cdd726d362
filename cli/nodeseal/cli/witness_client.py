"""Asks a witness to cosign a checkpoint (C2SP tlog-witness, add-checkpoint)."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from typing import Final, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.tlog.checkpoint import SignedCheckpoint, verify_cosignature, with_signatures
from nodeseal.tlog.note import MAX_NOTE, VerifierKey, parse_signatures
from nodeseal.tlog.proof_text import AddCheckpoint
from nodeseal.tlog.witnessing import WitnessStatus

_SECONDS: Final = 20.0


class WitnessPlace(NamedTuple):
    """A witness and where it listens.

    Attributes:
        url: of its submission prefix.
        key: its public key.
    """

    url: str
    key: VerifierKey


def parse_url(text: str) -> str:
    """Return the address of a witness.

    Raises:
        MalformedInput: no ``http://`` or ``https://`` address.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise MalformedInput(f"not the address of a witness, http://HOST:PORT: {text[:80]!a}")
    return text.rstrip("/")


def cosigned_by(
    place: WitnessPlace, signed: SignedCheckpoint, consistency: Callable[[int], tuple[bytes, ...]]
) -> SignedCheckpoint:
    """Return a checkpoint with the cosignature of a witness.

    Args:
        place: the witness.
        signed: the checkpoint.
        consistency: returns the proof that a tree of so many leaves is the beginning of the checkpoint's.

    Raises:
        Unavailable: the witness does not answer, or does not know the log.
        ProofFailed: ``log.fork``: it has seen another history; ``log.signature``: it did not cosign this.
        MalformedInput: its answer does not parse.
    """
    status, body = _post(place.url, AddCheckpoint(old=0, path=(), note=signed.raw).encode())
    if status == WitnessStatus.CONFLICT:
        size = _known(body, signed.checkpoint.size)
        status, body = _post(place.url, AddCheckpoint(old=size, path=consistency(size), note=signed.raw).encode())
        if status == WitnessStatus.CONFLICT and body.strip() != str(size).encode():
            raise Unavailable(f"witness {place.url}: somebody else had it cosign meanwhile", remedy="try again")
    if status in {WitnessStatus.CONFLICT, WitnessStatus.INCONSISTENT}:
        seen = f"{place.key.name} refuses it ({status}): it has cosigned another history"
        raise ProofFailed(Finding(id=FindingId.LOG_FORK, expected="one history of the log", seen=seen))
    if status != WitnessStatus.COSIGNED:
        raise Unavailable(
            f"witness {place.url}: status {status}",
            remedy="403 and 404: give the witness the key of this log (nodeseal-verifier log-key)",
        )
    cosigned = with_signatures(signed, parse_signatures(body.decode("utf-8", "replace")))
    verify_cosignature(cosigned.note, place.key)
    return cosigned


def _known(body: bytes, size: int) -> int:
    text = body.decode("ascii", "replace").strip()
    if not text.isdigit() or len(text) > 16:  # noqa: PLR2004 - digits of the largest tree
        raise MalformedInput(f"witness: not a tree size: {text[:40]!a}")
    if int(text) > size:
        seen = f"a witness has cosigned {text} leaves, more than the {size} of this checkpoint"
        raise ProofFailed(Finding(id=FindingId.LOG_FORK, expected="the newest checkpoint of the log", seen=seen))
    return int(text)


def _post(url: str, body: bytes) -> tuple[int, bytes]:
    request = Request(f"{url}/add-checkpoint", data=body, method="POST")  # noqa: S310 - parse_url knows the scheme
    request.add_header("Content-Type", "text/plain; charset=utf-8")
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - as above
            return int(answer.status), answer.read(MAX_NOTE)
    except HTTPError as error:
        with error:
            return error.code, error.read(MAX_NOTE)
    except (OSError, HTTPException, ValueError) as error:
        raise Unavailable(f"witness {url}: {error}", remedy="check that it runs: nodeseal audit witness") from error
