"""Keylime's ``checkquote`` and its judgement of IMA logs, in a process and an environment of its own."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives import serialization

from benchmarks.harness import SECONDS, Missing
from benchmarks.nodes import SELECTION
from nodeseal.crypto.keys import public_key_of
from nodeseal.evidence.round import Evidence
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.public import TpmPublic

CHECKQUOTE: Final = "Keylime 7.14, keylime.tpm.tpm_util.checkquote, on the same quote"
PROCESS_MEASUREMENT_LIST: Final = (
    "Keylime 7.14, keylime.ima.ima.process_measurement_list, on the same log and allow list"
)
_PYTHON: Final = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
_SELECTIONS, _LISTS = 16, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SameQuote:
    """A quote as ``checkquote`` takes it; binary parts in base64.

    Attributes:
        key: the attestation key in PEM.
        nonce: the qualifying data.
        signature: TPMT_SIGNATURE.
        quote: TPMS_ATTEST.
        pcrs: the PCR file of tpm2-tools, form `serialized`.
    """

    key: str
    nonce: str
    signature: str
    quote: str
    pcrs: str

    @classmethod
    def of(cls, evidence: Evidence, ak: TpmPublic, values: Sequence[bytes]) -> Self:
        """Return the quote of a round."""
        return cls(
            key=_pem(_subject_public_key_info(ak)),
            nonce=_text(decode_attest(evidence.attest).extra_data),
            signature=_text(evidence.signature),
            quote=_text(evidence.attest),
            pcrs=_text(serialized_pcrs(values)),
        )


class Keylime:
    """A worker process that does one thing as often as it is asked to; a context manager.

    Args:
        task: what the worker reads first.
        worker: its file beside this one.

    Raises:
        Missing: Keylime is not installed, or does not accept the task.
    """

    def __init__(self, task: Mapping[str, object], worker: str) -> None:
        self._task: Final = task
        self._file: Final = Path(__file__).with_name(worker)
        self._worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if not _PYTHON.exists():
            raise Missing("Keylime cannot be installed here: there is no .venv-peers (make bench makes it)")
        command = [str(_PYTHON), "-I", str(self._file)]
        self._worker = subprocess.Popen(  # noqa: S603 - our own worker
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._tell(json.dumps(self._task))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()

    def per_second(self) -> float:
        """Return how much Keylime does in a second of its processor time."""
        self._tell(str(SECONDS))
        return float(self._answer())

    def _tell(self, line: str) -> None:
        if self._worker is None or self._worker.stdin is None:
            raise Missing("Keylime's worker does not run")
        try:
            self._worker.stdin.write(line + "\n")
            self._worker.stdin.flush()
        except BrokenPipeError as error:
            raise Missing("Keylime cannot be imported in .venv-peers") from error

    def _answer(self) -> str:
        line = self._worker.stdout.readline() if self._worker is not None and self._worker.stdout is not None else ""
        if not line:
            raise Missing("Keylime cannot be imported in .venv-peers, or refuses what it was given")
        return line


def serialized_pcrs(values: Sequence[bytes]) -> bytes:
    """Return PCR values of the default selection as ``tpm2_quote -F serialized`` writes them: C structures."""
    ((bank, indices),) = SELECTION.banks
    bits = sum(1 << index for index in indices)
    head = struct.pack("<I", 1) + struct.pack("<HB4sx", bank, 3, bits.to_bytes(4, "little"))
    head += bytes(struct.calcsize("<HB4sx") * (_SELECTIONS - 1))
    lists = [values[at : at + _LISTS] for at in range(0, len(values), _LISTS)]
    return head + struct.pack("<I", len(lists)) + b"".join(map(_digest_list, lists))


def _digest_list(values: Sequence[bytes]) -> bytes:
    slots = [*values, *[b""] * (_LISTS - len(values))]
    return struct.pack("<I", len(values)) + b"".join(struct.pack("<H64s", len(value), value) for value in slots)


def _subject_public_key_info(public: TpmPublic) -> bytes:
    return public_key_of(public).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(spki: bytes) -> str:
    return f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(spki).decode()}-----END PUBLIC KEY-----\n"


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
