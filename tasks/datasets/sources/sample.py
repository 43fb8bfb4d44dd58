"""A made-up catalogue of any size, drawn with Pillow: the source of the demo, and of tests."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.folder import FolderSource
from lookbook.tasks.datasets.sources.sample_rows import HEADER, catalogue_lines, csv_text, image_file, style_file

MAX_IMAGES = 1_000_000
#: Raise it when other files are written: samples of another version are made anew.
SAMPLE_VERSION = 1
#: 2024-01-01 00:00:00 UTC, the time of change of every file, so that fingerprints stay the same.
FILE_TIME = 1_704_067_200
CHUNK = 64


class SampleSource:
    """A deterministic, product-like catalogue with a few honest defects, made in `scratch` on first use.

    Args:
        uri: ``sample://N`` with the number of images, 1 to 1,000,000.
        scratch: the folder that keeps the sample for the next run.

    Raises:
        UsageError: there is no such number in the address.
    """

    def __init__(self, uri: str, scratch: Path) -> None:
        match = re.fullmatch(r"sample://([0-9]{1,7})/?", uri, re.IGNORECASE)
        if match is None or not 1 <= int(match[1]) <= MAX_IMAGES:
            raise UsageError(
                f"SOURCE {uri}: it takes the number of images, 1 to {MAX_IMAGES}, as in sample://500.",
            )
        self.count = int(match[1])
        self.uri = f"sample://{self.count}"
        self.folder = scratch.absolute() / f"sample-v{SAMPLE_VERSION}-{self.count}"

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`. The first call makes the files.

        Raises:
            LookbookError: they cannot be written.
        """
        if not self.folder.is_dir():
            self._make()
        yield from FolderSource(self.folder).files()

    def _make(self) -> None:
        aside = self.folder.with_name(f"{self.folder.name}.{uuid.uuid4().hex}.part")
        try:
            _write_sample(aside, self.count)
            _rename(aside, self.folder)
        except OSError as error:
            raise LookbookError(
                f"The sample cannot be written to {self.folder.parent}: {error.strerror}.",
                "Free some space, or point LOOKBOOK_HOME to a folder that you may write to.",
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _write_sample(folder: Path, count: int) -> None:
    for name in ("images", "styles"):
        (folder / name).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        starts = range(0, count, CHUNK)
        names = [
            name for chunk in threads.map(lambda start: _write_images(folder, start, count), starts) for name in chunk
        ]
    for index in range(count):
        style = style_file(index, count)
        if style is not None:
            _write(folder / "styles" / style[0], style[1])
    rows = "".join(catalogue_lines(index, count) for index in range(count))
    _write(folder / "styles.csv", (csv_text([HEADER]) + rows).encode())
    links = [[name, f"https://images.example.com/catalogue/{name}"] for name in names]
    _write(folder / "images.csv", csv_text([["filename", "link"], *links]).encode())


def _write_images(folder: Path, start: int, count: int) -> list[str]:
    names = []
    for index in range(start, min(start + CHUNK, count)):
        name, data = image_file(index, count)
        _write(folder / "images" / name, data)
        names.append(name)
    return names


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, (FILE_TIME, FILE_TIME))


def _rename(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)
    except OSError as error:
        # Another run made the same sample in the meantime: the same files.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
