"""The command export and its deployment: one request, the same bytes, whatever way it comes, killed or not."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.command import COMMAND, environment, lookbook, lookbook_json
from tests.support.exports import digests
from tests.support.sets import sampled

pytestmark = pytest.mark.integration

ASKED = ["--where", "gender in Men,Women", "--where", "year>=2010", "--recipe", "square-48", "--split", "0.8,0.1,0.1"]


@pytest.fixture(scope="module")
def home(shared_home: Path) -> Path:
    lookbook_json(shared_home, "ingest", "sample://60", "--dataset", "wares")
    return shared_home


def test_the_summary_balances_and_the_export_is_there(home: Path, tmp_path: Path) -> None:
    summary = lookbook_json(home, "export", "wares", *ASKED, "--out", str(tmp_path / "out"))
    assert summary["selected"] == summary["exported"] + sum(summary["left_out"].values())
    assert summary["exported"] > 20
    found = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (found["id"], found["exported"]) == (summary["export"], summary["exported"])
    counted = lookbook_json(home, "export", "wares", *ASKED, "--count")
    assert counted == {name: summary[name] for name in ("selected", "exported", "left_out")}
    again = lookbook(home, "export", "wares", *ASKED, "--out", str(tmp_path / "out"))
    assert again.returncode == 0
    assert "it was there" in again.stdout


@pytest.mark.full
def test_an_archive_in_a_file_is_the_one_on_standard_output(home: Path, tmp_path: Path) -> None:
    summary = lookbook_json(home, "export", "wares", *ASKED, "--out", str(tmp_path / "out.zip"))
    assert summary["uri"] == str(tmp_path / "out.zip")
    done = subprocess.run(
        [*COMMAND, "export", "wares", *ASKED, "--out", "-"],
        env=environment(home),
        cwd=home.parent,
        capture_output=True,
        check=True,
        timeout=240,
    )
    assert done.stdout == (tmp_path / "out.zip").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    sampled(
        [
            (["--where", "gendr=Women"], "no column gendr"),
            (["--where", "gender ~ Women"], "is no condition"),
            (["--recipe", "square-0"], "no such output"),
            (["--recipe", "missing.yaml"], "missing.yaml"),
            (["--format", "tfrecord"], "tfrecord"),
            (["--split", "0.5,0.4"], "add up to 0.9"),
            (["--copies", "3"], "random step"),
            (["--predict", "missing.onnx"], "missing.onnx"),
            (["--snapshot", "none"], "no snapshot none"),
            (["--filter", "missing.json"], "missing.json"),
            (["--out", "-", "--json"], "--json"),
        ],
        fast=[(["--where", "gendr=Women"], "no column gendr"), (["--split", "0.5,0.4"], "add up to 0.9")],
    ),
)
def test_what_cannot_be_meant_is_wrong_usage_and_named(home: Path, arguments: list[str], said: str) -> None:
    done = lookbook(home, "export", "wares", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dataset_that_is_not_there_is_named(home: Path) -> None:
    done = lookbook(home, "export", "nobody", "--count")
    assert done.returncode == 1
    assert "nobody: no such dataset here" in done.stderr


@pytest.mark.full
def test_killed_in_the_middle_it_goes_on_and_gives_the_same_bytes(home: Path, tmp_path: Path) -> None:
    asked = ["--recipe", "train-96", "--copies", "4", "--format", "webdataset", "--shard-size", "8"]
    lookbook_json(home, "export", "wares", *asked, "--out", str(tmp_path / "whole"))
    command = [*COMMAND, "export", "wares", *asked]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], env=environment(home), cwd=home.parent)
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob(".killed.*.partial/parts/*.parquet"))) < 3:
            assert process.poll() is None, "the command ended before it could be killed"
            assert time.monotonic() < deadline, "the moment never came"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed").exists()
    summary = lookbook_json(home, "export", "wares", *asked, "--out", str(tmp_path / "killed"))
    assert summary["there"] >= 3 * 2
    assert summary["made"] + summary["there"] == summary["exported"]
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert not list(tmp_path.glob(".killed*"))
