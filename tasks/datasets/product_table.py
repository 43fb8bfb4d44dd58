"""The products table of a snapshot: the catalogue's rows, each with its outcome and its image."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from lookbook.tasks.datasets.links import CatalogueName


def catalogue_names(rows: pa.Table) -> list[CatalogueName]:
    """Return how each catalogue row names its image."""
    columns = (rows.column(name).to_pylist() for name in ("product_key", "file", "file_name"))
    return [CatalogueName(*values) for values in zip(*columns, strict=True)]


def _why_missing(candidates: Sequence[str], rules: Sequence[str]) -> str:
    """Why a row has no image: there is none, the run's limit left it out, or a rule refused it."""
    if rules:
        return f"image_rejected:{rules[0]}"
    return "beyond_limit" if candidates else "no_image"


def product_table(rows: pa.Table, linked: Sequence[list[str]], images: pa.Table) -> pa.Table:
    """Return the catalogue's rows, each with its outcome and its image."""
    image_of = {row["key"]: row for row in images.select(["key", "outcome", "rule", "sha256"]).to_pylist()}
    outcomes, reasons, keys, contents = [], [], [], []
    for outcome, candidates in zip(rows.column("outcome").to_pylist(), linked, strict=True):
        here = [key for key in candidates if key in image_of]
        good = next((key for key in here if image_of[key]["outcome"] != "rejected"), None)
        reason = None if good else _why_missing(candidates, [image_of[key]["rule"] for key in here])
        outcomes.append(outcome or ("matched" if good else "missing_image"))
        reasons.append(None if outcome == "duplicate" else reason)
        keys.append(good)
        contents.append(image_of[good]["sha256"] if good else None)
    leading = {
        "file": rows.column("file"),
        "line": rows.column("line"),
        "product_key": rows.column("product_key"),
        "outcome": pa.array(outcomes, pa.string()),
        "missing_reason": pa.array(reasons, pa.string()),
        "repaired": rows.column("repaired"),
        "image_key": pa.array(keys, pa.string()),
        "sha256": pa.array(contents, pa.string()),
    }
    values = {name: rows.column(name) for name in rows.column_names if name not in leading and name != "file_name"}
    return pa.table(leading | values)
