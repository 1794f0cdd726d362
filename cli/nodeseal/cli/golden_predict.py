"""``nodeseal golden predict``: the golden for after an update, before the update is rolled out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.golden_source import read_golden
from nodeseal.cli.output import Block, FactList, JsonOption, Rows
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import read_regular
from nodeseal.golden.document import dump_golden
from nodeseal.golden.predict import Prediction, predict
from nodeseal.golden.predicted_events import Renaming, Replacement
from nodeseal.golden.rules import ReferenceEvent
from nodeseal.ids import parse_name
from nodeseal.inert import inert
from nodeseal.uefi.pe import MAX_IMAGE

ReplaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--replace",
        metavar="[OLD=]FILE",
        help="A new boot image, unified kernel image, kernel or file of the boot loader, and the name of the one it "
        "replaces if that differs, or the number of its reference event. May be repeated.",
    ),
]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Words that change in command lines and boot loader commands. May be repeated.",
    ),
]


def predict_golden(  # noqa: PLR0913 - a command's options
    golden: Annotated[
        Path, typer.Argument(metavar="GOLDEN", exists=True, dir_okay=False, help="The golden that nodes match now.")
    ],
    name: Annotated[str, typer.Option(help="Name of the new golden.")],
    replace: ReplaceOption = None,
    rename: RenameOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of stdout.")] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the old values valid too, for a rollout.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the PCRs and digests that nodes will have after they boot with new files.

    Nothing is guessed beyond the files: an image by another signer also changes PCR 7, and another boot loader may
    measure other things. Compare the prediction with a first node: nodeseal golden check.
    """
    wanted = output.argument(lambda text: parse_name(text, "golden name"))(name)
    replacements = [_replacement(text) for text in replace or ()]
    renamings = [Renaming(old=old, new=new) for old, new in (_pair(text) for text in rename or ())]
    if not replacements and not renamings:
        raise typer.BadParameter("nothing to predict: give --replace or --rename")
    prediction = predict(read_golden(golden), replacements, renamings, name=wanted, keep=keep)
    document = dump_golden(prediction.golden)
    if out is not None:
        output.write_file(out, document)
    parts = _prediction_parts(prediction, out) if out else document
    output.show(_plain_prediction(prediction, document), parts, as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not old or not equals:
        raise typer.BadParameter(f"{text[:80]!a} is not OLD=NEW")
    return old, new


def _replacement(text: str) -> Replacement:
    target, path = _pair(text) if "=" in text else (Path(text).name, text)
    try:
        content = read_regular(Path(path), MAX_IMAGE + 1)
    except Unavailable as error:
        raise MalformedInput(str(error)) from error
    return Replacement(target=target, content=content)


def _prediction_parts(prediction: Prediction, out: Path) -> Iterator[Block]:
    yield Rows(("PCR", "event", "now", "then"), map(_change_row, prediction.changed), empty="nothing changes")
    golden = prediction.golden
    yield FactList((("golden", golden.name), ("digest", golden.digest), ("file", str(out))))


def _change_row(step: tuple[ReferenceEvent | None, ReferenceEvent | None]) -> tuple[str, ...]:
    old, new = step
    shown = new or old
    return (str(shown.pcr) if shown else "", inert(shown.what) if shown else "", _digest(old), _digest(new))


def _digest(event: ReferenceEvent | None) -> str:
    return "-" if event is None else output.short_digest(next(iter(event.digests.values())))


def _plain_prediction(prediction: Prediction, document: bytes) -> dict[str, object]:
    return {
        "name": prediction.golden.name,
        "digest": prediction.golden.digest,
        "pcrs": {
            bank.hashlib_name: {str(pcr): sorted(value.hex() for value in allowed) for pcr, allowed in rows.items()}
            for bank, rows in prediction.golden.pcrs.items()
        },
        "changed": [dict(_changes(old, new)) for old, new in prediction.changed],
        "document": document.decode(),
    }


def _changes(old: ReferenceEvent | None, new: ReferenceEvent | None) -> Iterator[tuple[str, object]]:
    shown = new or old
    if shown is not None:
        yield "pcr", shown.pcr
        yield "what", shown.what
    for key, event in (("now", old), ("then", new)):
        yield key, None if event is None else {bank.hashlib_name: value.hex() for bank, value in event.digests.items()}
