"""``python -m nodeseal.verifier``: the same as ``nodeseal-verifier``."""

from nodeseal.verifier.main import main

main()
