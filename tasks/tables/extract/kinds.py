"""Which format a file has, by its name or by what its server says."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["csv", "tsv", "json", "jsonl", "parquet"]

_ENDINGS: dict[str, Kind] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
_MEDIA_TYPES: dict[str, Kind] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}
_PACKED = re.compile(r"\.(gz|gzip)$", re.IGNORECASE)


def kind_of_name(name: str) -> Kind | None:
    """Return the format that a name ends with, that of gzip not counted; None: it names none that is known."""
    return _ENDINGS.get(_PACKED.sub("", name).rpartition(".")[2].lower())


def is_delimited(name: str) -> bool:
    """Return whether a name is one of delimited text, which knows no types."""
    return kind_of_name(name) in ("csv", "tsv")


def kind_of_media_type(header: str) -> Kind | None:
    """Return the format that a Content-Type names."""
    return _MEDIA_TYPES.get(header.partition(";")[0].strip().lower())
