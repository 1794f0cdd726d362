"""The readable part of a model as a folder, for libraries that read configuration and tokenizers from a path.

All of it is verified, and nobody else can change it. Sealed files are in memory only. Plain files are copied, because
libraries resolve their paths.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="nodeseal-")))
        for file in model.files():
            target = folder / file.path
            if isinstance(file, PlainFile):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(model.read(file.path))
            elif may_stay_plain(file.path):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(stack.enter_context(model.to_memfd(file.path)).path)
        yield folder
