"""Repairs: an original comes back from its source, an output is drawn again from its original."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.errors import LookbookError
from blocks.lake import Lake
from tasks.datasets.manifest import Manifest
from tasks.datasets.sources.opening import open_source
from tasks.images.locators import read_bytes
from tasks.images.render import render


def restore_original(lake: Lake, manifest: Manifest, row: Mapping[str, Any]) -> None:
    """Fetch an original once more from the source that the snapshot was made from.

    Raises:
        LookbookError: the source is gone, or holds other bytes now.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for file in open_source(manifest.source, Path(scratch)).files():
            if file.key == row["key"] and file.refused is None:
                data = read_bytes(file.locator)
                if hashlib.sha256(data).hexdigest() == row["sha256"]:
                    lake.replace(row["original_key"], data)
                    return
    raise LookbookError(f"{manifest.source} does not hold {row['key']} as it was.")


def redraw(lake: Lake, manifest: Manifest, row: Mapping[str, Any], original_key: str) -> None:
    """Draw an output again from its original. The same recipe and codecs give the same bytes.

    Raises:
        LookbookError: the original is gone or damaged, or this installation's codecs are others.
    """
    original = lake.get(original_key)
    if hashlib.sha256(original).hexdigest() != row["sha256"]:
        raise LookbookError(f"its original {original_key} is damaged")
    name = str(row["output"])
    data = render(original, manifest.recipe, [name]).files[name].data
    if hashlib.sha256(data).hexdigest() != row["output_sha256"]:
        raise LookbookError("drawn again it has other bytes: the codecs here are not those that drew it")
    lake.replace(str(row["object_key"]), data)
