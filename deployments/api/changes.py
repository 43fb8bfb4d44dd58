"""What differs between two snapshots of a dataset: products by their keys, further images by theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.deployments.api.loaded import LoadedSnapshot, Places, single
from lookbook.deployments.api.shown import ImageLinks

#: Beside the catalogue's columns: what counts as a change of a product or an image.
COMPARED = ("sha256", "row_outcome", "image_outcome", "missing_reason", "rule", "image_key")
#: Stands for a missing value; no catalogue's text holds a NUL.
_MISSING = "\0"


class Changes:
    """The differences, as places in the rows of the two snapshots (-1 where there is none)."""

    def __init__(self, before: LoadedSnapshot, after: LoadedSnapshot) -> None:
        """Compare them; they are not held on to."""
        columns = (*COMPARED, *before.rows.catalogue, *after.rows.catalogue)
        self.columns = [
            name
            for name in dict.fromkeys(columns)
            if name in before.table.column_names or name in after.table.column_names
        ]
        old, new = _identities(before), _identities(after)
        there = _places(old, new)
        added, removed = np.flatnonzero(there < 0), np.flatnonzero(_places(new, old) < 0)
        both = np.flatnonzero(there >= 0)
        changed = both[_differ(self.columns, (before, there[both]), (after, both))]
        self.counts = {"added": len(added), "removed": len(removed), "changed": len(changed)}
        self._pairs = np.concatenate(
            [
                np.stack([np.full(len(added), -1), added], 1),
                np.stack([removed, np.full(len(removed), -1)], 1),
                np.stack([there[changed], changed], 1),
            ]
        )

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self._pairs)

    def page(self, before: LoadedSnapshot, after: LoadedSnapshot, start: int, limit: int) -> list[dict[str, Any]]:
        """Return some of them: what was added first, then what was removed, then what changed."""
        pairs = self._pairs[start : start + limit]
        rows = zip(_rows(before, pairs[:, 0]), _rows(after, pairs[:, 1]), strict=True)
        return [self._told(before, after, *pair) for pair in rows]

    def _told(
        self, before: LoadedSnapshot, after: LoadedSnapshot, old: dict[str, Any] | None, new: dict[str, Any] | None
    ) -> dict[str, Any]:
        some = new or old or {}
        differ = [name for name in self.columns if old and new and not _same(old.get(name), new.get(name))]
        return {
            "kind": "changed" if old and new else "added" if new else "removed",
            "product_key": some["product_key"],
            "image_key": some["image_key"],
            "before": self._side(before, old),
            "after": self._side(after, new),
            "columns": differ,
        }

    def _side(self, loaded: LoadedSnapshot, row: dict[str, Any] | None) -> dict[str, Any] | None:
        if row is None:
            return None
        values = {name: row[name] for name in self.columns if name in row}
        return values | {"images": ImageLinks(loaded.manifest).of(row["sha256"], row["image_outcome"])}


def _differ(columns: list[str], *sides: tuple[LoadedSnapshot, Places]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of these pairs of rows differ, compared as texts: a column may have another type in the other snapshot."""
    differ = np.zeros(len(sides[0][1]), np.bool_)
    for name in columns:
        old, new = (_texts(loaded, name, places) for loaded, places in sides)
        differ |= np.asarray(pc.not_equal(old, new).to_numpy(zero_copy_only=False), np.bool_)
    return differ


def _texts(loaded: LoadedSnapshot, name: str, places: Places) -> pa.Array:
    if name not in loaded.table.column_names:
        return pa.array([_MISSING] * len(places), pa.string())
    values = pc.cast(single(loaded.table[name].take(pa.array(places))), pa.string())
    return pc.fill_null(values, _MISSING)


def _same(one: object, other: object) -> bool:
    return one == other or (one is not None and other is not None and str(one) == str(other))


def _identities(loaded: LoadedSnapshot) -> pa.Array:
    """Return what a row is known by: its product, and for further images of it the image, too; repeats are numbered."""
    table = loaded.table
    product = pc.fill_null(table["product_key"], "")
    further = pc.if_else(table["further"], pc.fill_null(table["image_key"], ""), "")
    names = single(pc.binary_join_element_wise(product, further, "\0"))
    codes = names.dictionary_encode().indices.to_numpy()
    return pc.binary_join_element_wise(names, pa.array(_repeats(codes)).cast(pa.string()), "\0")


def _repeats(codes: Iterable[int]) -> Places:
    """Return for each row how many before it have the same code."""
    codes = np.asarray(codes, np.int64)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(codes) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(codes)])
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return numbers


def _places(among: pa.Array, wanted: pa.Array) -> Places:
    """Return for each of `wanted` its place among the others, or -1."""
    return np.asarray(pc.fill_null(pc.index_in(wanted, value_set=among), -1).to_numpy(zero_copy_only=False), np.int64)


def _rows(loaded: LoadedSnapshot, places: Places) -> list[dict[str, Any] | None]:
    taken = iter(loaded.table.take(pa.array(places[places >= 0])).to_pylist())
    return [next(taken) if place >= 0 else None for place in places.tolist()]
