"""PKCS#11 tokens of SoftHSM2, each in its own folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeseal.verifier.config import TokenSettings
from support.verifier import RunningVerifier, a_verifier

NAME = "nodeseal test"
PIN = "91827364"
SO_PIN = "55443322"
_MODULES = ("/usr/lib/softhsm", "/usr/lib/*/softhsm", "/usr/lib64/pkcs11", "/usr/lib64", "/usr/local/lib/softhsm")


@dataclass(frozen=True, slots=True)
class SoftToken:
    """A token of SoftHSM2.

    Attributes:
        folder: SoftHSM's own, with its configuration.
        module: its library.
    """

    folder: Path
    module: Path

    def settings(self) -> TokenSettings:
        """Return how a verifier is told of it."""
        return TokenSettings(module=self.module, name=NAME, pin=self.pin_file())

    def pin_file(self, pin: str = PIN) -> Path:
        """Write the PIN where a verifier reads it."""
        path = self.folder / "pin"
        path.write_text(f"{pin}\n")
        path.chmod(0o600)
        return path

    def configure(self, path: Path) -> None:
        """Tell a ``verifier.yaml`` of it."""
        settings = self.settings()
        line = f'  pkcs11: {{module: "{settings.module}", token: "{settings.name}", pin: "{settings.pin}"}}\n'
        path.write_text(path.read_text().replace("keys:\n", f"keys:\n{line}"))

    def remove(self) -> None:
        """Take the token away."""
        (self._tokens / self._one(self._tokens)).rename(self._away / self._one(self._tokens))

    def put_back(self) -> None:
        """Undo :meth:`remove`."""
        (self._away / self._one(self._away)).rename(self._tokens / self._one(self._away))

    def drop_keys(self) -> None:
        """Delete every object, as somebody with the token's tools could."""
        for path in (self._tokens / self._one(self._tokens)).glob("*.object"):
            if path.name != "token.object":
                path.unlink()

    @property
    def _tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def _away(self) -> Path:
        return self.folder / "away"

    @staticmethod
    def _one(folder: Path) -> str:
        (entry,) = folder.iterdir()
        return entry.name


def soft_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """Make a token below ``folder`` that alone is seen during the test, or skip it where SoftHSM2 is not installed."""
    found = [path for pattern in _MODULES for path in Path("/").glob(f"{pattern[1:]}/libsofthsm2.so")]
    if not found or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed: no PKCS#11 token to test with (package softhsm2)")
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    token = SoftToken(folder / "softhsm", found[0])
    for each in (token._tokens, token._away):
        each.mkdir(parents=True)
    settings = f"directories.tokendir = {token._tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    configuration = token.folder / "softhsm2.conf"
    configuration.write_text(settings)
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    command = ["softhsm2-util", "--init-token", "--free", "--label", NAME, "--so-pin", SO_PIN, "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return token


@contextmanager
def a_verifier_with(token: SoftToken, folder: Path) -> Iterator[RunningVerifier]:
    """Run a verifier that may keep keys in the token."""
    with a_verifier(folder, start=False, interval_seconds=20) as made:
        token.configure(made.folder / "verifier.yaml")
        made.start()
        yield made
