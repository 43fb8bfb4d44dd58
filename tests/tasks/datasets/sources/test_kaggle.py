"""``kaggle://`` as a source: downloaded once for each version, resumed, checked, read where it lies."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lookbook.blocks.downloading import Retries
from lookbook.blocks.errors import LookbookError, OutOfReachError, UsageError
from lookbook.tasks.datasets.sources import kaggle, local, opening
from lookbook.tasks.datasets.sources.kaggle import LOCK, KaggleAddress, KaggleSource, drop, parse_address
from lookbook.tasks.datasets.sources.opening import open_source, version_of
from lookbook.tasks.datasets.watching import look
from lookbook.tasks.images.locators import read_bytes
from lookbook.tasks.runs.progress import listening
from tests.support import kaggle_server
from tests.support.kaggle_server import Dataset, KaggleServer, zip_of
from tests.support.kaggle_server import kaggle as serving
from tests.support.loopback import Fault
from tests.support.pipeline import photo

pytestmark = pytest.mark.usefixtures("server")


def tgz_of(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


SMALL = {"styles.csv": b"id,gender\n1,Women\n", "images/1.jpg": photo(1)}
LARGE = {"images/1.jpg": photo(1), "noise.bin": bytes(range(256)) * 4096}
NESTED = {"inner.zip": zip_of(SMALL), "photo.jpg": photo(7), "table.csv": b"id\n1\n", "packed.tgz": tgz_of(SMALL)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KaggleServer]:
    """Kaggle with a few datasets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(
        shoes=Dataset([SMALL, SMALL | {"images/2.jpg": photo(2)}]),
        large=Dataset([LARGE]),
        nested=Dataset([NESTED], zipped=frozenset(["table.csv"])),
    ) as server:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.api.url)
        yield server


class Waits(list[float]):
    """Notes what would be waited."""

    def retries(self, **changes: int) -> Retries:
        return Retries(sleep=self.append, **changes)


def source(uri: str, scratch: Path, waits: Waits | None = None, **changes: int) -> KaggleSource:
    return KaggleSource(uri, scratch, retries=(Waits() if waits is None else waits).retries(**changes))


def keys(found: KaggleSource) -> list[str]:
    return sorted(file.key for file in found.files())


def part_of(scratch: Path) -> Path:
    return next(scratch.rglob("download.part"))


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("kaggle://ann/shoes", KaggleAddress("ann", "shoes")),
        ("kaggle://ann/shoes/", KaggleAddress("ann", "shoes")),
        ("KAGGLE://Ann/my-shoes_2@12", KaggleAddress("Ann", "my-shoes_2", 12)),
        ("kaggle://ann/shoes@3/a%20b/c.zip", KaggleAddress("ann", "shoes", 3, "a b/c.zip")),
        ("kaggle://ann/shoes/c@2.zip", KaggleAddress("ann", "shoes", 0, "c@2.zip")),
    ],
)
def test_addresses_name_owner_dataset_version_and_file(uri: str, address: KaggleAddress) -> None:
    assert parse_address(uri) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "kaggle://",
            "kaggle://ann",
            "kaggle://ann/",
            "kaggle://ann/shoes@0",
            "kaggle://ann/shoes@x",
            "kaggle://a b/c",
        ),
        *("kaggle://ann/shoes/../secret", "kaggle://ann/shoes/a//b", "kaggle://ann/shoes/%2e%2e/b", "kaggle://ann/ß"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        open_source(uri, tmp_path)
    assert "kaggle://ann/shoes@3/a.zip" in refused.value.way_out


def test_a_dataset_is_read_from_its_archive(tmp_path: Path) -> None:
    found = source("kaggle://ann/shoes@1", tmp_path)
    files = {file.key: read_bytes(file.locator) for file in found.files()}
    assert files == SMALL


def test_the_newest_version_is_taken_and_named(tmp_path: Path) -> None:
    found = source("kaggle://ann/shoes", tmp_path)
    assert "images/2.jpg" in keys(found)
    assert version_of(found) == "kaggle://ann/shoes@2"
    assert "images/2.jpg" not in keys(source("kaggle://ann/shoes@1", tmp_path))


def test_a_version_is_downloaded_once(server: KaggleServer, tmp_path: Path) -> None:
    for _ in range(3):
        keys(source("kaggle://ann/shoes", tmp_path))
    assert server.storage.calls["storage.get"] == 1
    assert server.api.calls["datasets.GetDataset"] == 3
    keys(source("kaggle://ann/shoes@2", tmp_path))
    assert server.api.calls.total() == 4  # a version that is named and here is not even asked for


def test_readers_of_one_version_wait_for_its_download(server: KaggleServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: keys(source("kaggle://ann/large", tmp_path)), range(4)))
    assert found == [sorted(LARGE)] * 4
    assert server.storage.calls["storage.get"] == 1


def test_a_version_that_is_here_is_read_without_kaggle(server: KaggleServer, tmp_path: Path) -> None:
    keys(source("kaggle://ann/shoes@2", tmp_path))
    server.api.inject(Fault(status=500))
    assert "images/2.jpg" in keys(source("kaggle://ann/shoes@2", tmp_path))


@pytest.mark.parametrize(
    ("file", "expected"),
    [("inner.zip", sorted(SMALL)), ("photo.jpg", ["photo.jpg"]), ("table.csv", ["table.csv"])],
)
def test_one_file_is_opened_if_it_is_an_archive(tmp_path: Path, file: str, expected: list[str]) -> None:
    """A table that Kaggle sends packed is one as well."""
    found = source(f"kaggle://ann/nested/{file}", tmp_path)
    assert keys(found) == expected
    assert version_of(found) == f"kaggle://ann/nested@1/{file}"


def test_a_file_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(LookbookError, match="404") as refused:
        keys(source("kaggle://ann/nested/absent.zip", tmp_path))
    assert "inner.zip, packed.tgz, photo.jpg, table.csv" in refused.value.way_out


def test_a_cut_download_goes_on_from_where_it_was(server: KaggleServer, tmp_path: Path) -> None:
    server.storage.inject(Fault(cut=True, cut_after=300_000, count=4))  # each further try asks twice
    waits = Waits()
    assert keys(source("kaggle://ann/large", tmp_path, waits)) == sorted(LARGE)
    resumed = [each for each in server.ranges() if each]
    assert len(resumed) == len(waits) == 2
    assert waits == [1.0, 1.0]  # each try brought something: nothing adds up


def test_a_broken_download_goes_on_in_the_next_process(server: KaggleServer, tmp_path: Path) -> None:
    fault = server.storage.inject(Fault(cut=True, cut_after=700_000))
    with pytest.raises(OutOfReachError, match="tries failed"):
        keys(source("kaggle://ann/large", tmp_path, tries=1))
    kept = part_of(tmp_path).stat().st_size
    assert kept > 0
    server.storage.faults.remove(fault)
    seen: list[tuple[int, int]] = []
    with listening(download=lambda done, total: seen.append((done, total))):
        assert keys(source("kaggle://ann/large", tmp_path)) == sorted(LARGE)
    size = len(zip_of(LARGE))
    assert server.ranges()[-1] == f"bytes={kept}-"
    assert (seen[0], seen[-1]) == ((kept, size), (size, size))
    assert not list(tmp_path.rglob("download.part"))


def test_a_download_whose_process_was_killed_goes_on(
    server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, pieces = threading.Event(), kaggle_server.pieces

    def held(data: bytes) -> Iterator[bytes]:
        for number, piece in enumerate(pieces(data)):
            if number == 8:
                killed.wait(60)
            yield piece

    monkeypatch.setattr(kaggle_server, "pieces", held)
    program = "import sys, pathlib; from lookbook.tasks.datasets.sources.kaggle import KaggleSource\n"
    program += "list(KaggleSource(sys.argv[1], pathlib.Path(sys.argv[2])).files())"
    with subprocess.Popen([sys.executable, "-c", program, "kaggle://ann/large", str(tmp_path)]) as process:
        deadline = time.monotonic() + 60
        while not (begun := next(tmp_path.rglob("download.part"), None)) or begun.stat().st_size < 7 * 64 * 1024:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    killed.set()
    kept = part_of(tmp_path).stat().st_size
    assert keys(source("kaggle://ann/large", tmp_path)) == sorted(LARGE)
    assert server.ranges() == ["", "", f"bytes={kept}-"]


def test_a_part_of_other_bytes_is_not_gone_on_with(server: KaggleServer, tmp_path: Path) -> None:
    fault = server.storage.inject(Fault(cut=True, cut_after=700_000))
    with pytest.raises(OutOfReachError):
        keys(source("kaggle://ann/large", tmp_path, tries=1))
    server.storage.faults.remove(fault)
    server.datasets["ann/large"].archive = zip_of({"images/9.jpg": photo(9)})
    assert keys(source("kaggle://ann/large", tmp_path)) == ["images/9.jpg"]


def test_a_storage_that_ignores_ranges_is_read_from_the_start(server: KaggleServer, tmp_path: Path) -> None:
    server.headers = {"Accept-Ranges": ""}
    server.storage.inject(Fault(cut=True, cut_after=300_000, count=1))
    assert keys(source("kaggle://ann/large", tmp_path)) == sorted(LARGE)


def test_a_download_that_ended_before_it_was_renamed_is_only_checked(server: KaggleServer, tmp_path: Path) -> None:
    keys(source("kaggle://ann/shoes@1", tmp_path))
    path = next(tmp_path.rglob("shoes.zip"))
    path.rename(path.parents[1] / "download.part")
    keys(source("kaggle://ann/shoes@1", tmp_path))
    assert server.storage.calls["storage.get"] == 1


def test_faults_that_pass_are_waited_for_ever_longer(server: KaggleServer, tmp_path: Path) -> None:
    server.api.inject(Fault("datasets.GetDataset", status=503, count=3))
    server.api.inject(Fault("datasets.DownloadDataset", status=429, count=1, headers={"Retry-After": "9"}))
    waits = Waits()
    keys(source("kaggle://ann/shoes", tmp_path, waits))
    assert waits == [1.0, 2.0, 4.0, 9.0]


def test_a_signed_address_that_has_run_out_is_asked_for_anew(server: KaggleServer, tmp_path: Path) -> None:
    server.storage.inject(Fault(status=400, count=1))
    waits = Waits()
    keys(source("kaggle://ann/shoes", tmp_path, waits))
    assert (server.api.calls["datasets.DownloadDataset"], waits) == (2, [1.0])


def test_a_wait_that_is_too_long_is_told_and_not_waited(server: KaggleServer, tmp_path: Path) -> None:
    server.api.inject(Fault(status=429, headers={"Retry-After": "3600"}))
    waits = Waits()
    with pytest.raises(OutOfReachError, match="429 and asks to wait 3600 seconds"):
        keys(source("kaggle://ann/shoes", tmp_path, waits))
    assert waits == []


def test_a_connection_that_is_cut_each_time_is_given_up(server: KaggleServer, tmp_path: Path) -> None:
    server.storage.inject(Fault(cut=True))
    waits = Waits()
    with pytest.raises(OutOfReachError, match="6 tries failed") as failed:
        keys(source("kaggle://ann/shoes", tmp_path, waits))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "kept" in failed.value.way_out
    assert "Signature" not in str(failed.value)


@pytest.mark.parametrize("md5", ["md5=AAAAAAAAAAAAAAAAAAAAAA==", "crc32c=AAAAAA=="])
def test_damaged_bytes_are_removed_and_named(server: KaggleServer, tmp_path: Path, md5: str) -> None:
    """By the checksum of the server; where it names none, by those of the archive's members."""
    server.headers = {"x-goog-hash": md5}
    server.datasets["ann/shoes"].archive = zip_of(SMALL).replace(b"Women", b"Woman")
    with pytest.raises(LookbookError, match="damaged"):
        keys(source("kaggle://ann/shoes", tmp_path))
    assert not list(tmp_path.rglob("*.zip"))
    assert not list(tmp_path.rglob("download.part"))
    server.headers, server.datasets["ann/shoes"].archive = {}, None
    assert "images/1.jpg" in keys(source("kaggle://ann/shoes", tmp_path))


def packed_zip(method: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr("noise.bin", bytes(range(256)) * 40)
    return sink.getvalue()


def without(data: bytes, at: int, count: int, instead: bytes) -> bytes:
    return data[:at] + instead * count + data[at + count :]


@pytest.mark.parametrize(
    ("method", "at", "instead"),
    [
        (zipfile.ZIP_DEFLATED, 39, b"\xff"),  # behind the local header: 30 bytes and the name
        (zipfile.ZIP_BZIP2, 39, b"\xff"),
        (zipfile.ZIP_LZMA, 60, b"\xff"),
    ],
    ids=["deflate", "bzip2", "lzma"],
)
def test_a_member_that_cannot_be_unpacked_is_damage(
    server: KaggleServer, tmp_path: Path, method: int, at: int, instead: bytes
) -> None:
    """Without a checksum of the server: the download is removed, and fetched anew by the next run."""
    server.headers = {"x-goog-hash": ""}
    server.datasets["ann/shoes"].archive = without(packed_zip(method), at, 12, instead)
    with pytest.raises(LookbookError, match=r"damaged: its member noise\.bin"):
        keys(source("kaggle://ann/shoes", tmp_path))
    assert not list(tmp_path.rglob("download.part"))
    server.datasets["ann/shoes"].archive = packed_zip(method)
    assert keys(source("kaggle://ann/shoes", tmp_path)) == ["noise.bin"]


@pytest.mark.parametrize(
    ("at", "value"), [(8, b"\x01"), (10, b"\x09")], ids=["encrypted", "packed in a way unknown here"]
)
def test_a_member_that_nobody_here_can_read_is_no_damage(
    server: KaggleServer, tmp_path: Path, at: int, value: bytes
) -> None:
    data = packed_zip(zipfile.ZIP_STORED)
    data = without(without(data, at - 2, 1, value), data.index(b"PK\x01\x02") + at, 1, value)
    server.headers, server.datasets["ann/shoes"].archive = {"x-goog-hash": ""}, data
    assert keys(source("kaggle://ann/shoes", tmp_path)) == ["noise.bin"]


def test_without_a_checksum_of_the_server_a_sound_archive_is_taken(server: KaggleServer, tmp_path: Path) -> None:
    server.headers = {"x-goog-hash": ""}
    assert "images/1.jpg" in keys(source("kaggle://ann/shoes", tmp_path))


def test_an_archive_without_space_for_it_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=local.RESERVE_BYTES + 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(LookbookError, match=r"bytes are to be downloaded.*has space for 100"):
        keys(source("kaggle://ann/large", tmp_path))
    assert not list(tmp_path.rglob("download.part"))


def test_a_disk_that_runs_full_is_named_and_the_part_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LookbookError, match="No space left"):
        keys(source("kaggle://ann/shoes", tmp_path))
    assert part_of(tmp_path).stat().st_size


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kaggle, "find_spec", lambda _: None)
    with pytest.raises(LookbookError) as refused:
        open_source("kaggle://ann/shoes", tmp_path)
    assert "pip install -r requirements-image.txt" in refused.value.way_out


def test_what_was_downloaded_is_dropped_by_its_version(tmp_path: Path) -> None:
    for version in (1, 2):
        keys(source(f"kaggle://ann/shoes@{version}", tmp_path))
    drop("kaggle://ann/shoes@1", tmp_path)
    assert [path.parents[2].name for path in tmp_path.rglob("shoes.zip")] == ["2"]
    drop(str(tmp_path), tmp_path)
    assert tmp_path.exists()


def test_a_packed_tar_is_unpacked_beside_its_download_and_dropped_with_it(tmp_path: Path) -> None:
    found = source("kaggle://ann/nested/packed.tgz", tmp_path)
    assert {file.key: read_bytes(file.locator) for file in found.files()} == SMALL
    drop(found.uri, tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {LOCK}


def test_what_another_run_downloads_is_not_dropped_and_its_lock_stays(tmp_path: Path) -> None:
    found = source("kaggle://ann/shoes", tmp_path)
    keys(found)
    lock = next(tmp_path.rglob(LOCK))
    program = "import fasteners, sys\nwith fasteners.InterProcessLock(sys.argv[1]):\n print(flush=True); input()"
    command = [sys.executable, "-c", program, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        other.stdout.readline()
        drop(found.uri, tmp_path)
        assert list(tmp_path.rglob("shoes.zip"))
        other.stdin.write(b"\n")
    before = lock.stat().st_ino
    drop(found.uri, tmp_path)
    assert lock.stat().st_ino == before
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {LOCK}
    keys(source("kaggle://ann/shoes", tmp_path))  # and the next run downloads it again


def test_watching_asks_for_the_version_and_downloads_nothing(server: KaggleServer, tmp_path: Path) -> None:
    before = look("kaggle://ann/shoes", tmp_path)
    assert look("kaggle://ann/shoes", tmp_path) == before
    server.datasets["ann/shoes"].versions.append(LARGE)
    assert look("kaggle://ann/shoes", tmp_path) != before
    assert server.storage.calls.total() == 0


def test_a_dataset_of_kaggles_is_no_path_of_this_machine() -> None:
    assert opening.local_path("kaggle://ann/shoes") is None
