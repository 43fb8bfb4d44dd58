"""Archives within a source: what is opened, how far, and what becomes of the rest."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.sources import local, nested
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.local import ArchiveBounds, ZipSource
from lookbook.tasks.datasets.sources.nested import NestedSource, open_path
from lookbook.tasks.images.locators import read_bytes

Members = Mapping[str, bytes]


def zipped(members: Members) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def tarred(members: Members, mode: str = "w") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def folder(path: Path, members: Members) -> Path:
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def listed(path: Path, scratch: Path) -> dict[str, SourceFile]:
    files = list(open_path(str(path), path, scratch).files())
    found = {file.key: file for file in files}
    assert len(found) == len(files), "keys are unique"
    return found


def contents(found: Mapping[str, SourceFile]) -> dict[str, bytes]:
    return {key: read_bytes(file.locator) for key, file in found.items() if file.refused is None}


def refused(found: Mapping[str, SourceFile]) -> dict[str, str]:
    return {key: file.refused[0] for key, file in found.items() if file.refused is not None}


INNER = {"1.jpg": b"one" * 99, "more/2.jpg": b"two"}


@pytest.mark.parametrize("pack", [zipped, tarred, lambda members: tarred(members, "w:gz")])
def test_an_archive_in_a_folder_is_read_in_place_under_its_own_path(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    name = "images.zip" if pack is zipped else "images.tar.gz"
    found = listed(folder(tmp_path / "in", {"styles.csv": b"id", f"shop/{name}": pack(INNER)}), tmp_path / "s" / "s")
    inner = {f"shop/{name}/{key}": data for key, data in INNER.items()}
    assert contents(found) == {"styles.csv": b"id", **inner}
    assert not list(tmp_path.glob("s/s/within-*")), "nothing is copied"


def test_archives_of_every_kind_are_opened_within_each_other(tmp_path: Path) -> None:
    third = zipped({"3.jpg": b"three"})
    second = tarred({"c.zip": third, "2.jpg": b"two"}, "w:gz")
    first = tarred({"deep/b.tgz": second, "1.jpg": b"one"})
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"a.tar": first, "0.jpg": b"zero"}))
    assert contents(listed(path, tmp_path / "s")) == {
        "0.jpg": b"zero",
        "a.tar/1.jpg": b"one",
        "a.tar/deep/b.tgz/2.jpg": b"two",
        "a.tar/deep/b.tgz/c.zip/3.jpg": b"three",
    }


def test_what_lies_deeper_than_the_depth_is_one_file_with_the_reason(tmp_path: Path) -> None:
    data = zipped({"x.jpg": b"x"})
    for number in (4, 3, 2, 1):
        data = zipped({f"{number}.zip": data, f"{number}.jpg": b"%d" % number})
    found = listed(folder(tmp_path / "in", {"0.zip": data}), tmp_path / "s" / "s")
    assert refused(found) == {"0.zip/1.zip/2.zip/3.zip": "archive"}
    assert set(contents(found)) == {"0.zip/1.jpg", "0.zip/1.zip/2.jpg", "0.zip/1.zip/2.zip/3.jpg"}
    reason = found["0.zip/1.zip/2.zip/3.zip"].refused
    assert reason is not None
    assert reason[1] == "it lies within 3 archives already"


def test_an_archive_that_cannot_be_read_is_one_file_with_the_reason_and_its_neighbours_are_read(tmp_path: Path) -> None:
    good, locked = zipped({"1.jpg": b"one"}), bytearray(zipped({"in.zip": b"x"}))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    torn = bytearray(zipped({"in.zip": bytes(range(256)) * 9}))
    torn[60] ^= 0xFF
    members = {
        "cut.zip": good[:-9],
        "text.zip": b"text",
        "cut.tar": tarred(INNER)[:1200],
        "cut.tgz": tarred(INNER, "w:gz")[:-9],
        "empty.zip": zipped({}),
        "locked.zip": bytes(locked),
        "torn.zip": bytes(torn),
        "good.zip": good,
        "a.rar": b"Rar!",
        "__MACOSX/a.zip": good,
        "products.xlsx": good,
        "products.csv.gz": b"x",
    }
    found = listed(folder(tmp_path / "in", members), tmp_path / "s" / "s")
    assert refused(found) == {
        "cut.zip": "damaged_archive",
        "text.zip": "damaged_archive",
        "cut.tar": "damaged_archive",
        "cut.tgz": "damaged_archive",
        "empty.zip": "archive",
        "locked.zip/in.zip": "encrypted",
        "torn.zip/in.zip": "damaged_member",
    }
    others = {"good.zip/1.jpg", "a.rar", "__MACOSX/a.zip", "products.xlsx", "products.csv.gz"}
    assert set(found) == {*refused(found), *others}


def test_archives_together_hold_no_more_than_the_one_around_them_may(tmp_path: Path) -> None:
    inner = zipped({"1.jpg": bytes(3000)})
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({f"{number}.zip": inner for number in range(4)}))
    limit = 2 * 3000 + 4 * len(inner)
    found = {file.key: file for file in NestedSource(
        ZipSource(path), tmp_path / "s", path.stat().st_size, ArchiveBounds(max_total_bytes=limit)
    ).files()}  # fmt: skip
    assert refused(found) == {"2.zip": "archive_bomb", "3.zip": "archive_bomb"}
    assert set(contents(found)) == {"0.zip/1.jpg", "1.zip/1.jpg"}
    few = NestedSource(ZipSource(path), tmp_path / "s", path.stat().st_size, ArchiveBounds(max_entries=6))
    assert [file.key for file in few.files()] == ["0.zip/1.jpg", "1.zip/1.jpg", "2.zip", "3.zip"]


def test_an_inner_archive_is_copied_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, scratch = tmp_path / "a.zip", tmp_path / "s"
    inner, tar = zipped(INNER), tarred(INNER)
    path.write_bytes(zipped({"in.zip": inner, "in.tar": tar}))
    before = listed(path, scratch)
    copied: list[str] = []

    def write(chunks: Iterable[bytes], archive: Path, copy: Path, limit: int) -> None:
        copied.append(archive.name)
        local.write_whole(chunks, archive, copy, limit)

    monkeypatch.setattr(nested, "write_whole", write)
    path.write_bytes(zipped({"in.zip": inner, "in.tar": tar, "new.jpg": b"new"}))
    after = listed(path, scratch)
    assert not copied
    assert {key: file.fingerprint for key, file in after.items() if key != "new.jpg"} == {
        key: file.fingerprint for key, file in before.items()
    }
    path.write_bytes(zipped({"in.zip": inner, "in.tar": tarred({"1.jpg": b"ONE" * 99, "more/2.jpg": b"two"})}))
    changed = listed(path, scratch)
    assert copied == ["in.tar"]
    assert changed["in.tar/1.jpg"].fingerprint != before["in.tar/1.jpg"].fingerprint
    assert contents(changed)["in.tar/1.jpg"] == b"ONE" * 99


def test_a_path_through_an_archive_is_no_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"in.zip/1.jpg": b"plain", "in.zip": zipped({"1.jpg": b"inner"})}))
    assert contents(listed(path, tmp_path / "s")) == {"in.zip/1.jpg": b"plain", "in.zip/1#2.jpg": b"inner"}


def test_a_copy_without_space_for_it_ends_the_run_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RESERVE_BYTES", 2**63)
    path, scratch = tmp_path / "a.zip", tmp_path / "s"
    path.write_bytes(zipped({"in.zip": zipped(INNER)}))
    with pytest.raises(LookbookError, match="No space left"):
        listed(path, scratch)
    assert not list(scratch.iterdir())
