"""One export into a folder, measured: ``python -m benchmarks.exporting SOURCE HOME DATASET RECIPE FORMAT``."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from benchmarks.peers import clock
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.places import export_to_folder
from lookbook.tasks.exports.request import read_request


def main(home: Path, dataset: str, recipe: str, format_: str) -> None:
    """Report images, seconds of wall and CPU, megabytes written, and the most that this process held, in MB."""
    lake = FolderLake(root=home / "lake")
    split = {"train": 0.8, "validation": 0.1, "test": 0.1}
    request = read_request({"dataset": dataset, "recipe": recipe, "format": format_, "split": split})
    books = {}

    def work() -> int:
        exported = export_to_folder(lake, prepare(lake, request), home / "out" / uuid.uuid4().hex)
        books.update(exported.books)
        return int(books["exported"])

    measured = clock.measured(work)
    clock.write(measured | {"megabytes": books["bytes"] / 1e6, "peak_mb": clock.peak_mb()})


if __name__ == "__main__":
    main(Path(sys.argv[2]), *sys.argv[3:6])
