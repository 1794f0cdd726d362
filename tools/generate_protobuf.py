"""Generates the protobuf modules below the folder given: ``generate_protobuf.py protos``."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]  # ships no types

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"


def generate(out: Path) -> None:
    """Write the generated modules of every .proto file below ``out``.

    Raises:
        SystemExit: protoc refused; it has said why on stderr.
    """
    bin_folder = Path(sys.executable).parent
    plugins = [f"--plugin={name}={bin_folder / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    includes = [f"-I{PROTOS}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    if protoc.main(["protoc", *includes, *plugins, *outputs, *files]):
        raise SystemExit(1)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
