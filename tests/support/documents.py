"""What the documentation promises, as tests compare it with the code."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def image_rules() -> set[str]:
    """The rules by which images are rejected, from the table in docs/outcomes.md."""
    section = (DOCS / "outcomes.md").read_text(encoding="utf-8").split("## Catalogue rows")[0]
    table = section.split("| rule | when |")[1]
    return {
        rule
        for line in table.splitlines()
        if line.startswith("| `")
        for rule in re.findall(r"`(\w+)`", line.split("|")[1])
    }
