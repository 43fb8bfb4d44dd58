"""The catalogue of a source: one table of its products' rows, whatever files it comes in."""

from __future__ import annotations

import gzip
import html
import io
import json
import math
import posixpath
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import UsageError
from lookbook.tasks.datasets.catalogue_sheets import (
    PLACE_FIELDS,
    RAW_CHARACTERS,
    Columns,
    DelimitedFile,
    Sheet,
    csv_sheet,
    find_column,
    json_lines_sheet,
    mended_rows,
    no_number,
    parquet_sheet,
    read_delimited,
    workbook_sheet,
)
from lookbook.tasks.datasets.catalogue_types import (
    OWN_FIELDS,
    SourceReject,
    clean_names,
    clean_text,
    converted,
    stack_tables,
)
from lookbook.tasks.datasets.links import names_in, normal_path, stem_of
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.local import ArchiveBounds
from lookbook.tasks.datasets.workbooks import MAGICS
from lookbook.tasks.images.locators import UnreadableMemberError, read_bytes

LINK_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),  # key of the images.csv
        pa.field("line", pa.int64()),
        pa.field("filename", pa.string()),
        pa.field("link", pa.string()),
    ]
)

STYLE_FIELDS: list[pa.Field] = [
    pa.field("brandName", pa.string()),
    pa.field("price", pa.float64()),
    pa.field("discountedPrice", pa.float64()),
    pa.field("ageGroup", pa.string()),
    pa.field("description", pa.string()),  # without HTML tags
]


def read_links(key: str, data: bytes) -> tuple[pa.Table, list[SourceReject]]:
    """Return the rows of an `images.csv` that name a file, and the rejects."""
    file = read_delimited(key, data, "link")
    if isinstance(file, SourceReject):
        return LINK_SCHEMA.empty_table(), [file]
    name_column, link_column = find_column(file.names, ("filename", "file_name")), find_column(file.names, ("link",))
    if name_column is None or link_column is None:
        shown = file.delimiter.decode().join(file.names)
        reject = SourceReject("file", key, "no_link_columns", "its header lacks filename or link", shown)
        return LINK_SCHEMA.empty_table(), [reject]
    return _link_table(file, name_column, link_column), file.rejects


def _link_table(file: DelimitedFile, name_column: int, link_column: int) -> pa.Table:
    tables, first = [], len(PLACE_FIELDS)
    for rows in mended_rows(file, link_column, "link"):
        places = zip(*(rows.column(at).to_pylist() for at in range(3)), strict=True)
        names, links = (rows.column(first + column).to_pylist() for column in (name_column, link_column))
        taken = []
        for place, name, link in zip(places, map(str.strip, names), map(str.strip, links), strict=True):
            if name:
                taken.append({"file": file.key, "line": place[0], "filename": name, "link": link or None})
            else:
                file.reject("link", place, "no_file_name", "it names no file")
        tables.append(pa.Table.from_pylist(taken, LINK_SCHEMA))
    return pa.concat_tables(tables) if tables else LINK_SCHEMA.empty_table()


def read_style(key: str, data: bytes) -> dict[str, Any] | SourceReject:
    """Return the values of `STYLE_FIELDS` in a product's JSON file: Kaggle's layout, or one flat object."""
    try:
        document = json.loads(data, parse_constant=no_number)
        product = _product(document)
        return {
            "brandName": _text(product, "brandName"),
            "price": _number(product, "price"),
            "discountedPrice": _number(product, "discountedPrice"),
            "ageGroup": _text(product, "ageGroup"),
            "description": _description(product),
        }
    except (ValueError, RecursionError) as error:
        raw = data[:RAW_CHARACTERS].decode("utf-8", "backslashreplace").replace("\0", r"\x00")
        return SourceReject("style", key, "bad_json", str(error) or "nested too deep", raw)


def _product(document: object) -> Mapping[str, Any]:
    product = document.get("data", document) if isinstance(document, dict) else document
    if not isinstance(product, dict):
        raise ValueError("it holds no object that describes a product")  # noqa: TRY004 - bad data, not a bad call
    return product


def _text(product: Mapping[str, Any], name: str) -> str | None:
    value = product.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not text")  # noqa: TRY004 - bad data, not a bad call
    return clean_text(value)


def _number(product: Mapping[str, Any], name: str) -> float | None:
    value = product.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} is {value!r}, not a number")  # noqa: TRY004 - bad data, not a bad call
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}, not a number")
    return number


def _description(product: Mapping[str, Any]) -> str | None:
    descriptors = product.get("productDescriptors")
    about = descriptors.get("description") if isinstance(descriptors, dict) else product.get("description")
    text = _text(about, "value") if isinstance(about, dict) else _text({"description": about}, "description")
    return plain_text(text) if text else None


def plain_text(markup: str) -> str:
    """HTML as plain text on one line: tags taken out, entities replaced."""
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", markup)).split())


def stem(name: str) -> str:
    """Return the name of a file without folders and extension."""
    return stem_of(posixpath.basename(name.replace("\\", "/")))


_STYLES = re.compile(r"styles(#[0-9]+)?\.csv", re.IGNORECASE)  # An archive may hold it twice under one name.
_LINKS = re.compile(r"images(#[0-9]+)?\.csv", re.IGNORECASE)
_OTHER = re.compile(r".*\.(csv|tsv|jsonl|ndjson|parquet|xls|xlsx|xlsm|xlsb|ods)(\.gz)?", re.IGNORECASE)
_STYLE = re.compile(r"(?:.*/)?styles/([^/]+)\.json", re.IGNORECASE)


@dataclass(frozen=True)
class Catalogue:
    """What a source's catalogue files hold.

    Attributes:
        rows: one row for each record that was not rejected: the columns of `OWN_FIELDS`, then the values.
        links: the rows of `images.csv`, with the columns of `LINK_SCHEMA`.
        rejects: of kind ``row``, ``link``, ``style`` or ``file``.
        rows_found: records read: as many as there are `rows` and rejects of kind ``row``.
        files: keys of the files of rows, links and products, in the order they were read.
    """

    rows: pa.Table
    links: pa.Table
    rejects: list[SourceReject]
    rows_found: int
    files: list[str]


def read_catalogue(files: Sequence[SourceFile], columns: Columns | None = None) -> Catalogue:
    """Read the catalogue among the files of a source.

    Every `styles.csv` is read, the one in the uppermost folder first; without any, every other table with a column that
    names a product or an image. Of rows with one id the first counts, and the others
    have the outcome ``duplicate``. `images.csv` adds file names and links, `styles/<id>.json` prices and such.

    Args:
        files: those of the source that are no images.
        columns: which columns name the product and the image.

    Raises:
        UsageError: no table has a column that the user names.
        OSError: a file could not be read: worth another attempt.
    """
    tables = sorted((file for file in files if _OTHER.fullmatch(_name(file)) and not file.is_litter), key=_place)
    rejects: list[SourceReject] = []
    keys: list[str] = []
    links = _read_all_links([file for file in tables if _LINKS.fullmatch(_name(file))], rejects, keys)
    sheets = _sheets(tables, links is not None, columns or Columns())
    unlike = [f"{file.key}: {r.message}" for file, sheet in sheets for r in sheet.rejects if r.rule == "no_such_column"]
    if sheets and len(unlike) == len(sheets):
        raise UsageError(f"{unlike[0]}.", "Name a column of the catalogue.")
    for file, sheet in sheets:
        rejects.extend(sheet.rejects)
        keys.append(file.key)
    if not keys:  # a table that nobody could take is told: the user may think that it is the catalogue
        rejects.extend(SourceReject("file", file.key, "no_id_column", _NO_CATALOGUE) for file in tables)
    rows = stack_tables([pa.schema(OWN_FIELDS).empty_table(), *[sheet.table for _, sheet in sheets]])
    rows = _with_outcomes(_with_product_keys(rows))
    if links is not None:
        rows = _with_links(rows, links)
    rows = _with_styles(rows, files, rejects, keys)
    found = sum(sheet.found for _, sheet in sheets)
    return Catalogue(rows, LINK_SCHEMA.empty_table() if links is None else links, rejects, found, keys)


def may_be_read(file: SourceFile) -> bool:
    """Return whether `read_catalogue` may open a file: it is called as a table, or as what describes one product."""
    return not file.is_litter and bool(_OTHER.fullmatch(_name(file)) or _STYLE.fullmatch(file.key))


_NO_CATALOGUE = "No column of it names a product or an image: it is no catalogue. --key or --image-column names one."


def _place(file: SourceFile) -> tuple[int, str]:
    return file.key.count("/"), file.key


def _name(file: SourceFile) -> str:
    return posixpath.basename(file.key)


def _read(file: SourceFile) -> bytes | SourceReject:
    if file.refused is not None:
        return SourceReject("file", file.key, *file.refused)
    try:
        return read_bytes(file.locator)
    except UnreadableMemberError as error:
        return SourceReject("file", file.key, error.rule, error.message)


def _read_all_links(files: list[SourceFile], rejects: list[SourceReject], keys: list[str]) -> pa.Table | None:
    tables = []
    for file in files:
        data = _read(file)
        table, faults = (
            (LINK_SCHEMA.empty_table(), [data]) if isinstance(data, SourceReject) else read_links(file.key, data)
        )
        if any(fault.rule == "no_link_columns" for fault in faults):
            continue  # Not the links but perhaps a catalogue that is called images.csv.
        tables.append(table)
        rejects.extend(faults)
        keys.append(file.key)
    return pa.concat_tables(tables) if tables else None


def _sheets(tables: list[SourceFile], has_links: bool, columns: Columns) -> list[tuple[SourceFile, Sheet]]:
    styles = [file for file in tables if _STYLES.fullmatch(_name(file))]
    others = [file for file in tables if not (has_links and _LINKS.fullmatch(_name(file)))]
    found = list(_read_sheets(styles, columns, is_styles=True))
    if not any(sheet.table.num_rows for _, sheet in found):  # it is called so, and is another table
        plain = list(_read_sheets(others, columns, is_styles=False))
        found = plain if any(sheet.table.num_rows for _, sheet in plain) or not found else found
    return found


def _read_sheets(
    files: Sequence[SourceFile], columns: Columns, *, is_styles: bool
) -> Iterator[tuple[SourceFile, Sheet]]:
    for file in files:
        data, name = _read(file), file.key.lower()
        if name.endswith(".gz") and isinstance(data, bytes):
            data, name = _unpacked(file.key, data), name.removesuffix(".gz")
        if isinstance(data, SourceReject):
            yield file, Sheet(rejects=[data])
            continue
        if data.startswith(MAGICS):  # whatever it is called
            sheet = workbook_sheet(file.key, data, columns)
        elif name.endswith(".parquet"):
            sheet = parquet_sheet(file.key, data, columns)
        elif name.endswith((".jsonl", ".ndjson")):
            sheet = json_lines_sheet(file.key, data, columns)
        else:
            sheet = csv_sheet(file.key, data, columns, is_styles=is_styles)
        if sheet is not None:
            yield file, sheet


def _unpacked(key: str, data: bytes) -> bytes | SourceReject:
    """Return what a gzip file holds, within the bounds of archives."""
    limit = ArchiveBounds().byte_limit(len(data))
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            unpacked = packed.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        return SourceReject("file", key, "damaged_member", f"it cannot be unpacked: {error}")
    if len(unpacked) > limit:
        return SourceReject("file", key, "archive_bomb", f"it unpacks to more than {limit} bytes")
    return unpacked


def _with_product_keys(rows: pa.Table) -> pa.Table:
    """Name the products that have no id after their file: its stem, or its path where stems are not unique."""
    unnamed = rows.filter(pc.is_null(rows["product_key"])).select(["file", "file_name"])
    if not len(unnamed):
        return rows
    paths = [_path_of(*each) for batch in unnamed.to_batches(20_000) for each in zip(*_lists(batch), strict=True)]
    different = set(paths)
    names = [name for name in (stem, stem_of) if len(set(map(name, different))) == len(different)]
    given = iter(map(names[0], paths) if names else paths)
    return _replaced(
        rows,
        "product_key",
        converted(rows["product_key"], lambda key: next(given) if key is None else key, pa.string()),
    )


def _path_of(file: str, name: str) -> str:
    return normal_path(posixpath.join(posixpath.dirname(file), (names_in(name) or [name])[0])) or name


def _lists(batch: pa.RecordBatch) -> list[list[Any]]:
    return [column.to_pylist() for column in batch.columns]


def _with_outcomes(rows: pa.Table) -> pa.Table:
    keys = rows["product_key"]
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), np.bool_)
    again[first] = False
    return _replaced(rows, "outcome", pc.if_else(pa.array(again), "duplicate", ""))


def _with_links(rows: pa.Table, links: pa.Table) -> pa.Table:
    """Join the links by the stem of their file name, which is the product's key; the first of several counts."""
    stems = converted(links["filename"], lambda name: stem(name or ""), pa.string())
    found = pc.index_in(rows["product_key"], value_set=stems)  # of several the first
    own, given = rows["file_name"], links["filename"].take(found)
    rows = _replaced(rows, "file_name", pc.if_else(pc.fill_null(pc.not_equal(own, ""), False), own, given))
    (column,) = clean_names(["link"], rows.column_names)
    return rows.append_column(column, links["link"].take(found))


def _with_styles(rows: pa.Table, files: Sequence[SourceFile], rejects: list[SourceReject], read: list[str]) -> pa.Table:
    """Add the values of the products' JSON files, read one at a time. Files of unknown products are not read."""
    named = [(match[1], file) for file in files if not file.is_litter and (match := _STYLE.fullmatch(file.key))]
    if not named:  # of a million products the keys alone are a hundred megabytes
        return rows
    keys = rows["product_key"].to_pylist()
    wanted = set(keys)
    chosen: dict[str, SourceFile] = {}
    for name, file in named:
        if name in wanted and (name not in chosen or _place(file) < _place(chosen[name])):
            chosen[name] = file
    if not chosen:
        return rows
    values = {}
    for key, file in sorted(chosen.items()):
        data = _read(file)
        read.append(file.key)
        value = data if isinstance(data, SourceReject) else read_style(file.key, data)
        if isinstance(value, SourceReject):
            rejects.append(SourceReject("style", value.locator, value.rule, value.message, value.raw))
        else:
            values[key] = value
    names = clean_names([field.name for field in STYLE_FIELDS], rows.column_names)
    for name, wanted in zip(names, STYLE_FIELDS, strict=True):
        column = [values[key][wanted.name] if key in values else None for key in keys]
        rows = rows.append_column(name, pa.array(column, wanted.type))
    return rows


def _replaced(rows: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)
