"""The plan of an export: names found in the snapshot, rows selected, and what is drawn of which image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.exports.drawing import pair
from lookbook.tasks.exports.filter_columns import check_column, columns_of, fitted, matches
from lookbook.tasks.exports.filters import Filter, as_document, canonical
from lookbook.tasks.exports.recipes import ORIGINALS, Crop, ExportRecipe, Resize, built_in, pixel_versions
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import OUTPUT_ROW, DatasetRows, OtherColumns, all_columns
from lookbook.tasks.exports.splits import COLOURS, choose_sides, codes_of, find_groups, group_columns, stratum_counts

#: Raise it when the files of an export change for the same request: its sidecar files, packing, names, order.
EXPORT_VERSION = 1


@dataclass(frozen=True)
class Resolved:
    """A request whose names are found in a snapshot.

    Attributes:
        request: as it was asked.
        manifest: of the snapshot.
        wanted: its filter in canonical form, with values of the columns' types.
        recipe: the steps on the fly; None where stored files are exported.
        label: the column of the class, if there is one.
        id: equal for equal requests of equal snapshots, with equal versions of what makes the bytes.
    """

    request: ExportRequest
    manifest: Manifest
    wanted: Filter | None
    recipe: ExportRecipe | None
    label: str | None
    id: str

    def document(self) -> dict[str, Any]:
        """Return what the id is made of."""
        return _document(self.request, self.manifest, self.wanted, self.recipe, self.label)


def resolve(request: ExportRequest, manifest: Manifest, rows: DatasetRows, table: pa.Table) -> Resolved:
    """Find the names of a request in a snapshot.

    Args:
        request: what is asked.
        manifest: of the snapshot.
        rows: of it.
        table: with the columns that there are, predictions with them.

    Raises:
        UsageError: a column, an output or a recipe does not exist, or a value is none of its column's type.
    """
    schema = all_columns(table, rows.others)
    for name in filter(None, (request.label, request.stratify, *(request.columns or ()))):
        check_column(name, schema, "The export")
    wanted = None
    if request.filter is not None:
        wanted = canonical(fitted(request.filter, table, rows.display_name))
    recipe = request.recipe if isinstance(request.recipe, ExportRecipe) else _named_recipe(request.recipe, manifest)
    label = request.label or rows.label
    document = _document(request, manifest, wanted, recipe, label)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]
    return Resolved(request, manifest, wanted, recipe, label, digest)


def _named_recipe(name: str, manifest: Manifest) -> ExportRecipe | None:
    if name == ORIGINALS or name in manifest.recipe.outputs:
        return None
    recipe = built_in(name)
    if recipe is None:
        stored = ", ".join((ORIGINALS, *manifest.recipe.outputs))
        raise UsageError(
            f"--recipe {name}: {manifest.dataset} has no such output, and there is no recipe of that name.",
            f"It has {stored}; recipes are square-N, border-N, train-N, tensor-N, or a YAML file.",
        )
    return recipe


def _document(
    request: ExportRequest, manifest: Manifest, wanted: Filter | None, recipe: ExportRecipe | None, label: str | None
) -> dict[str, Any]:
    asked = request.model_dump(mode="json", exclude={"filter", "recipe", "snapshot", "label", "split"})
    if not request.quote_formulas:
        del asked["quote_formulas"]  # requests from before it was there keep their ids
    asked["sides"] = list(request.sides.items())  # in their order, which sorted keys would lose
    made = recipe.model_dump(mode="json") if recipe else request.recipe
    versions: dict[str, Any] = {"export": EXPORT_VERSION, "pyarrow": pa.__version__}
    versions["colours"] = hashlib.sha256(" ".join(sorted(COLOURS)).encode()).hexdigest()[:16]
    if recipe:
        versions |= pixel_versions()
    return {
        "request": asked | {"filter": as_document(wanted) if wanted else None, "recipe": made, "label": label},
        "snapshot": manifest.digest,
        "versions": versions,
    }


def columns_looked_at(request: ExportRequest, shape: DatasetRows) -> set[str]:
    """Return the columns by which a request chooses, splits and names; the others of what it takes are told alone.

    Raises:
        UsageError: its filter names a column that does not exist, or a value that is none of the column's type.
    """
    named = {*group_columns(shape), request.label or shape.label, request.stratify} - {None}
    if request.filter is None:
        return {name for name in named if name}
    if not request.predictions:  # else it may name columns that are not there yet
        fitted(request.filter, shape.table, shape.display_name)
    return {name for name in (*named, *columns_of(request.filter, shape.display_name)) if name}


#: A product's key that is a name for a file on any system, and in a tar of samples.
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$"
#: What ``left_out.csv`` names a row by.
NAMED_BY = ("product_key", "image_key", "sha256")
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
        others: columns that are not in the table.
    """

    table: pa.Table
    left_out: pa.Table
    selected: int
    groups: dict[str, int]
    strata: dict[str, Any]
    others: OtherColumns | None


def select(rows: DatasetRows, resolved: Resolved) -> Selection:
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
    reasons = _reasons(table, chosen)
    kept = chosen & np.asarray(pc.is_null(reasons).to_numpy(zero_copy_only=False))
    left = pa.array(chosen & ~kept)
    left_out = table.select(NAMED_BY).filter(left).append_column("reason", reasons.filter(left))
    groups = find_groups(rows)
    strata = table[request.stratify] if request.stratify else None
    exact = (strata.to_pylist() if strata else [None] * table.num_rows) if request.exact_shares else None
    sides = choose_sides(groups, kept, request.sides, request.seed, exact)[kept]
    names = pa.array(np.array(list(request.sides))[sides], pa.string())
    pa.default_memory_pool().release_unused()
    labels = groups.labels[kept]
    figures = {"number": len(np.unique(labels)), "largest": int(np.bincount(labels).max()) if len(labels) else 0}
    counted = {}
    if strata:
        counted = stratum_counts(names, strata.filter(pa.array(kept)), labels, request.sides)
    identities = groups.identities.take(pa.array(labels))
    del groups, labels
    few = ["product_key", "sha256", "further"]  # all columns are taken once, in their order
    narrow = table.select(few).filter(pa.array(kept)).append_column(SIDE, names).append_column(GROUP, identities)
    narrow = narrow.append_column(NAME, file_names(narrow))
    order = _in_order(narrow, request)
    narrow = narrow.select([SIDE, GROUP, NAME])
    exported = table.select(_kept_columns(rows, resolved)).take(pa.array(np.flatnonzero(kept)).take(order))
    for name in (SIDE, GROUP, NAME):
        exported = exported.append_column(name, narrow[name].take(order))
    return Selection(exported, left_out, int(chosen.sum()), figures, counted, rows.others)


def _kept_columns(rows: DatasetRows, resolved: Resolved) -> list[str]:
    """Return the columns of a selection: those that no file has, and those that are looked at again."""
    names: list[str] = rows.table.column_names
    if rows.others is None:
        return names
    again = {"product_key", resolved.label, *(["image_outcome"] if resolved.request.predictions else [])}
    return [name for name in names if name in again or name not in rows.others.sources]


def _reasons(table: pa.Table, chosen: NDArray[np.bool_]) -> pa.ChunkedArray:
    """Return why each of the chosen rows can't be exported; null for those that can."""
    ambiguous = pc.fill_null(pc.equal(table["row_outcome"], "ambiguous_image"), False)
    present = pc.is_valid(table["image_key"])
    rejected = pc.fill_null(pc.equal(table["image_outcome"], "rejected"), False)
    doubled = pc.fill_null(pc.equal(table["row_outcome"], "duplicate"), False)
    reasons = pc.case_when(
        pc.make_struct(ambiguous, pc.invert(present), rejected, doubled),
        *(pa.scalar(reason) for reason in ("ambiguous_image", "missing_image", "image_rejected", "duplicate_row")),
        pa.scalar(None, pa.string()),
    )
    # Of a content that would be exported, all rows but the first one repeat it.
    repeated = chosen & np.asarray(pc.is_null(reasons).to_numpy(zero_copy_only=False))
    open_rows = np.flatnonzero(repeated)
    _, first = np.unique(codes_of(table["sha256"])[open_rows], return_index=True)
    repeated[open_rows[first]] = False
    return pc.if_else(pa.array(repeated), pa.scalar("duplicate_image"), reasons)


def _in_order(table: pa.Table, request: ExportRequest) -> pa.Array:
    """Return the order of rows: side by side; within one by the products' keys, or in an order that the seed draws."""
    keys: dict[str, Any] = {"side": pc.index_in(table[SIDE], value_set=pa.array(list(request.sides), pa.string()))}
    if request.shuffle:
        salt = f"shuffle\0{request.seed}\0".encode()
        keys["lot"] = pa.array(
            hashlib.blake2b(salt + sha256.as_py().encode(), digest_size=8).hexdigest() for sha256 in table["sha256"]
        )
    keys["row"] = np.arange(table.num_rows)
    return pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])


def file_names(table: pa.Table) -> pa.ChunkedArray:
    """Return a file name for each row: its product's key, where that is a plain name and this its first image.

    Further images have eight digits of their hash behind it, as have products whose keys differ in case alone;
    images without a product, or with a key that is no plain name, are named by their whole hash. No two are equal,
    whatever the case, and none depends on which other images an export has but for keys that differ in case.
    """
    names = [pa.chunked_array([], pa.string())]
    for start in range(0, table.num_rows, _NAMED_AT_ONCE):
        some = table.slice(start, _NAMED_AT_ONCE)
        shown = pc.if_else(some["further"], _short_names(some), some["product_key"])
        names.append(pc.if_else(_are_plain(some), shown, some["sha256"]))
    found = pa.chunked_array([chunk for each in names for chunk in each.chunks], pa.string())
    repeated = _repeated(found)
    if not pc.any(repeated).as_py():
        return found
    found = pc.if_else(repeated, pc.if_else(_are_plain(table), _short_names(table), table["sha256"]), found)
    return pc.if_else(_repeated(found), table["sha256"], found)


_NAMED_AT_ONCE = 50_000


def _are_plain(table: pa.Table) -> pa.ChunkedArray:
    key = table["product_key"]
    is_device = pc.match_substring_regex(key, pattern=_DEVICES)
    return pc.fill_null(pc.and_(pc.match_substring_regex(key, pattern=PLAIN_NAME), pc.invert(is_device)), False)


def _short_names(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["product_key"], pc.utf8_slice_codeunits(table["sha256"], 0, 8), "-")


def _repeated(names: pa.ChunkedArray) -> pa.Array:
    """Return whether each name is there more than once, whatever the case."""
    codes = codes_of(pc.utf8_lower(names))
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


#: Columns of a plan beside those of a selection: where an image's bytes lie, and what they are.
KEY, DIGEST, SIZE = ":key", ":digest", ":size"
#: Rows in a part of loose files, and bytes in any part, at the most: a part is written as a whole.
LOOSE_ROWS = 250
MOST_BYTES = 256 * 2**20
PACKED = ("webdataset", "parquet")


@dataclass(frozen=True)
class Part:
    """Rows of one side that are done together, and become one shard where the format has shards.

    Attributes:
        number: of the part, from 0.
        side: name of the side.
        shard: number of it within its side, from 0.
        shards: how many its side has.
        start: first row in the plan's table.
        stop: one past the last row.
    """

    number: int
    side: str
    shard: int
    shards: int
    start: int
    stop: int


@dataclass(frozen=True)
class ExportPlan:
    """What is to be done.

    Attributes:
        table: the rows, with the bytes of each.
        parts: of the rows.
        others: columns that are not in the table: where the bytes lie among them.
        extensions: of the files of images, without the dot.
    """

    table: pa.Table
    parts: list[Part]
    others: OtherColumns
    extensions: list[str]

    def column_names(self) -> list[str]:
        """Return the names of all columns in which a row has a value, in their order."""
        table = self.table
        told = {name for name in table.column_names if table[name].null_count < table.num_rows}
        told |= self.others.with_values(table)
        return [name for name in all_columns(table, self.others).names if name in told]


def plan_export(lake: Lake, resolved: Resolved, selection: Selection) -> ExportPlan:
    """Plan an export: of equal selections it is the same, whatever is done already.

    Args:
        lake: of the dataset.
        resolved: the request.
        selection: the rows that it takes, of a snapshot whose other columns stay in their files.

    Raises:
        LookbookError: the snapshot has no object of an image that it should have.
    """
    assert selection.others is not None  # noqa: S101 - the caller's duty
    table, others = with_objects(lake, resolved.manifest, selection.table, stored_output(resolved), selection.others)
    found, sizes = set[str](), [pa.chunked_array([], pa.int64())]
    for batch in others.read(table, [KEY, SIZE]):
        found.update(key.rpartition(".")[2] for key in batch.column(KEY).to_pylist())
        sizes.append(pa.chunked_array([batch.column(SIZE)]).cast(pa.int64()))
    table = table.append_column(SIZE, pa.chunked_array([chunk for each in sizes for chunk in each.chunks], pa.int64()))
    extensions = [resolved.recipe.extension] if resolved.recipe else sorted(found)
    return ExportPlan(table, list(_parts(table, resolved)), others, extensions)


def stored_output(resolved: Resolved) -> str:
    """Return the stored output that files are made from, or `ORIGINALS`."""
    return ORIGINALS if resolved.recipe else str(resolved.request.recipe)


def with_objects(
    lake: Lake, manifest: Manifest, table: pa.Table, output: str, others: OtherColumns
) -> tuple[pa.Table, OtherColumns]:
    """Find the stored image of each row.

    Returns:
        The table, which knows it; and the other columns, with `KEY`, `DIGEST`, `SIZE`, and its ``width`` and
        ``height`` among them.

    Raises:
        LookbookError: the snapshot has no object of an image that it should have.
    """
    if output == ORIGINALS:
        return table, others.renamed("images", _ORIGINAL)
    table, others = others.with_outputs(table, lake, manifest, output)
    if missing := table[OUTPUT_ROW].null_count:
        raise LookbookError(
            f"{manifest.dataset}: {missing} images have no output {output}.", 'Run "lookbook verify NAME --repair".'
        )
    return table, others.renamed("outputs", _OUTPUT)


#: What a stored image's facts are called in the tables.
_ORIGINAL = {
    KEY: "original_key",
    DIGEST: "sha256",
    SIZE: "bytes",
    "width": "original_width",
    "height": "original_height",
}
_OUTPUT = {KEY: "object_key", DIGEST: "output_sha256", SIZE: "bytes", "width": "width", "height": "height"}


def _parts(table: pa.Table, resolved: Resolved) -> Iterator[Part]:
    cuts = list(_cuts(table, resolved))
    shards: dict[str, int] = {}
    for side, _, _ in cuts:
        shards[side] = shards.get(side, 0) + 1
    done = dict.fromkeys(shards, 0)
    for number, (side, start, stop) in enumerate(cuts):
        yield Part(number, side, done[side], shards[side], start, stop)
        done[side] += 1


def _cuts(table: pa.Table, resolved: Resolved) -> Iterator[tuple[str, int, int]]:
    """Sides with their first rows and the rows after their last: cut by the number of images and by their bytes."""
    request = resolved.request
    most = request.shard_size if request.format in PACKED else LOOSE_ROWS
    start, images, size = 0, 0, 0
    names = list(request.sides)
    codes = pc.index_in(table[SIDE], value_set=pa.array(names, pa.string())).to_pylist()
    sides = [names[code] for code in codes]  # one text each, however many rows
    for row, (side, stored) in enumerate(zip(sides, table[SIZE].to_numpy().tolist(), strict=True)):
        copies = copies_of(request, side)
        more = copies * expected_bytes(resolved.recipe, stored)
        full = images + copies > most or size + more > MOST_BYTES
        if row > start and (full or side != sides[start]):
            yield sides[start], start, row
            start, images, size = row, 0, 0
        images, size = images + copies, size + more
    if table.num_rows:
        yield sides[start], start, table.num_rows


def copies_of(request: ExportRequest, side: str) -> int:
    """Return files of each image of a side."""
    return request.copies if is_augmented(request, side) else 1


def is_augmented(request: ExportRequest, side: str) -> bool:
    """Return whether random steps are done for the images of a side: a model is tested on images as they are."""
    return request.augment == "all" or side == next(iter(request.sides))


def expected_bytes(recipe: ExportRecipe | None, stored: int) -> int:
    """About how many bytes a file will have, generously: it decides where parts are cut."""
    if recipe is None:
        return stored
    sizes = [pair(step.size) for step in recipe.steps if isinstance(step, Crop | Resize)]
    if not sizes:
        return 4 * stored
    pixels = sizes[-1][0] * sizes[-1][1]
    return 12 * pixels if recipe.encode_format == "npy" else pixels
