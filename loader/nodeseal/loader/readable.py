"""A model as a folder with paths, for libraries that insist on them. All of it is verified; nobody else can change it.

:func:`readable_folder` has configuration, tokenizer and code. :func:`folder_in_memory` has the weights too, for
libraries that know no other way: sentence-transformers, diffusers, PEFT. Sealed files are in memory only. Plain files
are copied, because libraries resolve their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nodeseal.loader.model import SealedModel
from nodeseal.loader.source import may_stay_plain
from nodeseal.sealed.content import PlainFile


@contextmanager
def readable_folder(model: SealedModel) -> Iterator[Path]:
    """Make a private folder with every file of the model except weights. It is deleted after the block.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the lease has ended, or ends during the read.
        Unavailable: the file cannot be read.
    """
    plain = {file.path for file in model.files() if isinstance(file, PlainFile)}
    with folder_in_memory(model, lambda path: path in plain or may_stay_plain(path)) as folder:
        yield folder


@contextmanager
def folder_in_memory(model: SealedModel, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Path]:
    """Make a private folder with the files of the model. It is deleted after the block.

    Each sealed file is a link to a file in memory, which only this process can open, verified as by
    :meth:`SealedModel.to_memfd`. Load inside the block. What a library still maps afterwards stays readable to it, and
    core dumps leave it out.

    Args:
        model: the model; it stays open.
        wanted: tells by its path whether a file is needed; weights that nobody needs would take memory.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the lease has ended, or ends during the read.
        Unavailable: the file cannot be read, or there is no memory for it.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="nodeseal-")))
        for file in model.files():
            if not wanted(file.path):
                continue
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file, PlainFile):
                target.write_bytes(model.read(file.path))
            else:
                target.symlink_to(stack.enter_context(model.to_memfd(file.path)).path)
        yield folder
