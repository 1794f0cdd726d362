"""Sealed models for the programs that load them, in the shape of safetensors.

::

    from nodeseal.loader.torch import load_file

    tensors = load_file("llama/model.safetensors")

    from nodeseal.loader import open_model, open_tensors

    with open_model("llama", on_revoked=print) as model:
        config = bytes(model.read("config.json"))
        with open_tensors(model, "model.safetensors", framework="pt") as file:
            rows = file.get_slice("lm_head.weight")[:1000]

Keys come from the agent of this node, after the verifier found the node trustworthy. What follows lists the modules by
subject; this package exports what programs use.

- Open and read: ``model`` (start here), ``opened`` (one open file), ``reader`` (its segments), ``crew`` (threads),
  ``targets`` (memory that plaintext goes to), ``guard`` (lease and first failure), ``events``.
- Keys and leases: ``keys``, ``agent_keys`` (the agent's socket).
- Where models are stored: ``folders`` (disk, memory), ``disk`` (files of the former), ``web`` and ``timed_response``
  (web servers).
- Other views: ``file_view`` (file object, memfd), ``readable`` (a folder of configuration and tokenizer, or of all).
- Tensors: ``safetensors`` (the header), ``tensors``, ``tensor_slice``, ``slices``, ``weights`` (all files of a model),
  ``lazy_tensor``, ``library_errors`` (in the shape of safetensors' own).
- Libraries of tensors: ``frameworks`` (their interface), ``numpy``, ``torch``.
- Serving and training stacks: ``transformers``, ``arguments`` (of its function), ``references`` (to code and kernels
  elsewhere), ``peft``, ``vllm``, ``vllm_lora`` (adapters), ``sglang``, ``serving`` (what engines share).
- Seal: ``source`` (which files, and how), ``precheck`` (would they open?), ``seal``, ``save`` (tensors from memory),
  ``staging`` (a folder that appears whole), ``reseal`` (a new data key), ``reslot`` (other model keys).
- Without a key: ``glance`` (are the files complete?), ``measure`` (what the machine brings). For all: ``closing``.

The loader may touch data keys, the agent's socket, model files, web servers and clocks. It imports no gRPC, protobuf or
YAML, because it lives inside serving stacks.
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
