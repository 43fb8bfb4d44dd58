"""Exports of a lake into a folder, without Prefect."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from lookbook.blocks.lake import FolderLake, Lake
from lookbook.tasks.exports.build import ExportFolder
from lookbook.tasks.exports.export import PreparedExport, build, prepare
from lookbook.tasks.exports.request import read_request

SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}


def prepared(lake: Lake, **values: Any) -> PreparedExport:
    """The export that a request for the dataset ``things`` asks for."""
    return prepare(lake, read_request({"dataset": "things"} | values))


def place_in(folder: Path) -> ExportFolder:
    """A place in a folder."""
    return ExportFolder(FolderLake(root=folder), "")


def exported(lake: Lake, folder: Path, **values: Any) -> dict[str, Any]:
    """Export into a folder, whose ``files`` then hold the export; its books."""
    return build(lake, prepared(lake, **values), place_in(folder))


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder, by its name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
