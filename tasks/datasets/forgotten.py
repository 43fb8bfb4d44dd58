"""What an ingest passes over: products and images that were forgotten, by the dataset's tombstones, and not by name."""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.catalogue import Catalogue, stem
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.links import CatalogueName, link, names_in, normal_path, short_name
from lookbook.tasks.images.tombstones import FORGOTTEN, Kind, Tombstones, add_tombstones, read_tombstones

#: What stands between the values of a rejected row, whatever file it is of.
_BETWEEN = re.compile(r"[,;|\t]+")
#: And around one.
_AROUND = " \r\n'\"{}[]:"
#: Digits of a mark by which a person tells one from another.
SHORT = 16
MESSAGE = "It was deleted on request, and its name with it."


def names_of(rows: pa.Table) -> list[CatalogueName]:
    """Return how each row of a catalogue, or of a snapshot's products, names its image."""
    names = rows["file_name"] if "file_name" in rows.column_names else pa.nulls(rows.num_rows, pa.string())
    columns = (column.to_pylist() for column in (rows["product_key"], rows["file"], names))
    return [CatalogueName(*values) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class RowImages:
    """The images of a row of products, best first; none of an ambiguous one."""

    keys: Sequence[str] = ()
    ambiguous: bool = False


def linked_products(
    rows: Sequence[CatalogueName], keys: Collection[str], contents: Mapping[str, str], *, suffixed: bool
) -> tuple[list[RowImages], dict[str, set[str]]]:
    """Return the images of each row, as `lookbook.tasks.datasets.links.link` finds them; and each image's products.

    Args:
        rows: of a catalogue.
        keys: of the images.
        contents: of each.
        suffixed: as for `link`.
    """
    desk = Desk(Path(tempfile.gettempdir()))
    files = [(key, True, short_name(key)) for key in keys]
    desk.put("files", files, key=pa.string(), is_image=pa.bool_(), name=pa.string())
    desk.put("content_of", list(contents.items()), key=pa.string(), content=pa.string())
    named = [(n, row.product_key, row.catalogue_file, row.file_name) for n, row in enumerate(rows)]
    desk.put("rows", named, n=pa.int64(), product_key=pa.string(), file=pa.string(), file_name=pa.string())
    link(desk, suffixed=suffixed)
    images = dict(desk.rows("SELECT n, list(key ORDER BY place) FROM row_images GROUP BY n"))
    unsure = desk.rows("SELECT ambiguous FROM matches ORDER BY n")
    linked = desk.rows("SELECT key, list(DISTINCT product_key) FROM row_images JOIN rows USING (n) GROUP BY key")
    found = [RowImages(images.get(n, ()), ambiguous) for n, (ambiguous,) in enumerate(unsure)]
    return found, {key: set(products) for key, products in linked}


def without_names(cell: str, gone: Iterable[str]) -> str | None:
    """Return a cell of file names without those of some images; None where none is left."""
    short = {short_name(key) for key in gone}
    left = [name for name in names_in(cell) if short_name(name) not in short]
    return "|".join(left) or None


def first_value(raw: str) -> str:
    """Return the first value of a rejected row as it stood, most often its product's key."""
    return _BETWEEN.split(raw, maxsplit=1)[0].strip(_AROUND)


def names_one(
    kind: str, locator: str, raw: str, is_product: Callable[[str], bool], is_image: Callable[[str], bool]
) -> bool:
    """Return whether a reject is of a product or an image of some: it bears its name, or has its key among its values.

    A value that happens to be the same counts as well: of a row that could not be read, nobody knows which its key is.
    """
    if kind in {"row", "link"}:
        values = {value.strip(_AROUND) for value in _BETWEEN.split(raw)}
        values |= {value.rpartition(":")[2].strip(_AROUND) for value in values}  # of JSON, without its name
        return any(map(is_product, values)) or any(is_product(stem(value)) or is_image(value) for value in values)
    return is_image(locator) or (kind == "style" and is_product(stem(locator)))


def reject_of(stones: Tombstones, kind: Kind, value: str) -> SourceReject:
    """Return how something forgotten is listed: without its name."""
    return SourceReject("forgotten", f"{kind}:{stones.mark(kind, value)[:SHORT]}", FORGOTTEN, MESSAGE)


@dataclass(frozen=True)
class PassedOver:
    """What a source holds that was forgotten.

    Attributes:
        images: how many image files.
        rows: how many rows of the catalogue, those that were refused with them.
        listed: each once, for the rejects.
    """

    images: int = 0
    rows: int = 0
    listed: Sequence[SourceReject] = field(default_factory=list)


def pass_over(
    desk: Desk, lake: Lake, dataset: str, catalogue: Catalogue, ignored: list[SourceReject], *, suffixed: bool
) -> tuple[Catalogue, list[SourceReject], PassedOver]:
    """Leave what was forgotten out of what a source holds, before anything of it is planned.

    An image goes by its key; by its key and fingerprint, where its content was found to be forgotten; and where all
    products that it is linked to were forgotten. A row goes by its product's key.

    Args:
        desk: with the source's files; images that are passed over go from them.
        lake: with the dataset's tombstones.
        dataset: that the source is ingested as.
        catalogue: of the source.
        ignored: files of the source.
        suffixed: as for `linked_products`.

    Returns:
        The catalogue and the ignored files that are left, and what is passed over.

    Raises:
        LookbookError: the tombstones are damaged.
    """
    stones = read_tombstones(lake, dataset)
    if not stones.marks:
        return catalogue, ignored, PassedOver()
    rows, gone = catalogue.rows, set[str]()
    for part in desk.stream("SELECT key, fingerprint FROM files WHERE is_image"):
        for key, mark in zip(part.column("key").to_pylist(), part.column("fingerprint").to_pylist(), strict=True):
            if stones.hold("image", key) or stones.hold("copy", f"{key}\0{mark}"):
                gone.add(key)
    buried = {key for key in pc.unique(rows["product_key"]).to_pylist() if stones.hold("product", key)}
    if buried or gone:
        keys = [key for (key,) in desk.rows("SELECT key FROM files WHERE is_image")]
        matches, linked = linked_products(names_of(rows), keys, {key: key for key in keys}, suffixed=suffixed)
        gone |= {key for key, of in linked.items() if of <= buried}
        cells = rows["file_name"].to_pylist()
        for number, match in enumerate(matches):
            if cells[number] and gone.intersection(match.keys):
                cells[number] = without_names(cells[number], gone.intersection(match.keys))
        place = rows.schema.get_field_index("file_name")
        rows = rows.set_column(place, "file_name", pa.array(cells, pa.string()))
        rows = rows.filter(pc.invert(pc.is_in(rows["product_key"], pa.array(sorted(buried), pa.string()))))
    desk.put("gone", [(key,) for key in gone], key=pa.string())
    within = [key for (key,) in desk.rows("SELECT key FROM images SEMI JOIN gone USING (key) ORDER BY depth(key), key")]
    desk.run("DELETE FROM files WHERE key IN (SELECT key FROM gone)")
    left, kept, dropped = _without_rejects(stones, catalogue, ignored, rows)
    listed = [reject_of(stones, "image", key) for key in within]
    listed += [reject_of(stones, "product", key) for key in sorted(buried)]
    passed = PassedOver(
        images=len(within),
        rows=catalogue.rows.num_rows - rows.num_rows + sum(each.kind == "row" for each in dropped),
        listed=[*listed, *(reject_of(stones, "reject", f"{each.kind}:{each.locator}") for each in dropped)],
    )
    return left, kept, passed


def _without_rejects(
    stones: Tombstones, catalogue: Catalogue, ignored: list[SourceReject], rows: pa.Table
) -> tuple[Catalogue, list[SourceReject], list[SourceReject]]:
    """Return the catalogue with these rows and what is ignored, without what was forgotten of both; and that."""

    def is_gone(each: SourceReject) -> bool:
        return stones.hold("reject", f"{each.kind}:{each.locator}") or names_one(
            each.kind,
            each.locator,
            each.raw,
            lambda value: stones.hold("product", value),
            lambda value: stones.hold("image", value),
        )

    dropped = [each for each in (*catalogue.rejects, *ignored) if is_gone(each)]
    out = set(dropped)
    names = catalogue.links["filename"].to_pylist()
    kept = pa.array([not is_link_of(name, stones.hold) for name in names], pa.bool_())
    changed = replace(
        catalogue,
        rows=rows,
        links=catalogue.links.filter(kept),
        rejects=[each for each in catalogue.rejects if each not in out],
    )
    return changed, [each for each in ignored if each not in out], dropped


def is_link_of(file_name: str | None, holds: Callable[[Kind, str], bool]) -> bool:
    """Return whether a row of `images.csv` is of a product or an image that is among some."""
    if not file_name:
        return False
    return holds("product", stem(file_name)) or holds("name", posixpath.basename(normal_path(file_name)))


def note_copies(lake: Lake, dataset: str, passed: PassedOver, copies: Sequence[tuple[str, str]]) -> PassedOver:
    """Note the images that batches found to have a forgotten content: the next run passes them over unread.

    Args:
        lake: with the dataset's tombstones.
        dataset: that is ingested.
        passed: what is passed over by now.
        copies: their keys and fingerprints.

    Returns:
        What is passed over, with these among what is listed; the books count them.
    """
    if not copies:
        return passed
    add_tombstones(lake, dataset, [("copy", f"{key}\0{fingerprint}") for key, fingerprint in copies])
    stones = read_tombstones(lake, dataset)
    return replace(passed, listed=[*passed.listed, *(reject_of(stones, "image", key) for key, _ in copies)])
