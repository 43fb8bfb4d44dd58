"""What finding near duplicates costs, and how well it finds them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.near_quality import perceived, quality_table, subjects
from benchmarks.near_scale import PLANTED, PLANTED_BITS, scale_table
from benchmarks.processes import say

REAL = Path(__file__).parents[2] / "shared" / "data" / "fashion-small-1000.zip"

TEXT = """## Near duplicates

{quality}

{scale}

All the columns of duplicates, from a table of images of which a catalogue names half; this process made none of them.
Uniform: hashes and pixels without preference. Skewed: those of the images above, up to 16 bits flipped and every level
moved by up to 24, so that each has a thousand others beside it. One hash: the same for all, the bound of the work.
Planted: {planted:,} copies, up to {bits} bits flipped and every level moved by up to 1; found: put into one group.
"""


def section(home: Path) -> str:
    """The section of docs/benchmarks.md, in Markdown. It takes some minutes."""
    say("near duplicates: edits")
    found = subjects(REAL)
    scale = scale_table(perceived(found), home)
    return TEXT.format(quality=quality_table(found), scale=scale, planted=PLANTED, bits=PLANTED_BITS)
