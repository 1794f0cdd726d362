"""tpm2-tools over one software TPM: keys and quotes that nodeseal had no part in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.bare_tpm import bare_tpm

AK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
SECONDS = 20


@dataclass(frozen=True)
class ToolQuote:
    """Files of one quote, as tpm2_quote wrote them."""

    attest: Path
    signature: Path
    pcrs: Path
    public: Path
    nonce: str


@dataclass(frozen=True)
class TpmTools:
    """The commands of tpm2-tools, on one TPM, in one folder."""

    tcti: str
    folder: Path

    def run(self, command: str, *arguments: str | Path) -> str:
        """Run a command that must succeed; return its output."""
        done = self._start(command, arguments)
        self._start("tpm2_flushcontext", ("--transient-object",))  # there is no resource manager
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def make_ak(self, algorithm: str) -> str:
        """Create a restricted signing key, ``ecc256:ecdsa-sha256:null`` for instance; return its name here."""
        name = algorithm.replace(":", "_")
        if not (self.folder / f"{name}.ctx").exists():
            self.run(
                "tpm2_createprimary", "-C", "e", "-G", algorithm, "-a", AK_ATTRIBUTES, "-c", self.folder / f"{name}.ctx"
            )
            for form in ("tpmt", "pem", "der", "tss"):
                self.run(
                    "tpm2_readpublic", "-c", self.folder / f"{name}.ctx", "-f", form, "-o", self.public(name, form)
                )
        return name

    def public(self, name: str, form: str) -> Path:
        """Return the file with a key's public half as ``tpmt``, ``tss`` (TPM2B), ``pem`` or ``der``."""
        return self.folder / f"{name}.{form}"

    def quote(self, name: str, selection: str, nonce: str, *options: str) -> ToolQuote:
        """Quote with tpm2_quote."""
        message, signature, pcrs = (self.folder / f"{name}.{part}" for part in ("msg", "sig", "pcrs"))
        made = ToolQuote(message, signature, pcrs, self.public(name, "pem"), nonce)
        qualification: tuple[str, ...] = ("-q", nonce) if nonce else ()
        scheme, _, hash_alg = name.split("_")[1].partition("-")
        qualification += ("--scheme", scheme, "-g", hash_alg)
        out = ("-m", made.attest, "-s", made.signature, "-o", made.pcrs)
        self.run("tpm2_quote", "-c", self.folder / f"{name}.ctx", "-l", selection, *qualification, *out, *options)
        return made

    def check(self, quote: ToolQuote, *options: str) -> bool:
        """Tell whether tpm2_checkquote accepts a quote."""
        files = ("-u", quote.public, "-m", quote.attest, "-s", quote.signature, "-f", quote.pcrs)
        qualification = ("-q", quote.nonce) if quote.nonce else ()
        return self._start("tpm2_checkquote", (*files, *qualification, *options)).returncode == 0

    def _start(self, command: str, arguments: tuple[str | Path, ...]) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.tcti}
        return subprocess.run(
            [command, *map(str, arguments)], env=environment, capture_output=True, timeout=SECONDS, check=False
        )


@contextmanager
def tpm_tools(folder: Path) -> Iterator[TpmTools]:
    """Yield tpm2-tools on a fresh software TPM; skip, saying so, where they are not installed."""
    if shutil.which("tpm2_quote") is None:
        pytest.skip("tpm2-tools are not installed")
    with bare_tpm() as tcti:
        yield TpmTools(tcti, folder)
