"""What an export chooses from: the images of a snapshot beside the catalogue's values, one table for filters."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, read_table
from lookbook.tasks.datasets.report.data import catalogue_columns, named_column
from lookbook.tasks.datasets.report.pictures import GROUP_COLUMNS, NAME_COLUMNS

#: Large, and of no use to a filter; the EXIF fields are read where a filter names them.
NEVER_READ = ("signature", "fingerprint", "error_message")
EXIF = "exif"

#: The columns of every row, before the catalogue's and the image's: what they are called in the two tables.
OF_PRODUCT = {
    "product_key": "product_key",
    "row_outcome": "outcome",
    "missing_reason": "missing_reason",
    "matched_by": "matched_by",
    "repaired": "repaired",
    "catalogue_file": "file",
    "catalogue_line": "line",
}
OF_IMAGE = {"image_key": "key", "sha256": "sha256", "image_outcome": "outcome"}

#: What the columns of an export's own are called.
_OF_FILES = ("file_name", "split", "copy", "class_label", "leak_group", "image", "array", "url")
RESERVED = ("further", *_OF_FILES, "predicted_label", "predicted_score", "embedding")

_ORDER = [
    ("product_key", "ascending"),
    ("further", "ascending"),
    ("sha256", "ascending"),
    ("image_key", "ascending"),
    ("catalogue_file", "ascending"),
    ("catalogue_line", "ascending"),
]


@dataclass(frozen=True)
class DatasetRows:
    """The rows that a filter chooses from.

    Attributes:
        table: a row for each catalogue row with its image, if it has one, and for each image that no catalogue row
            was matched with; in the order of the products' keys, orphans last.
        catalogue: the catalogue's own columns in it.
        display_name: the one of them that names a product, if there is one.
        label: the one that classes are taken from, if there is one.
    """

    table: pa.Table
    catalogue: list[str]
    display_name: str | None
    label: str | None


def read_rows(lake: Lake, manifest: Manifest, *, with_exif: bool = False) -> DatasetRows:
    """Return the rows of a snapshot.

    Args:
        lake: where it is.
        manifest: of the snapshot.
        with_exif: read the images' EXIF fields, too.

    Raises:
        DamagedSnapshotError: a table is missing or damaged.
    """
    images = read_table(lake, manifest, "images", NEVER_READ if with_exif else (*NEVER_READ, EXIF))
    return join_rows(images, read_table(lake, manifest, "products"))


def join_rows(images: pa.Table, products: pa.Table) -> DatasetRows:
    """Return the rows of an images table and a products table.

    A column of the catalogue that is named like one of an image's, or of an export's, is called ``catalogue_<name>``.
    """
    renamed = _catalogue_names(images, products)
    further = pc.invert(pc.is_in(images["key"], value_set=pc.unique(products["image_key"]).drop_null()))
    rest = images.filter(further)
    first = _first_product(rest, products)
    tables = [
        _beside(products, images.take(pc.index_in(products["image_key"], value_set=images["key"])), renamed, False),
        _beside(products.take(first), rest, renamed, True),
    ]
    table = pa.concat_tables(tables)
    table = table.take(pc.sort_indices(table, sort_keys=_ORDER))
    names = {old: new for old, new in renamed.items() if old not in OF_PRODUCT.values()}
    name, label = (named_column(products, columns) for columns in (NAME_COLUMNS, GROUP_COLUMNS))
    return DatasetRows(table, list(names.values()), names.get(name or ""), names.get(label or ""))


def _first_product(images: pa.Table, products: pa.Table) -> pa.Array:
    """Return for each image the place of the first row of its product; null for orphans."""
    return pc.index_in(images["product_key"], value_set=products["product_key"])


def _beside(products: pa.Table, images: pa.Table, renamed: dict[str, str], further: bool) -> pa.Table:
    """Return rows of the two tables, one beside the other."""
    # Snapshots of earlier versions lack a column.
    columns = {name: products[old] for name, old in OF_PRODUCT.items() if old in products.column_names}
    columns = {"matched_by": pa.nulls(len(products), pa.string())} | columns
    if further:  # an orphan has no catalogue row, but may be named by a product that this run's limit left out
        columns["product_key"] = images["product_key"]
    columns |= {name: images[old] for name, old in OF_IMAGE.items()}
    columns["further"] = pa.array([further] * len(images), pa.bool_())
    columns |= {new: products[old] for old, new in renamed.items()}
    taken = {*OF_IMAGE.values(), "product_key"}
    return pa.table(columns | {name: images[name] for name in images.column_names if name not in taken})


def _catalogue_names(images: pa.Table, products: pa.Table) -> dict[str, str]:
    """Return what the catalogue's columns are called among the rows."""
    taken = {name.lower() for name in (*images.column_names, *OF_PRODUCT, *OF_IMAGE, *RESERVED)}
    names: dict[str, str] = {}
    for name in catalogue_columns(products):
        new = name
        while new.lower() in taken:
            new = f"catalogue_{new}"
        taken.add(new.lower())
        names[name] = new
    return names
