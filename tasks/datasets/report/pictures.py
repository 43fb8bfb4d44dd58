"""The pictures of a report: thumbnails as data URIs, the contact sheet, and groups that look the same."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.tasks.datasets.report.charts import TIMES
from lookbook.tasks.datasets.report.data import (
    ReportData,
    catalogue_columns,
    column,
    named_column,
    plain_name,
    with_outcome,
)
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import Rejected
from lookbook.tasks.images.render_process import PARTLY
from lookbook.tasks.images.renderers import COMMAND, Renderers

ReadObject = Callable[[str], bytes]

SHEET_SIZE = 96
#: Objects that are read at the same time: a store that answers late is kept busy.
READING_THREADS = 8
NAME_COLUMNS = ("productDisplayName", "name", "title", "productName", "displayName")
GROUP_COLUMNS = ("subCategory", "category", "masterCategory", "articleType", "class", "label")
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}

#: The group of images without a category: it sorts behind all names.
UNGROUPED = "\uffff"

#: Objects above this are drawn again, smaller: a hundred full-size outputs would make a report of 50 MB.
MOST_BYTES = 24_000
REDRAWN_EDGE = 192


@dataclass(frozen=True)
class Contact:
    """One picture of the contact sheet: its data URI, caption, and details as (name, value)."""

    uri: str
    name: str
    subtitle: str
    details: list[tuple[str, str]]


def contact_sheet(data: ReportData, read_object: ReadObject) -> list[Contact]:
    """Up to 96 loaded images, spread evenly over the categories and always the same for the same images."""
    drawn = _smallest_output(data.outputs)
    images = with_outcome(data.images, "loaded")
    if images.num_rows == 0 or drawn.num_rows == 0:
        return []
    images = images.filter(pc.is_in(images["sha256"], value_set=drawn["sha256"]))
    images, groups = _with_groups(images, data.products)
    chosen = images.take(pa.array(_spread(groups, images["sha256"], images["key"])))
    uris = thumbnails(data.outputs, chosen["sha256"].to_pylist(), read_object)
    products = _products_of(chosen, data.products)
    return [
        _contact(image, product, uris[image["sha256"]], data.products)
        for image, product in zip(chosen.to_pylist(), products, strict=True)
    ]


def thumbnails(outputs: pa.Table, hashes: Iterable[str], read_object: ReadObject) -> dict[str, str]:
    """Return data URIs of originals by their hash: of the output `thumb` if there is one, else of the smallest.

    Raises:
        ObjectNotFoundError: the lake lacks an object that the outputs name.
    """
    drawn = _smallest_output(outputs)
    if drawn.num_rows == 0:
        return {}
    wanted = drawn.filter(pc.is_in(drawn["sha256"], value_set=pa.array(sorted(set(hashes)), pa.string())))
    keys = wanted["object_key"].to_pylist()
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="report") as pool:
        uris = pool.map(lambda key: _data_uri(read_object(key), key), keys)
        return dict(zip(wanted["sha256"].to_pylist(), uris, strict=True))


def _smallest_output(outputs: pa.Table) -> pa.Table:
    """Return the rows of the output that thumbnails are taken from."""
    if outputs.num_rows == 0:
        return outputs
    totals = outputs.group_by("output").aggregate([("bytes", "mean")]).to_pylist()
    name = min(totals, key=lambda row: (row["output"] != "thumb", row["bytes_mean"], row["output"]))["output"]
    return outputs.filter(pc.equal(outputs["output"], name))


def _data_uri(content: bytes, key: str) -> str:
    media_type = MEDIA_TYPES.get(key.rpartition(".")[2], "image/jpeg")
    if len(content) > MOST_BYTES:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (REDRAWN_EDGE, REDRAWN_EDGE))
            small = image.convert("RGB")
        small.thumbnail((REDRAWN_EDGE, REDRAWN_EDGE))
        target = io.BytesIO()
        small.save(target, "JPEG", quality=80)
        content, media_type = target.getvalue(), "image/jpeg"
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _with_groups(images: pa.Table, products: pa.Table) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return the images, and for each the category of its product; without one, the folder it lies in."""
    name = named_column(products, GROUP_COLUMNS)
    if name and products.num_rows:
        rows = pc.index_in(images["key"], value_set=products["image_key"])
        return images, pc.fill_null(pc.cast(products[name].take(rows), pa.string()), UNGROUPED)
    return images, pc.replace_substring_regex(images["key"], pattern="[^/]*$", replacement="")


def _spread(groups: pa.ChunkedArray, hashes: pa.ChunkedArray, keys: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return rows to show: one of each group in turn, large groups first, then in the order of their groups.

    Within a group the order of the hashes decides, which is as good as a draw by lot and never changes.
    """
    table = pa.table({"group": groups, "sha256": hashes, "key": keys})
    order = pc.sort_indices(table, [(name, "ascending") for name in table.column_names]).to_numpy()
    _, starts, sizes = np.unique(
        table["group"].combine_chunks().dictionary_encode().indices.to_numpy()[order],
        return_index=True,
        return_counts=True,
    )
    by_place = np.argsort(starts)
    starts, sizes = starts[by_place], sizes[by_place]
    turn = np.arange(len(order)) - np.repeat(starts, sizes)
    first = np.lexsort((np.repeat(starts, sizes), -np.repeat(sizes, sizes), turn))[:SHEET_SIZE]
    return np.asarray(order[np.sort(first)], dtype=np.int64)


def _products_of(images: pa.Table, products: pa.Table) -> list[dict[str, Any]]:
    """Return the first catalogue row of each image, {} where it has none."""
    if products.num_rows == 0 or "image_key" not in products.column_names:
        return [{}] * images.num_rows
    rows = pc.index_in(images["key"], value_set=products["image_key"]).to_pylist()
    found = products.take(pa.array([row for row in rows if row is not None], pa.int64())).to_pylist()
    remaining = iter(found)
    return [{} if row is None else next(remaining) for row in rows]


def _contact(image: dict[str, Any], product: dict[str, Any], uri: str, products: pa.Table) -> Contact:
    name_column = named_column(products, NAME_COLUMNS)
    file_name = image["key"].rpartition("/")[2]
    name = (product.get(name_column) if name_column else None) or file_name
    details = [("file", image["key"])]
    details += [(plain_name(label), product.get(label)) for label in catalogue_columns(products)[:12] if product]
    width, height = image.get("original_width"), image.get("original_height")
    details += [
        ("size", f"{width} {TIMES} {height}" if width and height else None),
        ("format", image.get("format")),
        ("camera", image.get("camera_model")),
        ("sha256", image["sha256"]),
    ]
    known = [(label, str(value)) for label, value in details if value not in (None, "")]
    subtitle = product.get("product_key") or image.get("product_key") or (file_name if name != file_name else "")
    return Contact(uri, str(name), str(subtitle), known)


MOST_GROUPS = 12
MOST_PICTURES = 6


@dataclass(frozen=True)
class GroupImage:
    """One image of a group: its key, its thumbnail as a data URI, "" where there is none, and its score.

    The canonical image has no score: the others have theirs by comparison with it.
    """

    key: str
    uri: str
    score: float | None


@dataclass(frozen=True)
class NearGroup:
    """Images that look the same: the canonical one, then those nearest to it; and how many there are in all."""

    members: list[GroupImage]
    total: int


@dataclass(frozen=True)
class NearDuplicates:
    """The groups that are shown, the number of all groups, and of the images in them."""

    groups: list[NearGroup]
    total_groups: int
    total_images: int


def near_duplicates(data: ReportData, read_object: ReadObject) -> NearDuplicates:
    """Return the largest groups; images with the same bytes count once.

    Raises:
        ObjectNotFoundError: the lake lacks an object that the outputs name.
    """
    images = with_outcome(data.images, "loaded")
    images = images.filter(pc.is_valid(column(images, "near_duplicate_of")))
    if images.num_rows == 0:
        return NearDuplicates([], 0, 0)
    groups = images.group_by("near_duplicate_of").aggregate([("key", "count")])
    order = [("key_count", "descending"), ("near_duplicate_of", "ascending")]
    largest = groups.sort_by(order).slice(0, MOST_GROUPS).to_pylist()
    scores = {row["near_duplicate_of"]: _nearest(images, row["near_duplicate_of"]) for row in largest}
    pictures = _pictures(data, [key for shown in scores.values() for key in shown], read_object)
    shown = [
        NearGroup(
            [GroupImage(key, pictures.get(key, ""), score) for key, score in scores[row["near_duplicate_of"]].items()],
            row["key_count"] + 1,
        )
        for row in largest
    ]
    return NearDuplicates(shown, groups.num_rows, images.num_rows + groups.num_rows)


def _nearest(images: pa.Table, canonical: str) -> dict[str, float | None]:
    """Return the scores of those that are shown, by key; the canonical one comes first, and has none."""
    members = images.filter(pc.equal(images["near_duplicate_of"], canonical))
    nearest = members.sort_by([("near_duplicates_score", "ascending"), ("key", "ascending")])
    shown = nearest.slice(0, MOST_PICTURES - 1)
    scores: dict[str, float | None] = {canonical: None}
    scores.update(zip(shown["key"].to_pylist(), shown["near_duplicates_score"].to_pylist(), strict=True))
    return scores


def _pictures(data: ReportData, keys: list[str], read_object: ReadObject) -> dict[str, str]:
    """Thumbnails by key."""
    rows = data.images.filter(pc.is_in(data.images["key"], value_set=pa.array(keys, pa.string())))
    hashes = dict(zip(rows["key"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
    uris = thumbnails(data.outputs, hashes.values(), read_object)
    return {key: uris[sha256] for key, sha256 in hashes.items() if sha256 in uris}


#: How what was rejected is shown: as far as it can be drawn, within a few seconds each.
GLIMPSE = Recipe(
    outputs={"thumb": OutputDefinition(image_size=128, resize_mode="keep_ratio_largest", resize_only_if_bigger=True)},
    max_seconds=5,
)
#: Seconds that these pictures may take in all; and rules by which a file has cost its decoder's time before.
GLIMPSES_SECONDS, SLOW = 20.0, "timeout"


def rejected_pictures(rejects: list[dict[str, Any]], read_object: ReadObject) -> dict[str, str]:
    """Return data URIs of rejected images by ``reject_id``; of those whose bytes are kept and can be drawn, if in part.

    Args:
        rejects: rows of the rejects' table.
        read_object: gives the bytes of an object by its lake key.
    """
    drawn: dict[str, str] = {}
    until = time.monotonic() + GLIMPSES_SECONDS
    renderers = Renderers(1, (*COMMAND, PARTLY))  # whatever the file does to its decoder, it does it there
    try:
        for row in rejects:
            if row["kind"] == "image" and row["raw"] and row["rule"] != SLOW and time.monotonic() < until:
                with suppress(Rejected, ObjectNotFoundError):
                    file = renderers.render(read_object(row["raw"]), GLIMPSE, ["thumb"]).files["thumb"]
                    drawn[row["reject_id"]] = _data_uri(file.data, "thumb.jpg")
    finally:
        renderers.close()
    return drawn
