"""Deletion on request: nothing of it is left anywhere, wherever the run is killed, and no later run takes it up."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.snapshots import Snapshots
from lookbook.deployments.api.submissions import submit
from lookbook.flows.forget import Job, forget_all, survey
from lookbook.flows.rename import rename_all
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.forgetting import forgetting_key, receipt_key, resume
from lookbook.tasks.datasets.inventory import take_inventory
from lookbook.tasks.datasets.manifest import (
    file_faults,
    list_snapshots,
    read_table,
    require_published,
    snapshot_folder,
    writing_key,
)
from lookbook.tasks.datasets.restore import restore_snapshot
from lookbook.tasks.datasets.tags import find_snapshot, set_tag
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.finished import find_finished, list_files
from lookbook.tasks.exports.places import export_to_lake
from lookbook.tasks.exports.predictions import SCHEMA, folder_of
from lookbook.tasks.exports.request import read_request
from lookbook.tasks.images.batch import process_batch, read_part
from lookbook.tasks.images.locators import land
from lookbook.tasks.images.parquet import to_parquet
from lookbook.tasks.images.tombstones import read_tombstones
from lookbook.tasks.runs.lease import Hold, LeaseHeldError, lease
from lookbook.tasks.runs.records import end_run, start_run
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs
from tests.support.lives import whole_tables
from tests.support.pipeline import photo, request, row, run, write_collection
from tests.support.sets import sampled

#: Of product 1 the first and the third; the second is a copy of what product 2 shows, the fourth was refused.
IMAGES = {
    "1.jpg": photo(1),
    "more/1.jpg": photo(2),
    "old/1.jpg": photo(11),
    "bad/1.jpg": b"<html>1</html>",
    "2.jpg": photo(2),
    "4.jpg": photo(4),
    "stray.jpg": photo(5),
}
#: What is to be gone: bytes of three files, and no others.
GOING = [hashlib.sha256(IMAGES[name]).hexdigest() for name in ("1.jpg", "old/1.jpg", "bad/1.jpg")]
STEPS = [
    *("note", "tombstones", "exports", "publish", "follow", "aside", "snapshot", "file", "replaced", "pieces", "notes"),
    *("predictions", "stages", "books", "objects", "more objects", "proof", "receipt"),
]


class KilledError(BaseException):
    """Ends a run as a kill does: nothing of it catches this."""


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk."""
    monkeypatch.setattr(FolderLake, "settle", lambda _: None)


def ingested(place: Workspace, source: Path, images: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    """Ingest what a source holds now."""
    for path in source.rglob("*.jpg"):
        path.unlink()
    write_collection(source, images, [row(number) for number in (1, 2, 4, 6)])
    with lease(place.registry, "dataset/things"):
        return run(request(place, source, **changes))


def lived(place: Workspace, source: Path) -> list[str]:
    """A dataset with two snapshots, of which the older one alone holds `old/1.jpg`; returns their ids, newest first."""
    ingested(place, source, IMAGES)
    set_tag(place.lake, "things", "v1")
    ingested(place, source, {name: data for name, data in IMAGES.items() if name != "old/1.jpg"})
    return [one.snapshot_id for one in list_snapshots(place.lake, "things")]


def forgotten(
    place: Workspace, *keys: str, step: Callable[[str], object] = lambda _: None, where: list[str] | None = None
) -> dict[str, Any]:
    """What the flow does."""

    def follow_current() -> None:
        manifest = require_published(place.lake, "things").manifest
        follow.index(place, manifest)
        follow.load(place, manifest)

    def before() -> None:
        resume(place, "things", Hold(place.registry, "dataset/things"))
        follow.catch_up(place, "things")

    job = Job(place, "things", "a-run", step=step)
    return forget_all(job, [*keys], where or [], before=before, follow=follow_current)


def everything(place: Workspace) -> Iterator[tuple[str, bytes]]:
    """All objects of the lake; of tables also all that stands in them, and the warehouse: read without our own code."""
    for folder in ("originals", "derived", "rejected", "batches", "datasets", "exports", "raw", "tables", ".tmp"):
        for info in place.lake.list(folder):
            data = place.lake.get(info.key)
            yield info.key, data
            if data.startswith(b"PAR1"):
                yield info.key, repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
    yield "warehouse", place.warehouse.path.read_bytes()  # type: ignore[attr-defined]
    for table in place.warehouse.tables():
        yield table, repr(place.warehouse.query(f"SELECT * FROM {table}").to_pylist()).encode()


def needles(lake: Lake) -> list[bytes]:
    """What would give product 1 away: names and hashes, and bytes of its pictures, as they are and in a page."""
    names = [b'"1.jpg"', b">1.jpg<", b"'1.jpg'", b"old/1.jpg", b"bad/1.jpg", b"more/1.jpg", b"'product_key': '1'"]
    drawn = [lake.get(info.key) for info in lake.list("derived") if any(each in info.key for each in GOING)]
    assert len(drawn) == 6
    pictures = [*drawn, *(IMAGES[name] for name in ("1.jpg", "old/1.jpg", "bad/1.jpg"))]
    return [*names, *(each.encode() for each in GOING), *pictures, *map(base64.b64encode, pictures)]


def traces(place: Workspace, wanted: list[bytes]) -> list[str]:
    """Where any of it is left, in the lake, the warehouse and the registry."""
    found = [key for key, data in everything(place) if any(needle in data for needle in wanted)]
    names = {"1", "1.jpg", "old/1.jpg", "more/1.jpg", "bad/1.jpg"}
    for table, column in (("assets", "key"), ("products", "product_key"), ("rejects", "locator")):
        rows = place.registry.fetch(f"SELECT {column} AS value FROM {table} WHERE dataset = 'things'")
        found += [f"registry: {table}" for row in rows if row["value"] in names]
    return found


def clean(place: Workspace, wanted: list[bytes]) -> None:
    """See that nothing is left, and that all else is whole."""
    assert traces(place, wanted) == []
    assert verify(place, "things", everything=list_files).differences == []
    for one in list_snapshots(place.lake, "things"):
        for counts in (one.summary["images"], one.summary["rows"]):
            assert counts["found"] == sum(counts.values()) - counts["found"]
    assert place.lake.read_version(forgetting_key("things")) is None


def test_nothing_is_left_of_a_product_anywhere(workspace: Workspace, tmp_path: Path) -> None:
    lake, registry = workspace.lake, workspace.registry
    ids = lived(workspace, tmp_path / "in")
    requests: dict[str, dict[str, Any]] = {
        "all": {},
        "older": {"snapshot": "v1", "format": "webdataset"},
        "other": {"filter": {"column": "product_key", "op": "=", "value": "2"}},
    }
    exports = {
        name: export_to_lake(lake, prepare(lake, read_request({"dataset": "things"} | values))).id
        for name, values in requests.items()
    }
    asked = [(GOING[0], "x"), (hashlib.sha256(photo(4)).hexdigest(), "y")]
    said = [{"sha256": content, "label": label, "score": 0.5} for content, label in asked]
    predictions = f"{folder_of('things', '0' * 16)}/1.parquet"
    lake.put(predictions, to_parquet(pa.Table.from_pylist(said, schema=SCHEMA)))
    start_run(registry, "old-run", "things", "here")
    end_run(registry, "old-run", {"hint": "files are called 'more/1.jpg'", "images": {"found": 1}}, "1.jpg: too_small")
    submit(registry, "erasure", "a-key", None, {"dataset": "things", "keys": ["1"], "where": []})
    submit(registry, "export", "a-key", None, {"dataset": "things", "ids": ["1", "2"]})
    wanted = needles(lake)
    assert len(traces(workspace, wanted)) > 30

    done = forgotten(workspace, "1")
    clean(workspace, wanted)
    assert (len(done["products"]), len(done["images"]), done["unknown"]) == (1, 4, [])
    assert [each["kind"] for each in done["kept"]] == ["content"]
    assert done["proof"]["objects"] > 20
    assert done["proof"]["found"] == []
    assert json.loads(lake.get(receipt_key("things", "a-run"))) == {k: v for k, v in done.items() if k != "unknown"}
    newest = list_snapshots(lake, "things")
    assert [one.snapshot_id for one in newest[1:]] == ids
    assert find_snapshot(lake, "things", "v1").snapshot_id == ids[1]
    assert set(read_table(lake, newest[0], "images")["key"].to_pylist()) == {"2.jpg", "4.jpg", "stray.jpg"}
    assert [one.summary["images"]["forgotten"] for one in newest] == [3, 3, 4]
    assert [one.summary["rows"]["forgotten"] for one in newest] == [1, 1, 1]
    assert set(done["exports"]) == {exports["all"], exports["older"]}
    assert [find_finished(lake, each) is not None for each in exports.values()] == [False, False, True]
    assert pq.read_table(io.BytesIO(lake.get(predictions)))["label"].to_pylist() == ["y"]
    shared = hashlib.sha256(photo(2)).hexdigest()
    assert lake.get(f"originals/{shared[:2]}/{shared}.jpg") == photo(2), "product 2 shows it, too"
    books = registry.fetchrow("SELECT summary, error FROM runs WHERE run_id = 'old-run'")
    assert books is not None
    assert "1.jpg" not in books["summary"] + books["error"]
    asked_of_api = {row["kind"]: json.loads(row["request"]) for row in registry.fetch("SELECT * FROM api_runs")}
    assert asked_of_api["erasure"]["keys"] == ["(forgotten)"]
    assert asked_of_api["export"]["ids"] == ["(forgotten)", "2"]


def test_the_next_ingest_passes_it_over_and_writes_no_byte_of_it(workspace: Workspace, tmp_path: Path) -> None:
    lake, source = workspace.lake, tmp_path / "in"
    lived(workspace, source)
    wanted = needles(lake)
    forgotten(workspace, "1")
    current = require_published(lake, "things").manifest
    again = {name: data for name, data in IMAGES.items() if name != "old/1.jpg"}
    done = ingested(workspace, source, again)
    assert not done["published"], "it says what the snapshot says that forgetting published"
    assert (done["images"]["found"], done["images"]["forgotten"], done["rows"]["forgotten"]) == (6, 3, 1)
    assert require_published(lake, "things").manifest.snapshot_id == current.snapshot_id
    clean(workspace, wanted)

    # Another picture of it, its own bytes under a name that says nothing, and something new.
    done = ingested(workspace, source, again | {"new/1.jpg": photo(12), "x.jpg": photo(1), "6.jpg": photo(6)})
    assert done["published"]
    assert done["images"]["forgotten"] == 5
    manifest = require_published(lake, "things").manifest
    assert set(read_table(lake, manifest, "images")["key"].to_pylist()) == {"2.jpg", "4.jpg", "stray.jpg", "6.jpg"}
    rejects = [each for each in read_table(lake, manifest, "rejects").to_pylist() if each["kind"] == "forgotten"]
    assert len(rejects) == 6
    assert {each["rule"] for each in rejects} == {"forgotten"}
    assert not any("jpg" in each["locator"] for each in rejects)
    clean(workspace, [*wanted, photo(12), b"new/1.jpg"])
    with lease(workspace.registry, "dataset/things"):
        assert run(request(workspace, source, reject_limit=0.5))["images"]["forgotten"] == 5
    assert not list(lake.list("batches/things")), "what was found to be it under another name is not read again"


def test_beside_a_run_that_writes_a_snapshot_it_can_be_asked_what_would_go(
    workspace: Workspace, tmp_path: Path
) -> None:
    lake = workspace.lake
    lived(workspace, tmp_path / "in")
    unfinished = "20991231T000000000Z-00000000"
    lake.put(writing_key("things", unfinished), b"")
    lake.put(f"{snapshot_folder('things', unfinished)}/images.parquet", b"half of it")
    assert survey(Job(workspace, "things", "a-run"), ["1"], [])["products"] == 1
    lake.remove(writing_key("things", unfinished))
    with pytest.raises(LookbookError, match="missing or damaged"):
        survey(Job(workspace, "things", "a-run"), ["1"], [])


@pytest.mark.parametrize("at", sampled(STEPS, fast=["tombstones", "file", "more objects"]))
def test_killed_at_any_step_the_same_command_finishes_it(workspace: Workspace, tmp_path: Path, at: str) -> None:
    lake = workspace.lake
    lived(workspace, tmp_path / "in")
    export_to_lake(lake, prepare(lake, read_request({"dataset": "things", "snapshot": "v1"})))
    wanted = needles(lake)
    killed = []

    def kill(step: str) -> None:
        if step == at:
            killed.append(step)
            raise KilledError

    with pytest.raises(KilledError):
        forgotten(workspace, "1", step=kill)
    assert killed
    for one in list_snapshots(lake, "things"):
        assert at == "file" or file_faults(lake, one) == []
    forgotten(workspace, "1")
    clean(workspace, wanted)
    assert len(read_tombstones(lake, "things").burials) == 1


@pytest.mark.full
def test_nothing_is_left_in_snapshots_of_earlier_versions_either(workspace: Workspace, tmp_path: Path) -> None:
    lake = workspace.lake
    lived(workspace, tmp_path / "in")
    whole_tables(lake, "things")
    wanted = needles(lake)
    killed: list[str] = []

    def kill(step: str) -> None:
        if step == "replaced" and not killed:
            killed.append(step)
            raise KilledError

    with pytest.raises(KilledError):
        forgotten(workspace, "1", step=kill)
    forgotten(workspace, "1")
    clean(workspace, wanted)


def test_the_next_run_of_the_dataset_does_what_a_killed_one_left(workspace: Workspace, tmp_path: Path) -> None:
    """A restore of an older snapshot would bring it back."""
    lake, registry = workspace.lake, workspace.registry
    ids = lived(workspace, tmp_path / "in")

    def kill(step: str) -> None:
        if step == "aside":
            raise KilledError

    wanted = needles(lake)
    with pytest.raises(KilledError):
        forgotten(workspace, "1", step=kill)
    with lease(registry, "dataset/things"):
        assert resume(workspace, "things", Hold(registry, "dataset/things"))
        restore_snapshot(workspace, "things", ids[1], datetime.now(UTC))
    names = {
        key for one in list_snapshots(lake, "things") for key in read_table(lake, one, "images")["key"].to_pylist()
    }
    assert names == {"2.jpg", "4.jpg", "stray.jpg"}
    forgotten(workspace)
    clean(workspace, wanted)


def test_what_stays_is_kept_and_what_is_not_here_is_named(workspace: Workspace, tmp_path: Path) -> None:
    lake = workspace.lake
    lived(workspace, tmp_path / "in")
    before = survey(Job(workspace, "things", "a-run"), ["1.0", "nobody", "stray.jpg"], [])
    assert {name: before[name] for name in ("products", "images", "contents", "kept")} == {
        "products": 1,
        "images": 5,
        "contents": 4,
        "kept": 1,
    }
    assert (len(before["snapshots"]), before["unknown"]) == (2, ["nobody"])
    assert read_tombstones(lake, "things").marks == set(), "a survey changes nothing"
    for keys, where, why in [
        (["nobody"], [], "called nobody"),
        ([], [], "Nothing is named"),
        ([], ["product_key=nobody"], "none"),
        ([], ["nothing=1"], "no column nothing"),
    ]:
        with pytest.raises(UsageError, match=why):
            forgotten(workspace, *keys, where=where)
    with lease(workspace.registry, "reading/things/x/a run"), pytest.raises(LeaseHeldError):
        forgotten(workspace, "1")
    with lease(workspace.registry, "dataset/things"), pytest.raises(LeaseHeldError):
        forgotten(workspace, "1")
    done = forgotten(workspace, "nobody", where=["year=2012", "product_key in 1,4"])
    assert (len(done["products"]), done["unknown"]) == (2, ["nobody"])
    assert forgotten(workspace, "1")["objects"] == 0, "it was forgotten before"


def test_an_image_alone_goes_and_its_product_has_the_next_or_none(workspace: Workspace, tmp_path: Path) -> None:
    lake = workspace.lake
    lived(workspace, tmp_path / "in")
    done = forgotten(workspace, "2.jpg", "1.jpg")
    rows = read_table(lake, require_published(lake, "things").manifest, "products").to_pylist()
    images = {each["product_key"]: (each["outcome"], each["image_key"]) for each in rows}
    assert images == {"1": ("matched", "more/1.jpg"), "2": ("missing_image", None)} | {
        "4": ("matched", "4.jpg"),
        "6": ("missing_image", None),
    }
    assert [each["why"] for each in done["kept"]] == ["an image that stays has the same bytes"]
    table = read_table(lake, require_published(lake, "things").manifest, "images")
    told = {each["key"]: each for each in table.to_pylist()}
    assert (told["more/1.jpg"]["outcome"], told["more/1.jpg"]["duplicate_of"]) == ("loaded", None)
    assert not told["more/1.jpg"]["is_exact_duplicates_issue"]
    assert not ingested(workspace, tmp_path / "in", {k: v for k, v in IMAGES.items() if k != "old/1.jpg"})["published"]


def test_another_dataset_keeps_its_own_and_a_rename_takes_the_tombstones_along(
    workspace: Workspace, tmp_path: Path
) -> None:
    lake, registry = workspace.lake, workspace.registry
    source = tmp_path / "in"
    lived(workspace, source)
    with lease(registry, "dataset/others"):
        run(request(workspace, source, dataset="others"))
    whys = [each["why"] for each in forgotten(workspace, "1")["kept"]]
    assert whys.count("another dataset has the same bytes") == 2
    assert lake.get(f"originals/{GOING[0][:2]}/{GOING[0]}.jpg") == photo(1)
    assert "1.jpg" in read_table(lake, require_published(lake, "others").manifest, "images")["key"].to_pylist()

    with lease(registry, "dataset/wares"):
        rename_all(workspace, "things", "wares")
    assert len(read_tombstones(lake, "wares").burials) == 1
    assert lake.get(receipt_key("wares", "a-run"))
    with lease(registry, "dataset/wares"):
        assert run(request(workspace, source, dataset="wares"))["images"]["forgotten"] == 3


def test_what_a_killed_run_of_another_dataset_has_read_stays_with_it(workspace: Workspace, tmp_path: Path) -> None:
    lived(workspace, tmp_path / "in")
    for batch in take_inventory(request(workspace, tmp_path / "in", dataset="others")).batches:
        process_batch(workspace.lake, batch, threads=1)
    whys = [each["why"] for each in forgotten(workspace, "1")["kept"]]
    assert "another dataset has the same bytes" in whys
    with lease(workspace.registry, "dataset/others"):
        assert run(request(workspace, tmp_path / "in", dataset="others"))["published"]
    assert verify(workspace, "others").differences == []


def test_who_keeps_older_snapshots_in_memory_reads_them_again(workspace: Workspace, tmp_path: Path) -> None:
    lived(workspace, tmp_path / "in")
    kept = Snapshots(workspace.lake, 10, 2**30)
    assert "1" in kept.load("things", "v1").table["product_key"].to_pylist()
    forgotten(workspace, "1")
    kept._currents.forget("things")
    kept.current("things")
    assert "1" not in kept.load("things", "v1").table["product_key"].to_pylist()


def test_what_is_found_still_fails_the_run_and_is_named(workspace: Workspace, tmp_path: Path) -> None:
    lived(workspace, tmp_path / "in")
    theirs = "tables/wares/data/1.parquet"
    workspace.lake.put(theirs, to_parquet(pa.table({"picture": GOING[:1]})))
    with pytest.raises(LookbookError, match=r"not all of it is gone: tables/wares/data/1\.parquet: the hash"):
        forgotten(workspace, "1")
    workspace.lake.remove(theirs)
    forgotten(workspace)
    assert workspace.lake.read_version(forgetting_key("things")) is None


@pytest.fixture
def in_a_bucket(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose lake is a bucket."""
    with serving_gcs("bucket") as server:
        credentials = AnonymousGcpCredentials(endpoint=server.url)
        yield replace(workspace, lake=GcsLake(bucket="bucket", prefix="lake", credentials=credentials))


@pytest.mark.full
def test_in_a_bucket_as_well(in_a_bucket: Workspace, tmp_path: Path) -> None:
    lived(in_a_bucket, tmp_path / "in")
    wanted = needles(in_a_bucket.lake)
    forgotten(in_a_bucket, "1")
    clean(in_a_bucket, wanted)


@pytest.mark.full
def test_all_of_a_dataset_may_be_forgotten_and_comes_back_with_what_is_new(
    workspace: Workspace, tmp_path: Path
) -> None:
    lived(workspace, tmp_path / "in")
    forgotten(workspace, "stray.jpg", where=["year=2012"])
    manifest = require_published(workspace.lake, "things").manifest
    assert [len(read_table(workspace.lake, manifest, name)) for name in ("images", "products", "outputs")] == [0, 0, 0]
    assert ingested(workspace, tmp_path / "in", IMAGES)["images"]["forgotten"] == len(IMAGES)
    assert ingested(workspace, tmp_path / "in", IMAGES | {"7.jpg": photo(7)})["images"]["loaded"] == 1
    assert verify(workspace, "things", everything=list_files).differences == []


def test_an_image_that_two_products_have_stays_with_the_other_one(workspace: Workspace, tmp_path: Path) -> None:
    """Rows name their files, several in one cell; a rejected row and a product's own file name a product, too."""
    lake, source = workspace.lake, tmp_path / "in"
    write_collection(source, {f"{name}.jpg": photo(number) for number, name in enumerate(("a", "b", "both", "c"), 1)})
    lines = ["sku,image,note", "A,a.jpg|both.jpg,x", "B,both.jpg|b.jpg,y", "C,c.jpg,z", "A,a.jpg", "D,,"]
    (source / "items.csv").write_text("\n".join(lines))
    with lease(workspace.registry, "dataset/things"):
        first = run(request(workspace, source))
    assert first["rows"]["rejected"] == 1
    done = forgotten(workspace, "A", "b.jpg")
    assert [(each["kind"], each["why"]) for each in done["kept"]] == [
        ("image", "a product that stays has this image as well")
    ]
    assert (len(done["products"]), len(done["images"]), done["rejects"]) == (1, 2, 1)
    manifest = require_published(lake, "things").manifest
    products = {each["product_key"]: each for each in read_table(lake, manifest, "products").to_pylist()}
    assert (products["B"]["image_key"], products["B"]["file_name"]) == ("both.jpg", "both.jpg")
    images = {each["key"]: each["product_key"] for each in read_table(lake, manifest, "images").to_pylist()}
    assert images == {"both.jpg": "B", "c.jpg": "C"}
    assert manifest.summary["rows"] | {"found": 5} == manifest.summary["rows"]
    with lease(workspace.registry, "dataset/things"):
        again = run(request(workspace, source))
    assert not again["published"], "an ingest says the same"
    assert (again["rows"]["forgotten"], again["images"]["forgotten"]) == (2, 2)


def test_a_worker_elsewhere_gets_no_byte_of_it(workspace: Workspace, tmp_path: Path) -> None:
    """Images that a worker cannot reach are put into the lake first."""
    lake, source = workspace.lake, tmp_path / "in"
    lived(workspace, source)
    forgotten(workspace, "1")
    write_collection(source, {"x.jpg": photo(1), "y.jpg": photo(8)})
    with lease(workspace.registry, "dataset/things"):
        inventory = take_inventory(request(workspace, source))
        for batch in inventory.batches:
            land(lake, batch)
            process_batch(lake, batch, threads=1)
    parts = [each for batch in inventory.batches if (each := read_part(lake, batch)) is not None]
    status = {row["key"]: row["status"] for part in parts for row in part.to_pylist()}
    assert (status["x.jpg"], status["y.jpg"]) == ("forgotten", "ok")
    assert photo(1) not in [lake.get(info.key) for info in lake.list("batches")]
    assert photo(8) in [lake.get(info.key) for info in lake.list("batches")]
