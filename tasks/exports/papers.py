"""The papers of an export: its metadata, what was left out, a contact sheet, a card, checksums, and its books."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports.build import Place

FILES_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("crc32", pa.int64()),
    ]
)
_CHUNK = 2**20


class Papers:
    """Writes papers into an export's folder, and notes the checksum of every file of the export.

    Args:
        place: where the export is built.
        scratch: a folder for files that grow.
    """

    def __init__(self, place: Place, scratch: Path) -> None:
        self._place = place
        self._scratch = scratch
        self._sums = (scratch / "SHA256SUMS").open("w", encoding="utf-8", newline="\n")
        self._list = pq.ParquetWriter(scratch / "files.parquet", FILES_SCHEMA, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def note(self, files: list[dict[str, Any]]) -> None:
        """Note files that stand there."""
        for file in files:
            self._sums.write(f"{file['sha256']}  {file['name']}\n")
        self._waiting += files
        if len(self._waiting) >= 1000:  # noqa: PLR2004 - rows of a row group
            self._flush()

    def write(self, name: str, data: bytes) -> str:
        """Write a paper; its SHA-256."""
        self._place.lake.replace(self._place.file(name), data)
        digest = hashlib.sha256(data).hexdigest()
        self.note([{"name": name, "size": len(data), "sha256": digest, "crc32": zlib.crc32(data)}])
        return digest

    def open(self, name: str) -> IO[bytes]:
        """Return a file in the scratch folder that becomes a paper of this name by `take`."""
        path = self._scratch / hashlib.sha256(name.encode()).hexdigest()
        return path.open("wb")

    def take(self, name: str) -> str:
        """Take what was written under this name; its SHA-256."""
        path = self._scratch / hashlib.sha256(name.encode()).hexdigest()
        size, digest, crc = path.stat().st_size, hashlib.sha256(), 0
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                digest.update(data)
                crc = zlib.crc32(data, crc)
        move_into(self._place, path, self._place.file(name))
        self.note([{"name": name, "size": size, "sha256": digest.hexdigest(), "crc32": crc}])
        return digest.hexdigest()

    def close(self) -> bytes:
        """Write SHA256SUMS, and the list of all files, which is no part of the export; the bytes of that list."""
        self._sums.close()
        sums = (self._scratch / "SHA256SUMS").read_bytes()
        self._place.lake.replace(self._place.file("SHA256SUMS"), sums)
        listed = {"name": "SHA256SUMS", "size": len(sums), "sha256": hashlib.sha256(sums).hexdigest()}
        self._waiting.append(listed | {"crc32": zlib.crc32(sums)})
        self._flush()
        self._list.close()
        data = (self._scratch / "files.parquet").read_bytes()
        self._place.lake.replace(f"{self._place.folder}files.parquet", data)
        return data

    def _flush(self) -> None:
        self._list.write_table(pa.Table.from_pylist(self._waiting, schema=FILES_SCHEMA))
        self._waiting = []


def move_into(place: Place, path: Path, key: str) -> None:
    """Move a file into a place: in a folder without reading it."""
    if not isinstance(place.lake, FolderLake):
        place.lake.replace(key, path.read_bytes())
        return
    target = Path(place.lake.uri(key))
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside")
    shutil.move(path, aside)
    aside.replace(target)


def scratch_folder(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Return a folder for files that grow, which goes away."""
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="lookbook-export-", dir=parent)
