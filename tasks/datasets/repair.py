"""Repairs: an original comes back from its source, an output is drawn again from its original."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.opening import open_source
from lookbook.tasks.images.locators import read_bytes
from lookbook.tasks.images.render import render

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials


class SourceFiles:
    """The files of a source, listed once, when the first of them is asked for."""

    def __init__(self, uri: str, scratch: Path, kaggle: KaggleCredentials | None = None) -> None:
        self.uri = uri
        self._scratch = scratch
        self._kaggle = kaggle

    @cached_property
    def by_key(self) -> dict[str, SourceFile]:
        """The files that may be read, by their names within the source."""
        files = open_source(self.uri, self._scratch, self._kaggle).files()
        return {file.key: file for file in files if file.refused is None}


def restore_original(lake: Lake, source: SourceFiles, original: str, sha256: str, keys: tuple[str, ...]) -> None:
    """Fetch an original once more from the source that the snapshot was made from.

    Args:
        lake: where to.
        source: the snapshot's source.
        original: the lake key to write.
        sha256: the content that it has to have.
        keys: names within the source that had this content.

    Raises:
        LookbookError: the source is gone, or holds other bytes now.
    """
    for key in keys:
        file = source.by_key.get(key)
        data = read_bytes(file.locator) if file else b""
        if hashlib.sha256(data).hexdigest() == sha256:
            lake.replace(original, data)
            return
    raise LookbookError(f"{source.uri} does not hold {' or '.join(keys)} as it was.")


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
