"""What an ingest passes over: products and images that were forgotten, by the dataset's tombstones, and not by name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.catalogue import Catalogue, stem
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.links import CatalogueName, Match, link, names_in, normal_path, short_name
from lookbook.tasks.datasets.sources.base import SourceFile
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


def linked_products(
    rows: Sequence[CatalogueName], keys: Collection[str], contents: Mapping[str, str], *, suffixed: bool
) -> tuple[list[Match], dict[str, set[str]]]:
    """Return the images of each row, as `lookbook.tasks.datasets.links.link` does; and all products of each image."""
    matches, _ = link(rows, keys, contents, suffixed=suffixed)
    products: dict[str, set[str]] = {}
    for row, match in zip(rows, matches, strict=True):
        for key in () if match.ambiguous else match.keys:
            products.setdefault(key, set()).add(row.product_key)
    return matches, products


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


@dataclass(frozen=True)
class Listing:
    """What a source holds: `images` and those `beyond` its limit, the `catalogue`, and what is `ignored`."""

    images: list[SourceFile]
    beyond: list[SourceFile]
    catalogue: Catalogue
    ignored: list[SourceReject]

    @property
    def parts(self) -> tuple[list[SourceFile], list[SourceFile], Catalogue, list[SourceReject]]:
        """Return all four."""
        return self.images, self.beyond, self.catalogue, self.ignored


def pass_over(lake: Lake, dataset: str, listing: Listing, *, suffixed: bool) -> tuple[Listing, PassedOver]:
    """Leave what was forgotten out of a listing, before anything of it is planned.

    An image goes by its key; by its key and fingerprint, where its content was found to be forgotten; and where all
    products that it is linked to were forgotten. A row goes by its product's key.

    Args:
        lake: with the dataset's tombstones.
        dataset: that the source is ingested as.
        listing: of the source.
        suffixed: as for `linked_products`.

    Raises:
        LookbookError: the tombstones are damaged.
    """
    stones = read_tombstones(lake, dataset)
    if not stones.marks:
        return listing, PassedOver()
    files, rows = [*listing.images, *listing.beyond], listing.catalogue.rows
    gone = {
        file.key
        for file in files
        if stones.hold("image", file.key) or stones.hold("copy", f"{file.key}\0{file.fingerprint}")
    }
    products = rows["product_key"].to_pylist()
    buried = {key for key in set(products) if stones.hold("product", key)}
    if buried or gone:
        keys = [file.key for file in files]
        matches, linked = linked_products(names_of(rows), keys, {key: key for key in keys}, suffixed=suffixed)
        gone |= {key for key, of in linked.items() if of <= buried}
        cells = rows["file_name"].to_pylist()
        for number, match in enumerate(matches):
            if cells[number] and gone.intersection(match.keys):
                cells[number] = without_names(cells[number], gone.intersection(match.keys))
        place = rows.schema.get_field_index("file_name")
        rows = rows.set_column(place, "file_name", pa.array(cells, pa.string()))
        rows = rows.filter(pc.invert(pc.is_in(rows["product_key"], pa.array(sorted(buried), pa.string()))))
    catalogue, ignored, dropped = _without_rejects(stones, listing, rows)
    listed = [reject_of(stones, "image", file.key) for file in listing.images if file.key in gone]
    listed += [reject_of(stones, "product", key) for key in sorted(buried)]
    passed = PassedOver(
        images=sum(file.key in gone for file in listing.images),
        rows=listing.catalogue.rows.num_rows - rows.num_rows + sum(each.kind == "row" for each in dropped),
        listed=[*listed, *(reject_of(stones, "reject", f"{each.kind}:{each.locator}") for each in dropped)],
    )
    kept = [[file for file in some if file.key not in gone] for some in (listing.images, listing.beyond)]
    return Listing(kept[0], kept[1], catalogue, ignored), passed


def _without_rejects(
    stones: Tombstones, listing: Listing, rows: pa.Table
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

    catalogue = listing.catalogue
    dropped = [each for each in (*catalogue.rejects, *listing.ignored) if is_gone(each)]
    out = set(dropped)
    names = catalogue.links["filename"].to_pylist()
    kept = pa.array([not is_link_of(name, stones.hold) for name in names], pa.bool_())
    changed = replace(
        catalogue,
        rows=rows,
        links=catalogue.links.filter(kept),
        rejects=[each for each in catalogue.rejects if each not in out],
    )
    return changed, [each for each in listing.ignored if each not in out], dropped


def is_link_of(file_name: str | None, holds: Callable[[Kind, str], bool]) -> bool:
    """Return whether a row of `images.csv` is of a product or an image that is among some."""
    if not file_name:
        return False
    return holds("product", stem(file_name)) or holds("name", posixpath.basename(normal_path(file_name)))


def note_copies(lake: Lake, dataset: str, parts: Iterable[pa.Table], passed: PassedOver) -> PassedOver:
    """Note the images that batches found to have a forgotten content: the next run passes them over unread.

    Returns:
        What is passed over, with these among what is listed; the books count them.
    """
    found: list[tuple[Kind, str]] = []
    for part in parts:
        some = part.filter(pc.equal(part["status"], FORGOTTEN))
        pairs = zip(some["key"].to_pylist(), some["fingerprint"].to_pylist(), strict=True)
        found += [("copy", f"{key}\0{fingerprint}") for key, fingerprint in pairs]
    if not found:
        return passed
    add_tombstones(lake, dataset, found)
    stones = read_tombstones(lake, dataset)
    listed = [reject_of(stones, "image", value.partition("\0")[0]) for _, value in found]
    return replace(passed, listed=[*passed.listed, *listed])
