"""Deletion on request, as far as exports and predictions go: what a filter chooses, and which exports hold it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.forgetting import manifests_of
from lookbook.tasks.datasets.manifest import Manifest, require_published
from lookbook.tasks.datasets.stripping import Targets
from lookbook.tasks.exports.filter_columns import columns_of, fitted, matches
from lookbook.tasks.exports.filters import read_conditions, read_filter
from lookbook.tasks.exports.finished import FOLDER, Finished, find_finished, is_export_id
from lookbook.tasks.exports.predictions import EMBEDDING, LABEL, SCORE
from lookbook.tasks.exports.rows import EXIF, DatasetRows, read_rows
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.runs.lease import Hold
from lookbook.tasks.runs.removal import Amount, remove_objects


def chosen_keys(lake: Lake, dataset: str, where: Sequence[str]) -> list[str]:
    """Return the products and images of the current snapshot that conditions choose, by their keys.

    Of a row of the catalogue that is its product; of an image that no row was matched with, the image alone.

    Raises:
        UsageError: a condition names no column, or chooses nothing.
        LookbookError: there is no such dataset, or its snapshot is damaged.
    """
    manifest, wanted = require_published(lake, dataset).manifest, read_conditions(where)
    if wanted is None:
        return []
    rows = read_rows(lake, manifest, with_exif=EXIF in columns_of(wanted, None))
    table = _matching(rows, wanted)
    further = table["further"].to_pylist()
    pairs = zip(further, table["product_key"].to_pylist(), table["image_key"].to_pylist(), strict=True)
    return list(dict.fromkeys(image if is_further else product for is_further, product, image in pairs))


def _matching(rows: DatasetRows, wanted: Any) -> pa.Table:  # noqa: ANN401 - a filter is one of many classes
    found = matches(fitted(wanted, rows.table, rows.display_name), rows.table, rows.display_name)
    return rows.table.filter(pc.fill_null(found, False))


def exports_of(lake: Lake, dataset: str) -> Iterator[Finished]:
    """Yield the finished exports of a dataset."""
    for export_id in lake.folders(FOLDER):
        found = find_finished(lake, export_id) if is_export_id(export_id) else None
        if found is not None and found.dataset == dataset:
            yield found


def exports_holding(lake: Lake, dataset: str, targets: Targets, *, resumed: bool = False) -> list[str]:
    """Return the exports that hold anything of what goes, or may: to be asked before snapshots are put anew.

    An export's filter chooses some rows of its snapshot that go, or not; rows that it left out are chosen, too. One
    whose snapshot or filter nobody knows goes; and one that was left off, which does not say whose it is. None is read:
    files of an export have other bytes than what they were made of.

    Args:
        lake: that holds them.
        dataset: whose they are.
        targets: what goes.
        resumed: snapshots may have been put anew without it already: what they held before, nobody knows.
    """
    by_digest: dict[str, Manifest] = {}
    for manifest in manifests_of(lake, dataset):
        by_digest |= dict.fromkeys((manifest.digest, *(() if resumed else manifest.former)), manifest)
    rows: dict[str, DatasetRows] = {}
    found = []
    for export_id in lake.folders(FOLDER):
        export = find_finished(lake, export_id) if is_export_id(export_id) else None
        if export is None:
            found += [export_id] if is_export_id(export_id) else []
        elif export.dataset == dataset and _may_hold(lake, export, by_digest, rows, targets):
            found.append(export_id)
    return found


def _may_hold(
    lake: Lake, export: Finished, manifests: dict[str, Manifest], rows: dict[str, DatasetRows], targets: Targets
) -> bool:
    try:
        document = json.loads(lake.get(export.place.file("export.json")))
        manifest, asked = manifests[document["snapshot"]], document["request"]["filter"]
        wanted = None if asked is None else read_filter(asked)
        if manifest.digest not in rows:
            rows[manifest.digest] = _going(read_rows(lake, manifest, with_exif=True), targets)
        if wanted is None:
            return bool(rows[manifest.digest].table.num_rows)
        if columns_of(wanted, None) & {LABEL, SCORE, EMBEDDING} or _is_named(asked, targets):
            return True
        return bool(_matching(rows[manifest.digest], wanted).num_rows)
    except (ObjectNotFoundError, LookbookError, ValueError, KeyError, TypeError):
        return True


def _going(rows: DatasetRows, targets: Targets) -> DatasetRows:
    table = rows.table
    gone = [
        pc.is_in(table[name], pa.array(sorted(values), pa.string()))
        for name, values in (
            ("product_key", targets.products),
            ("image_key", targets.images),
            ("sha256", targets.contents),
        )
    ]
    return DatasetRows(table.filter(pc.or_(pc.or_(*gone[:2]), gone[2])), rows.catalogue, rows.display_name, rows.label)


def _is_named(value: object, targets: Targets) -> bool:
    """Return whether a filter names something of what goes: it would stand in the export's own papers."""
    if isinstance(value, dict | list):
        return any(_is_named(each, targets) for each in (value.values() if isinstance(value, dict) else value))
    return value in targets.products or value in targets.images or value in targets.contents


def strip_predictions(lake: Lake, dataset: str, contents: Collection[str], hold: Hold, amount: Amount) -> None:
    """Leave what models said of some contents out of the stored predictions; the amount counts files that changed."""
    gone = pa.array(sorted(contents), pa.string())
    for info in list(lake.list(f"datasets/{dataset}/predictions")):
        try:
            table = from_parquet(lake.get(info.key))[0]
        except (pa.ArrowException, OSError):  # it says nothing to anybody, and may say it of these
            remove_objects(lake, [info], hold, amount)
            continue
        left = table.filter(pc.invert(pc.is_in(table["sha256"], gone)))
        if left.num_rows == table.num_rows:
            continue
        if not left.num_rows:
            remove_objects(lake, [info], hold, amount)
            continue
        data = to_parquet(left)
        hold.confirm()
        lake.replace(info.key, data)
        amount.add(max(0, info.size - len(data)))
