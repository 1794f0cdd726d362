"""Runs in the environment with PyTorch: reads a peer's name, then for each line loads once and prints GB/s on the wall.

The answer to the name is ``ready``, or why the peer does not run. Argument: a folder with ``plain``, ``sealed`` and
``key``, as :mod:`benchmarks.loading` makes it; the peer's encrypted file is added.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import load_file as load_plain

from nodeseal.loader import InsecureFileKeys, safe_open

PEERS = Path(__file__).resolve().parents[1] / ".venv-loading-peers"
FOLDER = Path(sys.argv[1])
FILE = "model.safetensors"
CORES = sorted(os.sched_getaffinity(0))[:2]

Tensors = dict[str, torch.Tensor]


def main() -> None:
    """Serve until standard input ends."""
    os.sched_setaffinity(0, CORES)
    torch.set_num_threads(len(CORES))
    sys.path.append(str(PEERS))
    plain = load_plain(FOLDER / "plain" / FILE)
    name = sys.stdin.readline().strip()
    try:
        load = {"cryptotensors": cryptotensors, "tensorizer": tensorizer}[name](plain)
    except (ImportError, RuntimeError) as error:  # tensorizer without libsodium is a RuntimeError
        print(f"{name} does not run here: {error}", flush=True)  # noqa: T201 - the answer
        return
    if not same(load(), plain) or not same(sealed(), plain):
        print(f"{name} gives other tensors", flush=True)  # noqa: T201 - the answer
        return
    params = {name: torch.zeros_like(tensor) for name, tensor in plain.items()}
    ways: dict[str, Callable[[], object]] = {
        "sealed": sealed,
        "peer": load,
        "sealed into parameters": lambda: fill_from_sealed(params),
        "peer into parameters": lambda: fill(params, load()),
    }
    print("ready", flush=True)  # noqa: T201 - the answer
    for line in sys.stdin:
        start = time.perf_counter()
        kept = ways[line.strip()]()
        print((FOLDER / "plain" / FILE).stat().st_size / 1e9 / (time.perf_counter() - start), flush=True)  # noqa: T201 - the answer
        del kept  # giving memory back is nobody's loading time


def sealed() -> Tensors:
    """Load the sealed file into new tensors."""
    with safe_open(FOLDER / "sealed" / FILE, "pt", keys=InsecureFileKeys(FOLDER / "key")) as file:
        return file.get_tensors()


def fill_from_sealed(params: Tensors) -> None:
    """Decrypt straight into ``params``."""
    with safe_open(FOLDER / "sealed" / FILE, "pt", keys=InsecureFileKeys(FOLDER / "key")) as file:
        file.load_into(params, unseen=True)


def fill(params: Tensors, tensors: Tensors) -> None:
    """Copy what was loaded."""
    for name, tensor in tensors.items():
        params[name].copy_(tensor)


def cryptotensors(tensors: Tensors) -> Callable[[], Tensors]:
    """Encrypt and sign as its guides do, with its default chunks, which all cores decrypt; keys are registered."""
    peer, peer_torch = import_module("cryptotensors"), import_module("cryptotensors.torch")
    ed25519 = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    private = ed25519.Ed25519PrivateKey.generate()
    public = text(private.public_key().public_bytes_raw())
    encrypting = {"kty": "oct", "alg": "aes256gcm", "kid": "encrypt", "k": text(secrets.token_bytes(32))}
    signing = {"kty": "okp", "alg": "ed25519", "kid": "sign", "d": text(private.private_bytes_raw()), "x": public}
    path = FOLDER / "model.cryptotensors"
    peer_torch.save_file(tensors, path, config={"enc_key": encrypting, "sign_key": signing})
    peer.register_direct_key_provider(keys=[encrypting, signing])
    return lambda: peer_torch.load_file(path)


def tensorizer(tensors: Tensors) -> Callable[[], Tensors]:
    """Encrypt with a random key; load with as many readers as cores, without hashes, which MACs make needless."""
    peer = import_module("tensorizer")
    path = str(FOLDER / "model.tensors")
    encryption = peer.EncryptionParams.random()
    serializer = peer.TensorSerializer(path, encryption=encryption)
    serializer.write_state_dict(tensors)
    serializer.close()
    decryption = peer.DecryptionParams.from_key(encryption.key)

    def load() -> Tensors:
        with peer.TensorDeserializer(path, device="cpu", num_readers=len(CORES), encryption=decryption) as loaded:
            return dict(loaded)

    return load


def same(tensors: Tensors, plain: Tensors) -> bool:
    """Compare bit by bit: random weights hold NaNs."""
    return tensors.keys() == plain.keys() and all(
        torch.equal(tensors[name].view(torch.int16), tensor.view(torch.int16)) for name, tensor in plain.items()
    )


def text(raw: bytes) -> str:
    """Return ``raw`` as keys in JSON hold it."""
    return base64.b64encode(raw).decode()


main()
