"""Runs in the environment with PyTorch: for each line, loads once in the way it names and prints GB/s on the wall.

Arguments: a folder with ``plain``, ``sealed`` and ``key``, as :mod:`benchmarks.loading` makes it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from safetensors import safe_open as plain_open

from nodeseal.crypto import floe
from nodeseal.crypto.secret import allocate
from nodeseal.loader import InsecureFileKeys, safe_open

FOLDER = Path(sys.argv[1])
FILE = "model.safetensors"
PLAIN, SEALED, STORED = FOLDER / "plain" / FILE, FOLDER / "sealed" / FILE, FOLDER / "sealed" / f"{FILE}.sealed"
CORES = sorted(os.sched_getaffinity(0))[:2]
PIECE, TAG = 1 << 20, 16
BUFFERS = [allocate(2 * PIECE + TAG) for _ in CORES]


def main() -> None:
    """Serve until standard input ends."""
    os.sched_setaffinity(0, CORES)
    torch.set_num_threads(len(CORES))
    keys, params = InsecureFileKeys(FOLDER / "key"), parameters()

    def sealed(*, unseen: bool) -> None:
        with safe_open(SEALED, "pt", keys=keys) as file:
            file.load_into(params, unseen=unseen)

    ways: dict[str, Callable[[], None]] = {
        "plain": lambda: plain(params),
        "direct": lambda: sealed(unseen=True),
        "verified": lambda: sealed(unseen=False),
        "no cipher": lambda: without_cipher(lambda: sealed(unseen=True)),
        "raw": lambda: raw(params, verified=False),
        "raw, verified": lambda: raw(params, verified=True),
        "one thread": lambda: on_one_core(lambda: sealed(unseen=True)),
    }
    for way in ways.values():
        way()
    for line in sys.stdin:
        start = time.perf_counter()
        ways[line.strip()]()
        print(PLAIN.stat().st_size / 1e9 / (time.perf_counter() - start), flush=True)  # noqa: T201 - the answer


def parameters() -> dict[str, torch.Tensor]:
    """Make tensors of the right shapes, touched once."""
    with plain_open(PLAIN, "pt") as file:
        return {name: torch.zeros_like(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping


def plain(params: dict[str, torch.Tensor]) -> None:
    """Load as people do: map the plain file and copy."""
    with plain_open(PLAIN, "pt") as file:
        for name, param in params.items():
            param.copy_(file.get_tensor(name))


def without_cipher(load: Callable[[], None]) -> None:
    """Load with ciphertext copied to where plaintext would go."""
    decrypt = floe.Decryptor.decrypt_into

    def copy(self: floe.Decryptor, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        if position == 0:  # the header of the plain file must be readable
            decrypt(self, position, segment, out, final=final)
            return
        target, source = ctypes.c_char.from_buffer(out), ctypes.c_char.from_buffer(segment, 16)
        ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), len(out))

    floe.Decryptor.decrypt_into = copy  # type: ignore[method-assign]
    try:
        load()
    finally:
        floe.Decryptor.decrypt_into = decrypt  # type: ignore[method-assign]


def raw(params: dict[str, torch.Tensor], *, verified: bool) -> None:
    """Read pieces into private memory and decrypt them, and no more: nobody is faster who trusts no mapping.

    The key is another one; that a tag does not hold shows after all the work.
    """
    left = enumerate([memory(param, at) for param in params.values() for at in range(0, param.nbytes, PIECE)])
    cipher = AESGCM(bytes(32))

    def work(buffer: memoryview) -> None:
        ciphertext, plaintext = buffer[: PIECE + TAG], buffer[PIECE + TAG :]
        for number, piece in left:
            os.preadv(descriptor, [ciphertext], number * PIECE)
            with suppress(InvalidTag):
                cipher.decrypt_into(bytes(12), ciphertext, None, plaintext if verified else piece)
            if verified:
                target, source = ctypes.c_char.from_buffer(piece), ctypes.c_char.from_buffer(plaintext)
                ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), PIECE)

    with STORED.open("rb") as file, ThreadPoolExecutor(len(CORES)) as pool:
        descriptor = file.fileno()
        list(pool.map(work, BUFFERS))


def memory(param: torch.Tensor, at: int) -> memoryview:
    """Return a piece of a parameter's memory."""
    return memoryview((ctypes.c_ubyte * PIECE).from_address(param.data_ptr() + at)).cast("B")


def on_one_core(load: Callable[[], None]) -> None:
    """Load with one thread on one core."""
    os.sched_setaffinity(0, CORES[:1])
    try:
        load()
    finally:
        os.sched_setaffinity(0, CORES)


main()
