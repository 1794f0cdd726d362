"""Runs in the peers' environment: reads one IMA log, then for each number of seconds prints entries per second."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import ModuleType

sys.modules["gpg"] = ModuleType("gpg")  # bindings of a system library, used for signed policies only
from keylime.common.algorithms import Hash  # type: ignore[import-not-found]  # noqa: E402 - installed in .venv-peers only
from keylime.ima import ima  # type: ignore[import-not-found]  # noqa: E402 - installed in .venv-peers only


def main() -> None:
    """Serve until standard input ends."""
    logging.disable(logging.CRITICAL)
    log = json.loads(sys.stdin.readline())
    policy = ima.empty_policy()
    policy["digests"] = log["digests"]
    for line in sys.stdin:
        seconds, done, start = float(line), 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            _, failure = ima.process_measurement_list(None, log["lines"], policy, log["pcr"], hash_alg=Hash.SHA256)
            if failure:
                sys.exit(1)
            done += len(log["lines"])
        print(done / spent, flush=True)  # noqa: T201 - the answer


main()
