"""The contract of a lake, for each kind of it; at the end what only a folder does."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError, ObjectConflictError, ObjectNotFoundError, SwapConflictError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import IDENTITY, FolderLake, Lake, ObjectInfo
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import GcsServer, serving_gcs

ROOT = Path(__file__).parents[2]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with serving_gcs() as server:
        server.store.most_results = 5
        yield server


@pytest.fixture(params=["folder", "bucket", "folder of a bucket"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return FolderLake(root=tmp_path / "lake")
    server: GcsServer = request.getfixturevalue("gcs")
    bucket = f"bucket-{next(_numbers)}"
    server.store.buckets[bucket] = {}
    prefix = "some/where" if "folder" in request.param else ""
    return GcsLake(bucket=bucket, prefix=prefix, credentials=AnonymousGcpCredentials(endpoint=server.url))


def test_what_is_put_can_be_got(lake: Lake) -> None:
    assert lake.put("originals/ab/x.jpg", b"\x00\xff") is True
    assert lake.get("originals/ab/x.jpg") == b"\x00\xff"


def test_an_object_is_written_once(lake: Lake) -> None:
    assert lake.put("a/b", b"bytes") is True
    assert lake.put("a/b", b"bytes") is False
    assert lake.get("a/b") == b"bytes"


def test_another_size_under_a_written_key_is_a_conflict(lake: Lake) -> None:
    lake.put("a/b", b"first")
    with pytest.raises(ObjectConflictError, match="a/b"):
        lake.put("a/b", b"longer than first")
    assert lake.get("a/b") == b"first"


def test_a_missing_object_is_named(lake: Lake) -> None:
    with pytest.raises(ObjectNotFoundError, match="no/such"):
        lake.get("no/such")


def test_listing_gives_every_object_of_a_folder_and_no_other(lake: Lake) -> None:
    for key in ("a/1", "a/b/2", "ab/3"):
        lake.put(key, key.encode())
    assert {(info.key, info.size) for info in lake.list("a")} == {("a/1", 3), ("a/b/2", 5)}
    assert list(lake.list("none")) == []


def test_listing_tells_when_an_object_was_written_and_which_version_it_is(lake: Lake) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    lake.replace("a/1", b"one")
    (first,) = lake.list("a")
    lake.replace("a/1", b"two")
    (second,) = lake.list("a")
    assert first.modified is not None
    assert second.modified is not None
    assert before < first.modified <= second.modified < datetime.now(UTC) + timedelta(seconds=2)
    assert (first.key, first.size) == (second.key, second.size)
    assert first.version != second.version


def test_folders_are_named_once_and_objects_beside_them_are_none(lake: Lake) -> None:
    for number in range(12):  # more than a page of the stand-in holds
        lake.put(f"tables/t{number:02}/data/x", b"1")
        lake.put(f"tables/t{number:02}/CURRENT", b"1")
    lake.put("tables/file", b"1")
    lake.put("tablesque/other/x", b"1")
    assert list(lake.folders("tables")) == [f"t{number:02}" for number in range(12)]
    assert list(lake.folders("tables/t00")) == ["data"]
    assert list(lake.folders("nowhere")) == []


def test_a_local_copy_is_a_file_with_the_objects_bytes(lake: Lake, tmp_path: Path) -> None:
    lake.put("datasets/d/images.parquet", b"rows")
    assert lake.local_copy("datasets/d/images.parquet", tmp_path / "copies").read_bytes() == b"rows"
    with pytest.raises(ObjectNotFoundError, match="no/such"):
        lake.local_copy("no/such", tmp_path / "copies")


def test_listing_starts_where_it_is_told_to(lake: Lake) -> None:
    keys = [f"a/{number:02}" for number in range(12)]
    for key in keys:
        lake.put(key, b"x")
    assert sorted(info.key for info in lake.list("a")) == keys
    assert sorted(info.key for info in lake.list("a", start="a/04")) == keys[4:]
    assert list(lake.list("a", start="b")) == []


def test_keys_are_any_text(lake: Lake) -> None:
    keys = {"a/b c.jpg", "a/%2F.jpg", "a/ü?x=1&y#z.jpg", "a/+plus.jpg", "a/'quote'.jpg"}
    for key in keys:
        lake.put(key, key.encode())
    assert {info.key for info in lake.list("a")} == keys
    assert all(lake.get(key) == key.encode() for key in keys)


def test_what_is_replaced_has_the_new_bytes_whatever_stood_there(lake: Lake) -> None:
    lake.replace("a/b", b"first")
    lake.replace("a/b", b"second and longer")
    assert lake.get("a/b") == b"second and longer"
    assert list(lake.list("a")) == [ObjectInfo("a/b", 17)]


def test_an_empty_object_is_an_object(lake: Lake) -> None:
    assert lake.put("a/empty", b"") is True
    assert lake.put("a/empty", b"") is False
    assert lake.get("a/empty") == b""


def test_of_many_who_put_one_object_exactly_one_is_told_so(lake: Lake) -> None:
    created: list[bool] = []
    threads = [threading.Thread(target=lambda: created.append(lake.put("a/b", b"same"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(created) == 8
    assert created.count(True) >= 1
    assert lake.get("a/b") == b"same"


def test_an_object_of_many_parts_comes_back_as_it_was(lake: Lake) -> None:
    data = os.urandom(9 * 2**20)
    lake.put("big", data)
    assert lake.get("big") == data


def test_removing_twice_is_harmless(lake: Lake) -> None:
    lake.put("a/1", b"x")
    lake.remove("a/1")
    lake.remove("a/1")
    assert list(lake.list("a")) == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a/.."])
def test_no_key_leaves_the_lake(lake: Lake, key: str) -> None:
    with pytest.raises(LookbookError, match="no key of a lake"):
        lake.put(key, b"x")


def test_a_swap_needs_the_version_that_was_read(lake: Lake) -> None:
    assert lake.read_version("CURRENT") is None
    lake.swap("CURRENT", b"one", None)
    found = lake.read_version("CURRENT")
    assert found is not None
    lake.swap("CURRENT", b"two", found[1])
    with pytest.raises(SwapConflictError):
        lake.swap("CURRENT", b"three", found[1])
    with pytest.raises(SwapConflictError):
        lake.swap("CURRENT", b"three", None)
    assert lake.get("CURRENT") == b"two"


def test_of_many_swaps_from_one_version_exactly_one_wins(lake: Lake) -> None:
    lake.swap("CURRENT", b"start", None)
    version = (lake.read_version("CURRENT") or (b"", ""))[1]
    won: list[int] = []

    def swap(number: int) -> None:
        try:
            lake.swap("CURRENT", str(number).encode(), version)
        except SwapConflictError:
            return
        won.append(number)

    threads = [threading.Thread(target=swap, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lake.get("CURRENT") == str(won[0]).encode()


def test_a_removed_object_may_be_swapped_in_again(lake: Lake) -> None:
    lake.swap("CURRENT", b"one", None)
    lake.remove("CURRENT")
    assert lake.read_version("CURRENT") is None
    lake.swap("CURRENT", b"two", None)
    assert lake.get("CURRENT") == b"two"


def test_many_that_ask_for_the_id_at_once_get_one_that_stays(lake: Lake) -> None:
    start, found = threading.Barrier(6), set()

    def ask(one: Lake) -> None:
        start.wait(60)
        found.add(one.id)

    threads = [threading.Thread(target=ask, args=(lake,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (name,) = found
    assert re.fullmatch(r"[0-9a-f]{32}", str(name))
    assert lake.read_id() == lake.id == name


def test_an_id_that_is_looked_for_only_is_not_made_and_one_that_is_known_is_not_read_again(lake: Lake) -> None:
    assert lake.read_id() is None
    assert lake.read_version(IDENTITY) is None
    name = lake.id
    lake.remove(IDENTITY)
    assert lake.id == name
    assert lake.model_copy().id == name


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"\xff", b'{"id": 5}', b'{"id": "%s"}' % (b"A" * 32), b'{"id": "%s"}' % (b"a" * 33),
     b'{"id": "%s\\n"}' % (b"a" * 32), b'{"id": "x; DROP SCHEMA lookbook"}'],
)  # fmt: skip
def test_an_id_that_is_none_is_named_and_stays(lake: Lake, text: bytes) -> None:
    lake.replace(IDENTITY, text)
    with pytest.raises(LookbookError, match=r"lake\.json does not hold the lake's id") as caught:
        assert lake.id
    assert caught.value.way_out
    assert lake.get(IDENTITY) == text


COUNT_UP = """
import sys
from pathlib import Path
from lookbook.blocks.lake import FolderLake, SwapConflictError
lake, done = FolderLake(root=Path(sys.argv[1])), 0
while done < 60:
    data, version = lake.read_version("counter")
    try:
        lake.swap("counter", b"%d" % (int(data) + 1), version)
    except SwapConflictError:
        continue
    done += 1
"""


def test_no_swap_of_several_processes_is_lost(tmp_path: Path) -> None:
    FolderLake(root=tmp_path).swap("counter", b"0", None)
    command = [sys.executable, "-c", COUNT_UP, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert FolderLake(root=tmp_path).get("counter") == b"180"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    lake = FolderLake(root=tmp_path / "lake")
    blocked = tmp_path / "lake" / "a"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder should be")
    with pytest.raises(OSError, match="a"):
        lake.put("a/b", b"x")
    left = [path for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    assert left == [blocked]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake
import os
root = Path(sys.argv[1])
try:
    FolderLake(root=root).put("big", b"x" * 20_000_000)
except LookbookError as error:
    print(error.problem)
print(sorted(p.name for p in root.rglob("*") if p.is_file()))
"""


def test_a_full_disk_is_said_so_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(small)], capture_output=True, text=True, check=True, cwd=ROOT
        )
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert f"No space left for the lake in {small}" in done.stdout
    assert done.stdout.rstrip().endswith("[]")
