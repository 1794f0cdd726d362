"""The agent: the daemon of a node, which attests, asks for keys and serves them to local loaders.

The modules here wire its rooms and keep the node's identity; they touch files of the agent's state and the clock. The
TPM belongs to :mod:`~nodeseal.agent.tpm`, the network to :mod:`~nodeseal.agent.calls`.
"""

import os

# gRPC reads it when it is imported. Its threads write their lines themselves, and wait for a reader who stands still.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
