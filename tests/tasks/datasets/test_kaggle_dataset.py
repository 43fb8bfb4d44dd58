"""Snapshots of a dataset of Kaggle's: which version they are of, and what a newer one changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.kaggle import KaggleCredentials
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.estimate import estimate
from lookbook.tasks.datasets.manifest import read_table, require_published
from lookbook.tasks.datasets.sources.kaggle import drop
from lookbook.tasks.datasets.verify import verify, verify_or_repair
from tests.support.kaggle_server import Dataset, KaggleServer, kaggle
from tests.support.pipeline import photo, request, run

SHOES = {"styles.csv": b"id,gender\n1,Women\n2,Men\n", "images/1.jpg": photo(1), "images/2.jpg": photo(2)}
SOURCE = "kaggle://ann/shoes"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KaggleServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with kaggle(shoes=Dataset([SHOES])) as server:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.api.url)
        yield server


def test_a_newer_version_draws_only_what_it_adds(workspace: Workspace, server: KaggleServer) -> None:
    first = run(request(workspace, SOURCE))
    server.datasets["ann/shoes"].versions.append(SHOES | {"images/3.jpg": photo(3)})
    second = run(request(workspace, SOURCE))
    assert [first["source"], second["source"]] == ["kaggle://ann/shoes@1", "kaggle://ann/shoes@2"]
    assert (second["images"]["unchanged"], second["images"]["loaded"]) == (2, 1)
    assert second["outputs"] == dict.fromkeys(("standard", "grey", "thumb"), 1)
    assert require_published(workspace.lake, "things").manifest.source == "kaggle://ann/shoes@2"


@pytest.mark.usefixtures("server")
def test_a_plan_downloads_nothing_and_tells_of_what_is_here(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="kaggle://ann/shoes@1 is not downloaded yet"):
        estimate(request(workspace, SOURCE))
    assert not [path for path in (workspace.scratch / "kaggle").rglob("*") if path.is_file()]
    run(request(workspace, SOURCE))
    plan = estimate(request(workspace, SOURCE))
    assert (plan["source"], plan["publishes"], plan["images"]["unchanged"]["count"]) == (f"{SOURCE}@1", False, 2)


def test_a_newer_version_that_says_the_same_publishes_nothing(workspace: Workspace, server: KaggleServer) -> None:
    first = run(request(workspace, SOURCE))
    server.datasets["ann/shoes"].versions.append(SHOES | {"readme.md": b"thanks"})
    second = run(request(workspace, SOURCE))
    assert (second["published"], second["snapshot"]) == (False, first["snapshot"])


def test_a_repair_fetches_the_version_that_the_snapshot_is_of(workspace: Workspace, server: KaggleServer) -> None:
    run(request(workspace, SOURCE))
    manifest = require_published(workspace.lake, "things").manifest
    drop(manifest.source, workspace.scratch)
    server.datasets["ann/shoes"].versions.append({"images/9.jpg": photo(9)})
    lost = read_table(workspace.lake, manifest, "images").column("original_key").to_pylist()[0]
    workspace.lake.remove(lost)
    assert verify(workspace, "things").differences
    verify_or_repair(workspace, "things", mend=True)
    assert not verify(workspace, "things").differences


def test_the_workspaces_credentials_are_used_and_kept_out_of_the_lake(
    workspace: Workspace, server: KaggleServer
) -> None:
    server.datasets["ann/shoes"].private = True
    with pytest.raises(LookbookError, match="403"):
        run(request(workspace, SOURCE))
    place = replace(workspace, kaggle=KaggleCredentials(token=SecretStr("good-token")))
    assert run(request(place, SOURCE))["images"]["loaded"] == 2
    written = [path for path in workspace.scratch.parent.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if b"good-token" in path.read_bytes()]
