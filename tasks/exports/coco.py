"""COCO's annotations: each image of a product is of one category, and its box is the whole image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from lookbook.tasks.exports.build import Place, read_parts
from lookbook.tasks.exports.metadata_table import class_numbers, metadata_rows
from lookbook.tasks.exports.packing import Packer
from lookbook.tasks.exports.papers import Papers


def write_annotations(papers: Papers, place: Place, packer: Packer) -> None:
    """Write ``annotations/instances_<side>.json`` for each side, image by image."""
    number = 1
    for side in packer.resolved.request.sides:
        name = f"annotations/instances_{side}.json"
        with papers.open(name) as file:
            start = number
            file.write(b'{"images": [\n')
            number = _write_all(file, (image for image, _ in _described(place, packer, side, start)), start)
            file.write(b'], "annotations": [\n')
            _write_all(file, (annotation for _, annotation in _described(place, packer, side, start)), start)
            categories = [{"id": at, "name": each, "supercategory": ""} for at, each in enumerate(_names(packer), 1)]
            file.write(b'], "categories": ' + json.dumps(categories, ensure_ascii=False).encode() + b"}\n")
        papers.take(name)


def _names(packer: Packer) -> list[str]:
    """Return the categories; one where the catalogue has none."""
    return packer.metadata.classes or ["image"]


def _write_all(file: IO[bytes], documents: Iterator[dict[str, Any]], number: int) -> int:
    """Write documents with commas between them; one past the number of the last, if they are counted from `number`."""
    for count, document in enumerate(documents):
        file.write((b",\n" if count else b"") + json.dumps(document, ensure_ascii=False).encode())
        number += 1
    return number


def _described(place: Place, packer: Packer, side: str, number: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each image of a side, and its annotation."""
    for done in read_parts(place, [part for part in packer.plan.parts if part.side == side]):
        rows = metadata_rows(packer.metadata, packer.plan, done.samples)
        label = packer.metadata.label_name if packer.metadata.label else None
        categories = class_numbers(packer.metadata, rows[label]).to_pylist() if label else [0] * rows.num_rows
        kept = [name for name in ("product_key", "sha256") if name in rows.column_names]
        told = rows.select(["file_name", "width", "height", *kept]).to_pylist()
        for row, category in zip(told, categories, strict=True):
            width, height = row["width"], row["height"]
            annotation = {
                "id": number,
                "image_id": number,
                "category_id": category + 1,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "segmentation": [[0, 0, width, 0, width, height, 0, height]],
                "iscrowd": 0,
            }
            yield {"id": number} | row, annotation
            number += 1
