"""The sides of a split, and their shares."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from lookbook.blocks.errors import UsageError

#: The names of sides that are given by their shares alone, as Hugging Face's datasets call them.
DEFAULT_SIDES = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}
TAKES = "It takes shares of train, validation and test such as 0.8,0.1,0.1, or names: train=0.9,holdout=0.1."

SideName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


def _sum_to_one(shares: dict[str, float]) -> dict[str, float]:
    if abs(math.fsum(shares.values()) - 1) > 1e-9:  # noqa: PLR2004 - what decimal fractions lose in binary
        raise ValueError(f"the shares add up to {math.fsum(shares.values()):g}, not to 1")
    return shares


Shares = Annotated[
    dict[SideName, Annotated[float, Field(gt=0, le=1)]],
    Field(min_length=1, max_length=16, description="The sides of the split with their shares, which add up to 1."),
    AfterValidator(_sum_to_one),
]


def read_shares(text: str) -> dict[str, float]:
    """Return the shares in their short form: ``0.8,0.1,0.1`` or ``train=0.9,holdout=0.1``. They are not checked yet.

    Raises:
        UsageError: it is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    names = DEFAULT_SIDES.get(len(parts), ()) if "=" not in text else [part.partition("=")[0].strip() for part in parts]
    values = [part.partition("=")[2] if "=" in text else part for part in parts]
    try:
        shares = dict(zip(names, map(float, values), strict=True))
    except ValueError as error:
        raise UsageError(f"--split {text}: these are no shares.", TAKES) from error
    if len(shares) != len(parts):
        raise UsageError(f"--split {text}: a side is named twice.", TAKES)
    return shares
