"""Sealed models for the programs that load them, in the shape of safetensors.

::

    from nodeseal.loader.torch import load_file

    tensors = load_file("llama/model.safetensors")

    from nodeseal.loader import open_model, open_tensors

    with open_model("llama", on_revoked=print) as model:
        config = bytes(model.read("config.json"))
        with open_tensors(model, "model.safetensors", framework="pt") as file:
            rows = file.get_slice("lm_head.weight")[:1000]

Keys come from the agent of this node, once the verifier found the node trustworthy. To seal, see
:mod:`nodeseal.loader.source` and :mod:`nodeseal.loader.seal`.
"""

from nodeseal.loader.agent_keys import AgentKeys
from nodeseal.loader.events import Ended, Verified
from nodeseal.loader.keys import InsecureFileKeys, KeyProvider, Lease, OnlyModel
from nodeseal.loader.model import SealedModel, open_model
from nodeseal.loader.tensors import TensorFile, load_into, open_tensors, safe_open

__all__ = [
    "AgentKeys",
    "Ended",
    "InsecureFileKeys",
    "KeyProvider",
    "Lease",
    "OnlyModel",
    "SealedModel",
    "TensorFile",
    "Verified",
    "load_into",
    "open_model",
    "open_tensors",
    "safe_open",
]
