"""What is said of a workspace that is saved with another lake."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lookbook.blocks.lake import IDENTITY, FolderLake
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.deployments.command import workspaces


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def with_lake(home: Path, root: Path) -> Workspace:
    return replace(local_workspace(home), lake=FolderLake(root=root))


def test_nothing_is_said_where_the_lake_stays(home: Path) -> None:
    assert workspaces.notes(home, local_workspace(home)) == []


def test_another_lake_may_keep_the_registry_and_nothing_is_written_to_it(home: Path, tmp_path: Path) -> None:
    (said,) = workspaces.notes(home, with_lake(home, tmp_path / "lake"))
    assert "books of each lake apart" in said
    assert not (tmp_path / "lake").exists()


def test_a_copy_with_the_id_of_the_first_is_told_and_what_to_remove(home: Path, tmp_path: Path) -> None:
    assert local_workspace(home).lake.id
    shutil.copytree(home / "lake", tmp_path / "copy")
    _, said = workspaces.notes(home, with_lake(home, tmp_path / "copy"))
    assert f"remove {tmp_path / 'copy' / IDENTITY}" in said
    (tmp_path / "copy" / IDENTITY).unlink()
    assert len(workspaces.notes(home, with_lake(home, tmp_path / "copy"))) == 1
