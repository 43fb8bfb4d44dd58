"""Selecting: which rows of a snapshot are exported, in which order, under which names, on which side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.exports.filter_columns import matches
from lookbook.tasks.exports.groups import find_groups
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.resolve import Resolved
from lookbook.tasks.exports.rows import Rows
from lookbook.tasks.exports.splits import choose_sides, stratum_counts

#: A product's key that is a name for a file on any system, and in a tar of samples.
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$"
#: Columns of a selection beside those of the rows: no catalogue's column has a colon.
SIDE, GROUP, NAME = ":side", ":group", ":name"
#: Names that Windows keeps for devices.
_DEVICES = r"^(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])$"


@dataclass(frozen=True)
class Selection:
    """What a filter chose.

    Attributes:
        table: the rows that are exported if they can be drawn, in order; with the columns `SIDE`, `GROUP` and `NAME`
            (of the file, without folder and extension).
        left_out: the chosen rows that are not: ``product_key``, ``image_key``, ``sha256`` and ``reason``.
        selected: number of rows chosen.
        groups: figures of the groups among the exported rows: their number, and rows of the largest.
        strata: see `splits.stratum_counts`; empty where nothing is stratified.
    """

    table: pa.Table
    left_out: pa.Table
    selected: int
    groups: dict[str, int]
    strata: dict[str, Any]


def select(rows: Rows, resolved: Resolved) -> Selection:
    """Return the rows of a snapshot that an export takes.

    A content is exported once: of several rows that show it, the first one.

    Args:
        rows: of the snapshot, with the predictions that the filter names.
        resolved: the request.
    """
    request, table = resolved.request, rows.table
    chosen = np.ones(table.num_rows, np.bool_)
    if resolved.wanted is not None:
        found = matches(resolved.wanted, table, rows.display_name)
        chosen = np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)
    reasons = _reasons(table.filter(pa.array(chosen)))
    kept = chosen.copy()
    kept[chosen] = np.asarray(pc.is_null(reasons).to_numpy(zero_copy_only=False))
    groups = find_groups(rows)
    strata = table[request.stratify] if request.stratify else None
    exact = (strata.to_pylist() if strata else [None] * table.num_rows) if request.exact_shares else None
    sides = choose_sides(groups, kept, request.sides, request.seed, exact)[kept]
    names = pa.array(np.array(list(request.sides))[sides], pa.string())
    labels = groups.labels[kept]
    identities = pa.array([groups.identities[label] for label in labels], pa.string())
    exported = table.filter(pa.array(kept)).append_column(SIDE, names).append_column(GROUP, identities)
    exported = exported.append_column(NAME, file_names(exported))
    left = table.filter(pa.array(chosen)).select(["product_key", "image_key", "sha256"])
    left = left.append_column("reason", reasons).filter(pc.is_valid(reasons))
    figures = {"number": len(np.unique(labels)), "largest": int(np.bincount(labels).max()) if len(labels) else 0}
    counted = stratum_counts(names, exported[request.stratify], labels, request.sides) if strata else {}
    return Selection(_in_order(exported, request), left, int(chosen.sum()), figures, counted)


def _reasons(table: pa.Table) -> pa.Array:
    """Why each of the chosen rows can't be exported; null for those that can."""
    present = pc.is_valid(table["image_key"])
    rejected = pc.fill_null(pc.equal(table["image_outcome"], "rejected"), False)
    doubled = pc.fill_null(pc.equal(table["row_outcome"], "duplicate"), False)
    reasons = pc.case_when(
        pc.make_struct(pc.invert(present), rejected, doubled),
        *(pa.scalar(reason) for reason in ("missing_image", "image_rejected", "duplicate_row")),
        pa.scalar(None, pa.string()),
    )
    return _marked_repeats(table["sha256"], reasons)


def _marked_repeats(contents: pa.ChunkedArray, reasons: pa.ChunkedArray) -> pa.Array:
    """Return the reasons, with all but the first row of a content that would be exported marked, too."""
    open_rows = np.flatnonzero(np.asarray(pc.is_null(reasons).to_numpy(zero_copy_only=False)))
    codes = contents.take(pa.array(open_rows)).combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    repeated = np.zeros(len(reasons), np.bool_)
    repeated[open_rows] = True
    repeated[open_rows[first]] = False
    marked = pc.if_else(pa.array(repeated), pa.scalar("duplicate_image"), reasons)
    return marked.combine_chunks() if isinstance(marked, pa.ChunkedArray) else marked


def _in_order(table: pa.Table, request: ExportRequest) -> pa.Table:
    """Side by side; within one in the order of the products' keys, or in one that the seed draws."""
    number = {name: place for place, name in enumerate(request.sides)}
    keys: dict[str, Any] = {"side": [number[side] for side in table[SIDE].to_pylist()]}
    if request.shuffle:
        salt = f"shuffle\0{request.seed}\0".encode()
        keys["lot"] = [
            hashlib.blake2b(salt + sha256.encode(), digest_size=8).hexdigest() for sha256 in table["sha256"].to_pylist()
        ]
    keys["row"] = np.arange(table.num_rows)
    order = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
    return table.take(order)


def file_names(table: pa.Table) -> pa.ChunkedArray:
    """Return a file name for each row: its product's key, where that is a plain name and this its first image.

    Further images have eight digits of their hash behind it, as have products whose keys differ in case alone;
    images without a product, or with a key that is no plain name, are named by their whole hash. No two are equal,
    whatever the case, and none depends on which other images an export has but for keys that differ in case.
    """
    key, content = table["product_key"], table["sha256"]
    plain = pc.and_(
        pc.match_substring_regex(key, pattern=PLAIN_NAME), pc.invert(pc.match_substring_regex(key, pattern=_DEVICES))
    )
    short = pc.binary_join_element_wise(key, pc.utf8_slice_codeunits(content, 0, 8), "-")
    names = pc.if_else(table["further"], short, key)
    names = pc.if_else(pc.fill_null(plain, False), names, content)
    names = pc.if_else(_repeated(names), short, names)
    names = pc.if_else(pc.fill_null(plain, False), names, content)
    names = pc.if_else(_repeated(names), content, names)
    return names if isinstance(names, pa.ChunkedArray) else pa.chunked_array([names])


def _repeated(names: pa.ChunkedArray) -> pa.Array:
    """Return whether each name is there more than once, whatever the case."""
    folded = pc.utf8_lower(names)
    folded = folded.combine_chunks() if isinstance(folded, pa.ChunkedArray) else folded
    codes = folded.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return pa.array(np.bincount(codes)[codes] > 1) if len(codes) else pa.array([], pa.bool_())


def label_classes(table: pa.Table, label: str | None) -> list[str]:
    """Return the classes of the exported rows, sorted; rows without a value are of the class ``unknown``."""
    if label is None or not table.num_rows:
        return []
    return sorted({class_of(value) for value in pc.unique(table[label]).to_pylist()})


def class_of(value: object) -> str:
    """Return the class that a value stands for."""
    return "unknown" if value is None else str(value)


def left_out_counts(selection: Selection, not_drawn: Mapping[str, int]) -> dict[str, int]:
    """Return how many chosen rows were left out, by reason."""
    counts = selection.left_out.group_by("reason").aggregate([([], "count_all")]).to_pylist()
    return dict(sorted(({row["reason"]: row["count_all"] for row in counts} | dict(not_drawn)).items()))
