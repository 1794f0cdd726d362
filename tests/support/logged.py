"""Nodes with synthetic TPMs that boot by a log and measure what they run, and the goldens that know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nodeseal.evidence.binding import Purpose
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import ALWAYS, FileDigest, RuntimeRules, Window
from nodeseal.swtpm.ima import Ima
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2
from support.admin import admitted
from support.fake_node import FakeNode
from support.verifier import RunningVerifier

SHA256 = HashAlg.SHA256
BOOT_PCRS = PcrSelection.of({SHA256: range(10)})


class LoggedNode(FakeNode):
    """A node whose firmware left a boot log and whose kernel keeps an IMA log."""

    def __init__(self, verifier: RunningVerifier, tpm: SyntheticTpm, folder: Path) -> None:
        super().__init__(verifier, tpm)
        self._file = folder / f"ima-{id(self)}"
        self.reboot()

    def reboot(self, chain: SampleBoot = SampleBoot()) -> None:  # noqa: B008 - frozen
        """Boot a chain; the logs start anew."""
        self.start_by(sample_boot_log(chain))

    def start_by(self, boot_log: bytes) -> None:
        """Boot by a log; the IMA log starts anew."""
        self.boot_log = boot_log
        self.tpm.boot(self.boot_log)
        self._file.unlink(missing_ok=True)
        self._ima = Ima(self._file, self.tpm.extend)
        self._ima.begin(self.boot_pcrs(), SHA256)

    def boot_pcrs(self) -> dict[int, bytes]:
        """Return the values of PCR 0 to 9."""
        return dict(enumerate(self.tpm.read_pcrs(BOOT_PCRS)))

    def run(self, path: str, content: bytes) -> None:
        """Run a file: IMA measures it."""
        self._ima.measure(path.encode(), SHA256.digest(content))

    def answer(
        self, challenge: attestation_pb2.Challenge, purpose: Purpose = Purpose.ATTEST
    ) -> list[attestation_pb2.Evidence]:
        """Return the honest answer, with the IMA log as it is now."""
        self.ima_log = self._file.read_bytes()
        return super().answer(challenge, purpose)

    def golden(
        self,
        files: Mapping[str, Iterable[bytes]] | None = None,
        *,
        valid: Window = ALWAYS,
        nodes: Mapping[str, str] | None = None,
        name: str = "rack-a",
    ) -> bytes:
        """Return the document of a golden that pins what the node booted and, if they are given, what it may run."""
        pcrs = {pcr: frozenset({value}) for pcr, value in self.boot_pcrs().items() if pcr < 8}
        runtime = None
        if files is not None:
            allowed = {
                path: tuple(FileDigest(digest=SHA256.digest(content), valid=valid) for content in contents)
                for path, contents in files.items()
            }
            runtime = RuntimeRules(files=allowed)
        return dump_golden(Golden(name=name, pcrs={SHA256: pcrs}, runtime=runtime, nodes=dict(nodes or {})))


async def admitted_logged_node(verifier: RunningVerifier, folder: Path) -> LoggedNode:
    """Return a node with logs that is admitted; it has not been judged yet."""
    return await admitted(LoggedNode(verifier, SyntheticTpm(verifier.vendor), folder))
