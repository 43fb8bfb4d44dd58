"""The pictures of a report: thumbnails as data URIs, the contact sheet, and groups that look the same."""

from __future__ import annotations

import base64
import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.blocks.sql_text import literal
from lookbook.tasks.datasets.report.charts import TIMES
from lookbook.tasks.datasets.report.data import (
    ReportData,
    ReportTable,
    catalogue_columns,
    named_column,
    plain_name,
)
from lookbook.tasks.datasets.schemas import OUTPUTS_SCHEMA
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
    keys = _spread(data)
    columns = ["key", "sha256", "product_key", "original_width", "original_height", "format", "camera_model"]
    at = data.images.at("key")
    images = {row["key"]: row for row in data.images.first(columns, f"WHERE list_contains(?, {at})", keys)}
    uris = thumbnails(drawn_of(data, [row["sha256"] for row in images.values()]), read_object)
    products = _products_of(keys, data.products)
    return [
        _contact(images[key], products.get(key, {}), uris[images[key]["sha256"]], data.products.names) for key in keys
    ]


def drawn_of(data: ReportData, hashes: Iterable[str]) -> pa.Table:
    """Return the rows of the outputs that the thumbnails of some originals are taken from."""
    rows = data.outputs
    columns = ["sha256", "output", "object_key", "bytes"]
    where = f"WHERE {_is_smallest(data)} AND list_contains(?, {rows.at('sha256')})"
    found = rows.first(columns, where, sorted(set(hashes)))
    return pa.Table.from_pylist(found, pa.schema([OUTPUTS_SCHEMA.field(name) for name in columns]))


def _is_smallest(data: ReportData) -> str:
    """Return SQL for whether a row of the outputs is of the output that thumbnails are taken from."""
    rows = data.outputs
    if not rows.num_rows:
        return "false"
    output = rows.at("output")
    order = f"GROUP BY 1 ORDER BY {output} <> 'thumb', avg({rows.at('bytes')}::BIGINT), 1 LIMIT 1"
    ((name,),) = rows.answer(output, order)
    return f"{output} = {literal(name)}"


def thumbnails(outputs: pa.Table, read_object: ReadObject) -> dict[str, str]:
    """Return data URIs of originals by their hash: of the output `thumb` if there is one, else of the smallest.

    Args:
        outputs: of these originals: ``sha256``, ``output``, ``object_key`` and ``bytes``.
        read_object: gives the bytes of an output by its lake key.

    Raises:
        ObjectNotFoundError: the lake lacks an object that the outputs name.
    """
    drawn = _smallest_output(outputs)
    if drawn.num_rows == 0:
        return {}
    keys = drawn["object_key"].to_pylist()
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="report") as pool:
        uris = pool.map(lambda key: _data_uri(read_object(key), key), keys)
        return dict(zip(drawn["sha256"].to_pylist(), uris, strict=True))


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


def _spread(data: ReportData) -> list[str]:
    """Return the keys of images to show: one of each group in turn, large groups first; in the order of their groups.

    An image's group is the category of its product; without a catalogue's categories, the folder that it lies in.
    Within a group the order of the hashes decides, which is as good as a draw by lot and never changes.
    """
    images, products, outputs = data.images, data.products, data.outputs
    key, sha256, image_key = images.at("key"), images.at("sha256"), products.at("image_key")
    name = named_column(products.names, GROUP_COLUMNS)
    group, joined = f"regexp_replace({key}, '[^/]*$', '')", ""
    if name and products.num_rows:
        category = f"coalesce({products.at(name)}::VARCHAR, {literal(UNGROUPED)})"
        group = f"coalesce(category, {literal(UNGROUPED)})"
        joined = (
            f"LEFT JOIN (SELECT {image_key} AS image_key, arg_min({category}, place) AS category"  # noqa: S608
            f" FROM {products.view} GROUP BY 1) ON image_key = {key}"
        )
    drawn = f"SELECT {outputs.at('sha256')} FROM {outputs.view} WHERE {_is_smallest(data)}"  # noqa: S608
    rest = f"{joined} WHERE {images.ended('loaded')} AND {sha256} IN ({drawn})"
    sizes = images.answer(f"{group}, count(*)", f"{rest} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?", SHEET_SIZE)
    turns = ((turn, place) for turn in range(SHEET_SIZE) for place, (_, size) in enumerate(sizes) if turn < size)
    shown = Counter(place for _, place in islice(turns, SHEET_SIZE))
    if not shown:
        return []
    # A hash has a fixed length: the least texts of hash and key are those of the least hashes.
    first = images.answer(
        f"{group}, min({sha256} || chr(0) || {key}, {max(shown.values())})",
        f"{rest} AND list_contains(?, {group}) GROUP BY 1 ORDER BY 1",
        [sizes[place][0] for place in shown],
    )
    wanted = {sizes[place][0]: number for place, number in shown.items()}
    return [each.partition("\0")[2] for name, listed in first for each in listed[: wanted[name]]]


def _products_of(keys: list[str], products: ReportTable) -> dict[str, dict[str, Any]]:
    """Return the first catalogue row of each image that has one."""
    image_key = products.at("image_key")
    found = products.answer(f"{image_key}, min(place)", f"WHERE list_contains(?, {image_key}) GROUP BY 1", keys)
    rows = products.first(products.names, "WHERE list_contains(?, place)", [place for _, place in found])
    return {row["image_key"]: row for row in rows}


def _contact(image: dict[str, Any], product: dict[str, Any], uri: str, columns: Sequence[str]) -> Contact:
    name_column = named_column(columns, NAME_COLUMNS)
    file_name = image["key"].rpartition("/")[2]
    name = (product.get(name_column) if name_column else None) or file_name
    details = [("file", image["key"])]
    details += [(plain_name(label), product.get(label)) for label in catalogue_columns(columns)[:12] if product]
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
    images = data.images
    canonical = images.at("near_duplicate_of")
    largest = images.answer(
        f"{canonical}, count(*), count(*) OVER (), sum(count(*)) OVER ()",
        f"WHERE {images.ended('loaded')} AND {canonical} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
        MOST_GROUPS,
    )
    if not largest:
        return NearDuplicates([], 0, 0)
    scores = {key: _nearest(images, key) for key, *_ in largest}
    pictures = _pictures(data, [key for shown in scores.values() for key in shown], read_object)
    shown = [
        NearGroup([GroupImage(each, pictures.get(each, ""), score) for each, score in scores[key].items()], number + 1)
        for key, number, *_ in largest
    ]
    groups, members = largest[0][2:]
    return NearDuplicates(shown, groups, members + groups)


def _nearest(images: ReportTable, canonical: str) -> dict[str, float | None]:
    """Return the scores of those that are shown, by key; the canonical one comes first, and has none."""
    key, score = images.at("key"), images.at("near_duplicates_score")
    nearest = images.answer(
        f"{key}, {score}",
        f"WHERE {images.ended('loaded')} AND {images.at('near_duplicate_of')} = ? ORDER BY 2, 1 LIMIT ?",
        canonical,
        MOST_PICTURES - 1,
    )
    return {canonical: None, **dict(nearest)}


def _pictures(data: ReportData, keys: list[str], read_object: ReadObject) -> dict[str, str]:
    """Thumbnails by key."""
    images = data.images
    key = images.at("key")
    hashes = dict(images.answer(f"{key}, {images.at('sha256')}", f"WHERE list_contains(?, {key})", keys))
    uris = thumbnails(drawn_of(data, hashes.values()), read_object)
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
