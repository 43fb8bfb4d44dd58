"""What enriches rows: the links of `images.csv` and the products' JSON files."""

from __future__ import annotations

import html
import json
import math
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lookbook.tasks.datasets.catalogue_delimited import DelimitedFile, find_column, mend_overflow, read_delimited
from lookbook.tasks.datasets.catalogue_types import clean_text
from lookbook.tasks.datasets.rejects import Reject

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

RAW_CHARACTERS = 2000


def read_links(key: str, data: bytes) -> tuple[pa.Table, list[Reject]]:
    """Return the rows of an `images.csv` that name a file, and the rejects."""
    file = read_delimited(key, data, "link")
    if isinstance(file, Reject):
        return LINK_SCHEMA.empty_table(), [file]
    name_column, link_column = find_column(file.names, ("filename", "file_name")), find_column(file.names, ("link",))
    if name_column is None or link_column is None:
        shown = file.delimiter.join(file.names)
        reject = Reject("file", key, "no_link_columns", "its header lacks filename or link", shown)
        return LINK_SCHEMA.empty_table(), [reject]
    return _link_table(file, name_column, link_column), file.rejects


def _link_table(file: DelimitedFile, name_column: int, link_column: int) -> pa.Table:
    rows = []
    for record, values, _ in mend_overflow(file, link_column, "link"):
        name, link = values[name_column].strip(), values[link_column].strip()
        if name:
            rows.append({"file": file.key, "line": record.line, "filename": name, "link": link or None})
        else:
            file.reject("link", record, "no_file_name", "it names no file")
    return pa.Table.from_pylist(rows, LINK_SCHEMA)


def read_style(key: str, data: bytes) -> dict[str, Any] | Reject:
    """Return the values of `STYLE_FIELDS` in a product's JSON file: Kaggle's layout, or one flat object."""
    try:
        document = json.loads(data, parse_constant=_no_number)
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
        return Reject("style", key, "bad_json", str(error) or "nested too deep", raw)


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


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def stem(name: str) -> str:
    """Return the name of a file without folders and extension."""
    return posixpath.splitext(posixpath.basename(name.replace("\\", "/")))[0]
