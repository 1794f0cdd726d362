"""Runs in the peers' environment: reads one quote, then for each number of seconds prints checks per second."""

from __future__ import annotations

import base64
import json
import sys
import time

from keylime.tpm import tpm_util  # type: ignore[import-not-found]  # installed in .venv-peers only


def main() -> None:
    """Serve until standard input ends."""
    quote = json.loads(sys.stdin.readline())
    key = quote["key"].encode()
    nonce, signature, attest, pcrs = (base64.b64decode(quote[name]) for name in ("nonce", "signature", "quote", "pcrs"))
    for line in sys.stdin:
        seconds, done, start = float(line), 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(50):
                tpm_util.checkquote(key, nonce, signature, attest, pcrs, "sha256")
            done += 50
        print(done / spent, flush=True)  # noqa: T201 - the answer


main()
