"""What the project says that it supports: docs/support.md, which the tests make from the registries."""

import pathlib
import re


def supported_families():
    """The model types of its table of families, sorted."""
    page = pathlib.Path(__file__).resolve().parents[3] / "docs" / "support.md"
    table = page.read_text(encoding="utf-8").split("## Families", 1)[1].split("\n## ", 1)[0]
    return sorted(re.findall(r"^\| `(\w+)` \|", table.split("---", 1)[1], re.MULTILINE))
