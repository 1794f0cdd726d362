"""What a witness decides (C2SP tlog-witness 1.0.0, add-checkpoint): a pure function of request, key and memory."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, parse_checkpoint
from nodeseal.tlog.note import VerifierKey, decode_note
from nodeseal.tlog.proof_text import AddCheckpoint, decode_add_checkpoint
from nodeseal.tlog.tree import EMPTY_ROOT, verify_consistency


class WitnessStatus(IntEnum):
    """Answers to a request, by their HTTP status."""

    COSIGNED = 200
    MALFORMED = 400
    UNSIGNED = 403
    UNKNOWN_LOG = 404
    CONFLICT = 409
    INCONSISTENT = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessAnswer:
    """What a witness decided.

    Attributes:
        status: how the request ended.
        signed: the checkpoint to remember and to cosign; None: none is.
        known: size of the checkpoint that it cosigned last.
        reason: why it refused.
    """

    status: WitnessStatus
    signed: SignedCheckpoint | None = None
    known: int = 0
    reason: str = ""


def asked_origin(raw: bytes) -> str:
    """Return the origin that a request is about, of which nothing is proved.

    Raises:
        MalformedInput: it does not parse.
    """
    return parse_checkpoint(decode_note(decode_add_checkpoint(raw).note).text).origin


def witness(raw: bytes, keys: Mapping[str, VerifierKey], known: Checkpoint | None) -> WitnessAnswer:
    """Decide whether to cosign.

    Args:
        raw: body of the request.
        keys: keys of the logs that are witnessed, by origin.
        known: the checkpoint of this log that was cosigned last; None: none was.
    """
    size, root = (known.size, known.root) if known else (0, EMPTY_ROOT)
    try:
        request = decode_add_checkpoint(raw)
        origin = parse_checkpoint(decode_note(request.note).text).origin
        if origin not in keys:
            return WitnessAnswer(status=WitnessStatus.UNKNOWN_LOG, reason=f"no log {origin[:200]!a}")
        signed = open_checkpoint(request.note, keys[origin])
    except MalformedInput as error:
        return WitnessAnswer(status=WitnessStatus.MALFORMED, reason=str(error))
    except ProofFailed as error:
        return WitnessAnswer(status=WitnessStatus.UNSIGNED, reason=str(error))
    return _judged(request, signed, size, root)


def _judged(request: AddCheckpoint, signed: SignedCheckpoint, size: int, root: bytes) -> WitnessAnswer:
    checkpoint = signed.checkpoint
    if request.old > checkpoint.size:
        return WitnessAnswer(status=WitnessStatus.MALFORMED, reason="the old tree is larger than the new one")
    if request.old != size:
        return WitnessAnswer(status=WitnessStatus.CONFLICT, known=size, reason=f"cosigned {size} leaves last")
    if size == checkpoint.size and not hmac.compare_digest(root, checkpoint.root):
        return WitnessAnswer(status=WitnessStatus.CONFLICT, known=size, reason="another tree of this size was cosigned")
    try:
        verify_consistency(size, root, checkpoint.size, checkpoint.root, request.path)
    except ProofFailed as error:
        return WitnessAnswer(status=WitnessStatus.INCONSISTENT, known=size, reason=str(error))
    return WitnessAnswer(status=WitnessStatus.COSIGNED, signed=signed, known=checkpoint.size)
