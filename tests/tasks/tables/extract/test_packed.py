"""Gzip and zip: read where they stand; damaged ones and bombs have a name."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.tasks.datasets.sources.local import ArchiveBounds
from lookbook.tasks.tables.extract import files
from lookbook.tasks.tables.extract.files import Reading, read_file, read_or_reject
from lookbook.tasks.tables.extract.pieces import UnreadableError
from lookbook.tasks.tables.spec.tasks import Delimited, FileFormat

CSV = b"a,b\n1,2\n"
SMALL = ArchiveBounds(max_entries=3, max_ratio=2, ratio_free_bytes=1000)


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def read(path: Path, kind: FileFormat = "auto") -> list[tuple[str, list[Any]]]:
    """The address and the values of each row."""
    rows = []
    for piece in read_file(path, path.name, path.name, Reading(kind, Delimited(), path.parent)):
        assert not piece.rejects
        for row in piece.rows.to_pylist() if piece.rows is not None else []:
            address = row.pop("_input")
            row.pop("_line")
            rows.append((address, list(row.values())))
    return rows


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "values"),
    [
        ("f.csv", CSV, ["1", "2"]),
        ("f.tsv", b"a\tb\n1\t2\n", ["1", "2"]),
        ("f.TAB", b"a,b\tc\n1,2\t3\n", ["1,2", "3"]),
        ("f.json", b'{"a":1}', [1]),
        ("f.jsonl", b'{"a":1}\n', [1]),
        ("f.ndjson", b'{"a":1}\n', [1]),
        ("f.parquet", parquet(a=[1], b=[2.5]), [1, 2.5]),
    ],
)
@pytest.mark.parametrize("packing", ["plain", "gzip", "zip", "gzip in zip"])
def test_each_format_is_read_in_each_packing(
    tmp_path: Path, name: str, data: bytes, values: list[Any], packing: str
) -> None:
    inner = gzip.compress(data, mtime=0) if packing.startswith("gzip") else data
    named = f"{name}.gz" if packing.startswith("gzip") else name
    if packing.endswith("zip") and packing != "gzip":
        path = write(tmp_path, "files.zip", zipped({f"in/{named}": inner}))
        assert read(path) == [(f"files.zip!/in/{named}", values)]
    else:
        assert read(write(tmp_path, named, inner)) == [(named, values)]


def test_what_is_packed_is_seen_by_its_bytes_and_not_its_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, "f.csv", gzip.compress(CSV, mtime=0))) == [("f.csv", ["1", "2"])]
    assert read(write(tmp_path, "g.csv", zipped({"x.csv": CSV}))) == [("g.csv!/x.csv", ["1", "2"])]


def test_every_member_of_a_known_kind_is_read_and_no_other(tmp_path: Path) -> None:
    members = {"a.csv": CSV, "deep/b.json": b'{"a":3}', "README.txt": b"no", "__MACOSX/._a.csv": b"x", ".c.csv": b"x"}
    rows = read(write(tmp_path, "f.zip", zipped(members)))
    assert rows == [("f.zip!/a.csv", ["1", "2"]), ("f.zip!/deep/b.json", [3])]


def test_a_format_that_is_named_chooses_among_the_members(tmp_path: Path) -> None:
    path = write(tmp_path, "f.zip", zipped({"a.csv": CSV, "b.json": b'{"a":3}'}))
    assert [address for address, _ in read(path, "json")] == ["f.zip!/b.json"]
    path = write(tmp_path, "g.zip", zipped({"data.txt": CSV}))
    assert read(path, "csv") == [("g.zip!/data.txt", ["1", "2"])]


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("f.bin", CSV, "unknown_format"),
        ("f.zip", zipped({"a.txt": b"x"}), "unknown_format"),
        ("f.csv.gz", gzip.compress(CSV * 1000, mtime=0)[:-9], "damaged_file"),
        ("f.csv.gz", gzip.compress(CSV, mtime=0)[:12] + b"\0\xff" * 20, "damaged_file"),
        ("f.zip", zipped({"a.csv": CSV})[:-30], "damaged_file"),
        ("f.zip", zipped({"a.csv": CSV}, zipfile.ZIP_STORED).replace(b"1,2", b"1,3"), "damaged_file"),
        ("f.parquet", b"PAR1 nothing PAR1", "damaged_file"),
        ("f.parquet", parquet(a=[1])[:-20], "damaged_file"),
        ("f.parquet", b"", "damaged_file"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_or_one_reject(
    tmp_path: Path, name: str, data: bytes, rule: str
) -> None:
    path = write(tmp_path, name, data)
    with pytest.raises(UnreadableError) as caught:
        read(path)
    assert caught.value.rule == rule
    pieces = list(read_or_reject(path, name, name, Reading("auto", Delimited(), tmp_path)))
    (reject,) = [reject for piece in pieces for reject in piece.rejects]
    assert reject.rule == rule
    assert not any(piece.rows for piece in pieces), "no row is taken of a file that is damaged"


def test_an_encrypted_member_is_a_reject_and_the_others_are_read(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.csv": CSV, "b.csv": CSV}, zipfile.ZIP_STORED))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path = write(tmp_path, "f.zip", bytes(data))
    pieces = list(read_or_reject(path, "f.zip", "f.zip", Reading("auto", Delimited(), tmp_path)))
    assert [reject.rule for piece in pieces for reject in piece.rejects] == ["encrypted"]
    assert sum(piece.rows.num_rows for piece in pieces if piece.rows) == 1


@pytest.mark.parametrize("name", ["f.csv.gz", "f.zip", "lies.zip", "gzip.zip", "f.parquet.gz"])
def test_bombs_are_refused_before_they_fill_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "BOUNDS", SMALL)
    bomb = b"a,b\n" + b"0,0\n" * 100_000
    data = {
        "f.csv.gz": gzip.compress(bomb, mtime=0),
        "f.parquet.gz": gzip.compress(bomb, mtime=0),
        "f.zip": zipped({"a.csv": bomb}),
        "lies.zip": zipped({"a.csv": bomb}).replace(len(bomb).to_bytes(4, "little"), (10).to_bytes(4, "little")),
        "gzip.zip": zipped({"a.csv.gz": gzip.compress(bomb, mtime=0)}),
    }[name]
    path = write(tmp_path, name, data)
    with pytest.raises(UnreadableError) as caught:
        read(path)
    assert caught.value.rule in ("archive_bomb", "damaged_file")
    assert sum(file.stat().st_size for file in tmp_path.rglob("*")) < len(bomb)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BOUNDS", SMALL)
    with pytest.raises(UnreadableError, match="3 files"):
        read(write(tmp_path, "f.zip", zipped({f"{number}.csv": CSV for number in range(4)})))
