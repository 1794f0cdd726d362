"""Sealed models for the programs that load them.

::

    from nodeseal.loader import load_file, open_model

    tensors = load_file("llama/model.safetensors")

    with open_model("llama", on_revoked=print) as model:
        config = bytes(model.read("config.json"))
        tensors = model.load("model.safetensors")

Keys come from the agent of this node, once the verifier found the node trustworthy. To seal, see
:mod:`nodeseal.loader.source` and :mod:`nodeseal.loader.seal`.
"""

from nodeseal.loader.agent_keys import AgentKeys
from nodeseal.loader.keys import InsecureFileKeys, KeyProvider, Lease
from nodeseal.loader.model import SealedModel, load_file, open_model

__all__ = ["AgentKeys", "InsecureFileKeys", "KeyProvider", "Lease", "SealedModel", "load_file", "open_model"]
