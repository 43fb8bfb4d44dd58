"""A desk that the tests of one process share, and small tables on it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.links import RULES, CatalogueName, link
from lookbook.tasks.datasets.near_duplicates import find_near_duplicates
from lookbook.tasks.datasets.plan import list_files
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import Locator

TEXT = pa.string()


@cache
def shared_desk() -> Desk:
    """Return it; what one test puts there, the next one replaces."""
    return Desk(Path(tempfile.gettempdir()))


def put(name: str, rows: Sequence[Sequence[Any]], /, **columns: pa.DataType) -> None:
    """Put a table on the shared desk."""
    shared_desk().put(name, rows, **columns)


def file(key: str) -> SourceFile:
    """Return an image's file of 9 bytes."""
    return SourceFile(key, 9, f"mtime:{key}", Locator("file", key.encode("utf-8", "surrogateescape"), size=9))


@dataclass(frozen=True)
class Match:
    """What `link` tells of a row."""

    keys: Sequence[str] = ()
    rule: str | None = None
    ambiguous: bool = False
    absent: Sequence[str] = ()
    candidates: str | None = None


def linked(
    rows: Sequence[CatalogueName],
    keys: Sequence[str],
    contents: Mapping[str, str] | None = None,
    *,
    suffixed: bool = False,
) -> tuple[list[Match], dict[str, str]]:
    """Return for each row its images; and for each image that has a row, its product key."""
    desk = shared_desk()
    list_files(desk, ((file(key), True) for key in keys), None)
    put("content_of", list((contents or {}).items()), key=TEXT, content=TEXT)
    named = [(n, row.product_key, row.catalogue_file, row.file_name) for n, row in enumerate(rows)]
    put("rows", named, n=pa.int64(), product_key=TEXT, file=TEXT, file_name=TEXT)
    link(desk, suffixed=suffixed)
    images = dict(desk.rows("SELECT n, list(key ORDER BY place) FROM row_images GROUP BY n"))
    found = desk.rows("SELECT n, rule, ambiguous, absent, candidates FROM matches ORDER BY n")
    return [
        Match(images.get(n, ()), None if rule is None else RULES[rule], ambiguous, tuple(absent), candidates)
        for n, rule, ambiguous, absent, candidates in found
    ], dict(desk.rows("SELECT key, product_key FROM linked"))


def near_duplicates(images: pa.Table, products: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    """Return the canonical image and the score of each that is in a group, of images of contents of their own."""
    desk = shared_desk()
    desk.make("perceived", images.schema)
    desk.add("perceived", images)
    put("linked", list(products.items()), key=TEXT, product_key=TEXT)
    find_near_duplicates(desk)
    return {key: (canonical, score) for key, canonical, score in desk.rows("SELECT key, canonical, score FROM near")}
