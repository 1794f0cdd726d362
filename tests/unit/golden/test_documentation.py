"""``docs/goldens.md`` shows every key, and what it shows is a golden."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from nodeseal.golden.document import parse_golden
from nodeseal.golden.model import document_of
from nodeseal.golden.schema import golden_schema
from support.goldens import PUBLIC_KEY

PAGE = (Path(__file__).parents[3] / "docs/goldens.md").read_text()


def _example() -> str:
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "runtime:" in block)
    whole = re.sub(r"([0-9a-f]{4})…", lambda match: hashlib.sha256(match[1].encode()).hexdigest(), text)
    return whole.replace("        …\n", "".join(f"        {line}\n" for line in PUBLIC_KEY.splitlines()[1:-1]))


def test_the_example_is_a_golden_with_every_key() -> None:
    image, value = hashlib.sha256(b"c0ff").digest(), hashlib.sha256(b"54cd").hexdigest()
    text = _example().replace(value, hashlib.sha256(bytes(32) + image).hexdigest())  # what the reference replays to
    golden = parse_golden(text.encode(), "docs/goldens.md")
    said = json.dumps(document_of(golden))
    named = set(re.findall(r'"([a-z_]+)": \{\s*"description"', golden_schema()))
    assert {key for key in named if f'"{key}"' not in said} <= {"bank", "time", "tagged", "path"}
