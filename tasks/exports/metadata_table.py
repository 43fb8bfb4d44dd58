"""The metadata of an export: for each file where it is, its side, class and size, and what the snapshot knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.exports.plan import Plan
from lookbook.tasks.exports.resolve import Resolved
from lookbook.tasks.exports.rows import OF_PRODUCT
from lookbook.tasks.exports.select import GROUP, NAME, SIDE, class_of, label_classes

#: Columns of the rows that tell nothing of an exported image, or that are told otherwise.
_UNTOLD = frozenset(
    [
        *OF_PRODUCT,
        "image_outcome",
        "further",
        "duplicate_of",
        "rule",
        "bytes",
        "width",
        "height",
        "original_key",
        "exif",
    ]
) - {"product_key"}


@dataclass(frozen=True)
class Metadata:
    """What is told of each file.

    Attributes:
        columns: of the plan's table that are told, in order.
        label: the column that the class is taken from, if there is one.
        label_name: what the class is called among the columns.
        classes: all classes, sorted.
        copies: whether there is a column ``copy``.
    """

    columns: list[str]
    label: str | None
    label_name: str
    classes: list[str]
    copies: bool


def describe(resolved: Resolved, plan: Plan) -> Metadata:
    """Return what is told of an export's files: the columns asked for, or all in which an image has a value."""
    table, asked = plan.table, resolved.request.columns
    columns = [
        name
        for name in (asked or table.column_names)
        if asked or (name not in _UNTOLD and ":" not in name and table[name].null_count < table.num_rows)
    ]
    columns = [name for name in dict.fromkeys(columns) if name not in {"width", "height"}]
    label = resolved.label
    name = "label" if "label" not in columns or label == "label" else "class_label"
    copies = resolved.request.copies > 1
    return Metadata([each for each in columns if each != name], label, name, label_classes(table, label), copies)


def metadata_rows(metadata: Metadata, plan: Plan, samples: pa.Table) -> pa.Table:
    """Return the metadata of some samples.

    Args:
        metadata: what is told.
        plan: of the export.
        samples: with the columns ``row``, ``copy``, ``file_name``, ``width`` and ``height``.
    """
    rows = plan.table.take(samples["row"])
    columns: dict[str, Any] = {"file_name": samples["file_name"], "split": rows[SIDE]}
    if metadata.copies:
        columns["copy"] = samples["copy"]
    if metadata.label:
        columns[metadata.label_name] = classes_of(rows[metadata.label])
    columns |= {"width": samples["width"], "height": samples["height"], "leak_group": rows[GROUP]}
    if "url" in samples.column_names:
        columns["url"] = samples["url"]
    return pa.table(columns | {name: rows[name] for name in metadata.columns})


def classes_of(column: pa.ChunkedArray) -> pa.Array:
    """Return the class of each value, as text."""
    return pa.array([class_of(value) for value in column.to_pylist()], pa.string())


def class_numbers(metadata: Metadata, classes: pa.ChunkedArray) -> pa.Array:
    """Return the number of each class among all of them."""
    return pc.index_in(classes, value_set=pa.array(metadata.classes, pa.string())).cast(pa.int64())


def sample_names(plan: Plan, rows: Sequence[int], copies: Sequence[int], most: int) -> list[str]:
    """Return the names of files without folder and extension: with the number of the copy where there are several."""
    names = plan.table[NAME].take(pa.array(rows, pa.int64())).to_pylist()
    digits = len(str(most - 1))
    return [f"{name}_c{copy:0{digits}}" if most > 1 else name for name, copy in zip(names, copies, strict=True)]
