"""``python -m nodeseal.verifier``: the same as ``nodeseal-verifier``."""

from nodeseal.entry import nodeseal_verifier

nodeseal_verifier()
