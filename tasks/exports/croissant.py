"""Croissant: the description of an export that search engines and loaders of datasets read (version 1.0)."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from lookbook.tasks.exports.resolve import Resolved

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
IMAGES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "npy": "application/octet-stream",
}
PACKS = {"webdataset": ("*.tar", "application/x-tar"), "parquet": ("data/*.parquet", "application/x-parquet")}


def croissant(resolved: Resolved, schema: pa.Schema, metadata_sha256: str, extensions: list[str]) -> bytes:
    """Return the document.

    Args:
        resolved: the request.
        schema: of ``metadata.csv``.
        metadata_sha256: its checksum.
        extensions: of the files of images.
    """
    request = resolved.request
    table = {
        "@type": "cr:FileObject",
        "@id": "metadata.csv",
        "name": "metadata.csv",
        "contentUrl": "metadata.csv",
        "encodingFormat": "text/csv",
        "sha256": metadata_sha256,
    }
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": request.dataset,
        "description": f"Images of the dataset {request.dataset}, export {resolved.id} by Lookbook.",
        "version": "1.0.0",
        "distribution": [table, *_file_sets(request.format, extensions)],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "field": [_field(field) for field in schema],
            }
        ],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _file_sets(format_: str, extensions: list[str]) -> list[dict[str, Any]]:
    sets = [PACKS[format_]] if format_ in PACKS else []
    if format_ in {"imagefolder", "coco"}:
        sets = [(f"*/*.{extension}", IMAGES.get(extension, f"image/{extension}")) for extension in extensions]
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"files-{number}",
            "name": f"files-{number}",
            "encodingFormat": kind,
            "includes": pattern,
        }
        for number, (pattern, kind) in enumerate(sets, 1)
    ]


def _field(field: pa.Field) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"images/{field.name}",
        "name": field.name,
        "dataType": _type(field.type),
        "source": {"fileObject": {"@id": "metadata.csv"}, "extract": {"column": field.name}},
    }


def _type(kind: pa.DataType) -> str:
    kinds = [
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (pa.types.is_date, "sc:Date"),
        (pa.types.is_timestamp, "sc:DateTime"),
    ]
    return next((name for test, name in kinds if test(kind)), "sc:Text")
