"""Runs one decoder under atheris: ``fuzz_decoders.py NAME [libFuzzer options] [corpus folders]``.

An exception that is not nodeseal's own ends the run and leaves the input behind. ``make fuzz`` runs them all.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["nodeseal", "json", "rfc8785"]):
    from nodeseal.errors import NodesealError
    from support.decoders import DECODERS


def main() -> None:
    """Fuzz the decoder that the first argument names."""
    decode = DECODERS[sys.argv.pop(1)].decode

    def once(raw: bytes) -> None:
        with contextlib.suppress(NodesealError):
            decode(raw)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
