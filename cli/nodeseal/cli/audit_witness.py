"""``nodeseal audit witness``: a second party that cosigns checkpoints of a log and refuses a second history.

It speaks C2SP tlog-witness 1.0.0 over HTTP, on loopback unless told otherwise. The checkpoint that it cosigned last is
in a synced file before the cosignature leaves, so neither a crash nor a restart makes it cosign a fork. Its key is in
the same folder: run it on a host, and under a person, that the verifier's root has no power over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.files import naming, read_private, read_small, replace_file, write_new
from nodeseal.tlog.checkpoint import Checkpoint, cosign, open_checkpoint
from nodeseal.tlog.note import MAX_NOTE, SignatureType, VerifierKey, parse_key_name, parse_vkey
from nodeseal.tlog.proof_text import MAX_PROOF
from nodeseal.tlog.witnessing import WitnessAnswer, WitnessStatus, asked_origin, witness

_SECONDS: Final = 10.0
"""For one request to arrive."""
_AT_ONCE: Final = 16
_MAX_VKEY: Final = 4096


class Witness:
    """The memory and the key of a witness.

    Args:
        folder: of both; it is made if it is not there.
        name: of the witness.
        logs: keys of the logs that it witnesses.

    Raises:
        MalformedInput: the key in the folder is none.
        Unavailable: the folder cannot be used.
    """

    def __init__(self, folder: Path, name: str, logs: Mapping[str, VerifierKey]) -> None:
        with naming(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder: Final = folder
        self._logs: Final = logs
        self._one: Final = threading.Lock()
        path = folder / "witness.key"
        if not path.exists():
            write_new(path, new_log_key())
        self._signer: Final = Ed25519Signer(read_private(path, "witness.key"), str(path))
        self.key: Final = VerifierKey(name=name, type=SignatureType.COSIGNATURE, public=self._signer.public)

    def answer(self, raw: bytes, at: datetime) -> tuple[WitnessAnswer, str]:
        """Decide about a request; return the decision and the line of the cosignature, if there is one.

        Raises:
            NodesealError: what it remembers cannot be read or written; nothing is cosigned.
        """
        with self._one:  # looking and remembering are one step
            try:
                origin = asked_origin(raw)
            except MalformedInput as error:
                return WitnessAnswer(status=WitnessStatus.MALFORMED, reason=str(error)), ""
            answer = witness(raw, self._logs, self._known(origin))
            if answer.signed is None:
                return answer, ""
            self._remember(origin, answer.signed.raw)
            return answer, cosign(answer.signed, self.key.name, self._signer, at).line

    def _known(self, origin: str) -> Checkpoint | None:
        path = self._place(origin)
        if origin not in self._logs or not path.exists():
            return None
        return open_checkpoint(read_small(path, MAX_NOTE), self._logs[origin]).checkpoint

    def _remember(self, origin: str, note: bytes) -> None:
        path = self._place(origin)
        replace_file(path, note, path.with_suffix(".new"))

    def _place(self, origin: str) -> Path:
        return self._folder / f"{sha256(origin.encode()).hexdigest()[:32]}.checkpoint"


class _Server(ThreadingHTTPServer):
    """Answers a few requests at once."""

    daemon_threads = True
    request_queue_size = _AT_ONCE

    def __init__(self, address: tuple[str, int], made: Witness) -> None:
        super().__init__(address, _Handler)
        self.witness: Final = made
        self.seats: Final = threading.BoundedSemaphore(_AT_ONCE)


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = _SECONDS
    server: _Server

    def do_POST(self) -> None:
        """Answer add-checkpoint."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            self._say(WitnessStatus.UNKNOWN_LOG, "only add-checkpoint is here\n")
        elif not length.isascii() or not length.isdigit() or int(length) > MAX_PROOF:
            self._say(WitnessStatus.MALFORMED, f"a body of at most {MAX_PROOF} bytes, with its length\n")
        elif not self.server.seats.acquire(blocking=False):
            self._say(503, "too many requests at once\n")
        else:
            try:
                self._answer(self.rfile.read(int(length)))
            finally:
                self.server.seats.release()

    def _answer(self, raw: bytes) -> None:
        try:
            answer, line = self.server.witness.answer(raw, datetime.now(UTC))
        except NodesealError as error:
            self._say(500, "the witness cannot use its memory\n")
            typer.echo(f"cannot answer: {error}", err=True)
            return
        typer.echo(f"{answer.status.value} {answer.status.name.lower()}: {answer.reason or answer.known}", err=True)
        if answer.status is WitnessStatus.CONFLICT:
            self._say(answer.status, f"{answer.known}\n", "text/x.tlog.size")
        else:
            self._say(answer.status, line or f"{answer.reason}\n")

    def _say(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: each decision has its line."""


@contextmanager
def listening(made: Witness, host: str, port: int) -> Iterator[_Server]:
    """Listen while the block runs; whoever calls ``serve_forever`` answers.

    Raises:
        Unavailable: the address is taken.
    """
    with naming(Path(f"{host}:{port}")):
        server = _Server((host, port), made)
    with server:
        yield server


def read_vkey(path: Path) -> VerifierKey:
    """Return the key in a file that ``nodeseal-verifier log-key`` or a witness wrote.

    Raises:
        MalformedInput: it holds no verifier key.
        Unavailable: it cannot be read.
    """
    return parse_vkey(read_small(path, _MAX_VKEY).decode("utf-8", "replace").strip())


def witness_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Its key and memory; made if it is not there.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Its name, such as example.org/witness-1.")],
    log_key: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Key of a log (nodeseal-verifier log-key); repeat for more.")
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 7450,
) -> None:
    """Run a witness until Ctrl-C: cosign checkpoints that go on from the last one, refuse any other history.

    The first line is the witness's own key, for those who verify.
    """
    logs = {key.name: key for key in map(read_vkey, log_key)}
    made = Witness(folder, parse_key_name(name), logs)
    with listening(made, host, port) as server:
        typer.echo(made.key.text)
        typer.echo(f"listening on http://{host}:{server.server_address[1]}", err=True)
        server.serve_forever(poll_interval=0.2)
