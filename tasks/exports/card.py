"""The dataset card of an export: README.md with the front matter that Hugging Face's Hub and datasets read."""

from __future__ import annotations

from typing import Any

import yaml

from lookbook.tasks.exports.metadata_table import Metadata
from lookbook.tasks.exports.resolve import Resolved

LOADING = {
    "imagefolder": 'from datasets import load_dataset\n\ndataset = load_dataset("imagefolder", data_dir=".")',
    "parquet": 'from datasets import load_dataset\n\ndataset = load_dataset(".")',
    "webdataset": (
        "import webdataset\n\ndataset = webdataset.WebDataset({shards!r}, shardshuffle=False).decode({decoder})"
    ),
    "coco": 'from pycocotools.coco import COCO\n\ncoco = COCO("annotations/instances_{side}.json")',
    "csv": 'import pandas\n\nrows = pandas.read_csv("metadata.csv")  # url: where each image lies',
}
_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


def dataset_card(resolved: Resolved, metadata: Metadata, books: dict[str, Any], shards: dict[str, int]) -> bytes:
    """Return the card.

    Args:
        resolved: the request.
        metadata: what is told of each file.
        books: as they stand in export.json.
        shards: how many each side has.
    """
    front = yaml.safe_dump(_front_matter(resolved, metadata, books), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{_text(resolved, metadata, books, shards)}".encode()


def _front_matter(resolved: Resolved, metadata: Metadata, books: dict[str, Any]) -> dict[str, Any]:
    request = resolved.request
    total = sum(books["images"].values())
    front: dict[str, Any] = {"pretty_name": request.dataset, "tags": ["lookbook", request.format]}
    if metadata.label:
        front["task_categories"] = ["image-classification"]
    front["size_categories"] = [next((name for most, name in _SIZES if total < most), "n>10M")]
    patterns = {"imagefolder": "{side}/**", "parquet": "data/{side}-*.parquet", "webdataset": "{side}-*.tar"}
    pattern = patterns.get(request.format)
    if pattern:
        files = [{"split": side, "path": pattern.format(side=side)} for side, count in books["images"].items() if count]
        front["configs"] = [{"config_name": "default", "data_files": files}]
    return front


def _text(resolved: Resolved, metadata: Metadata, books: dict[str, Any], shards: dict[str, int]) -> str:
    request, side = resolved.request, next(iter(resolved.request.sides))
    last = shards.get(side, 1) - 1
    pattern = f"{side}-{{000000..{last:06}}}.tar" if last else f"{side}-000000.tar"
    is_array = bool(resolved.recipe and resolved.recipe.encode_format == "npy")
    loading = LOADING[request.format].format(shards=pattern, side=side, decoder="" if is_array else '"pil"')
    made = "steps on the fly, in export.json" if resolved.recipe else f"stored files: {request.recipe}"
    lines = [
        f"# {request.dataset}",
        "",
        f"Export `{resolved.id}` by Lookbook. The same request of the same snapshot gives the same bytes.",
        "",
        f"![some of the images](contact-sheet.jpg)\n\n```python\n{loading}\n```\n",
        "| side | images |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in books["images"].items()),
        "",
        f"{books['selected']:,} rows were chosen: {books['exported']:,} exported"
        + "".join(f", {count:,} {reason}" for reason, count in books["left_out"].items())
        + ". `left_out.csv` names those that are not here.",
        "",
        f"- Images: {made}.",
        f"- Seed: {request.seed}.",
        "- No product is on two sides: images of one product, its colourways and near duplicates are one `leak_group`.",
    ]
    if metadata.label:
        lines.append(
            f"- Class: `{metadata.label_name}`, of the column `{metadata.label}`, {len(metadata.classes)} classes."
        )
    if request.quote_formulas:
        lines.append(
            "- Texts that a spreadsheet would take for formulas (`=`, `+`, `-`, `@` at their beginning) have an "
            "apostrophe before them in `metadata.csv` and `left_out.csv` (`quote_formulas`)."
        )
    lines.append("- Columns: " + ", ".join(f"`{name}`" for name in metadata.columns) + ".")
    return "\n".join(lines) + "\n"
