"""Tombstones: what a dataset was told to forget, as salted hashes, so that no later run takes it up again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field, field_serializer

if TYPE_CHECKING:
    from lookbook.blocks.lake import Lake

#: The outcome of what comes again though it was forgotten, and the rule under which it is listed.
FORGOTTEN = "forgotten"
#: Hexadecimal digits of a mark.
DIGITS = 32

#: What a mark stands for: a product's key; an image's key; the SHA-256 of an image's bytes; a file name in the lists of
#: links; the place of a reject; an image that came again under another key, by its key and fingerprint.
Kind = Literal["product", "image", "content", "name", "reject", "copy"]


class Burial(BaseModel):
    """One deletion on request: when, by which run, and how much it was.

    Attributes:
        products, images, contents: keys of products and of images, and different contents that went.
    """

    run_id: str
    forgotten_at: datetime
    products: int
    images: int
    contents: int


class Tombstones(BaseModel):
    """The content of the object: all marks of a dataset.

    The salt keeps marks of two datasets apart, and lists of hashes that others made useless. It does not keep a secret
    from somebody who reads the lake and tries keys: a key of five digits is found in a second.

    Attributes:
        salt: hexadecimal digits, made once.
        marks: of all kinds; the kind is in the hash.
        burials: the oldest first.
    """

    format_version: int = 1
    salt: str = Field(default_factory=lambda: secrets.token_hex(16))
    marks: set[str] = set()
    burials: list[Burial] = []

    @field_serializer("marks")
    def _sorted(self, marks: set[str]) -> list[str]:
        return sorted(marks)

    def mark(self, kind: Kind, value: str) -> str:
        """Return the salted hash of a value, `DIGITS` hexadecimal digits."""
        told = f"{kind}\0{value}".encode("utf-8", "backslashreplace")
        return hmac.digest(bytes.fromhex(self.salt), told, hashlib.sha256).hex()[:DIGITS]

    def hold(self, kind: Kind, value: str) -> bool:
        """Return whether a value was forgotten."""
        return bool(self.marks) and self.mark(kind, value) in self.marks


def tombstones_key(dataset: str) -> str:
    """Return the object with the tombstones of a dataset; it is swapped."""
    return f"datasets/{dataset}/forgotten.json"


def read_tombstones(lake: Lake, dataset: str) -> Tombstones:
    """Return the tombstones of a dataset; none where nothing was forgotten.

    Raises:
        LookbookError: their object is damaged.
    """
    return _version_of(lake, dataset)[0]


def add_tombstones(lake: Lake, dataset: str, values: Iterable[tuple[Kind, str]], burial: Burial | None = None) -> None:
    """Add marks, and what they are of. The caller holds the dataset's lease; done twice nothing changes.

    Raises:
        LookbookError: their object is damaged.
    """
    stones, version = _version_of(lake, dataset)
    added = stones.model_copy(update={"marks": stones.marks | {stones.mark(*value) for value in values}})
    if burial is not None and all(each.run_id != burial.run_id for each in stones.burials):
        added.burials = [*stones.burials, burial]
    if added != stones:
        lake.swap(tombstones_key(dataset), added.model_dump_json(indent=1).encode(), version)


def _version_of(lake: Lake, dataset: str) -> tuple[Tombstones, str | None]:
    way_out = "Bring it back from a copy of the lake: without it, what was forgotten would be taken up again."
    found, version = lake.read_swapped(tombstones_key(dataset), Tombstones, f"{dataset}:", way_out)
    return found or Tombstones(), version
