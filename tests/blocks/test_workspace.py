"""The local workspace: where its parts lie, and what is said where it cannot live."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from lookbook.blocks import workspace
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError, OutOfReachError, UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.registry import PostgresRegistry
from lookbook.blocks.saved_workspace import WorkspaceBlock
from lookbook.blocks.workspace import Workspace, load_workspace, local_workspace
from tests.support.gcp_credentials import private_key


@pytest.fixture
def no_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nobody has configured Prefect."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "LOOKBOOK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-prefect"))


def test_everything_of_a_local_workspace_lies_under_its_home(tmp_path: Path) -> None:
    home = tmp_path / "a" / "new home ü"
    place = local_workspace(home)
    assert place == Workspace(
        lake=FolderLake(root=home / "lake"),
        registry=PostgresRegistry(home=home),
        warehouse=DuckDBWarehouse(path=home / "lookbook.duckdb"),
        scratch=home / "scratch",
    )
    assert (home / "lake").is_dir()
    assert (home / "scratch").is_dir()


def test_making_it_again_leaves_what_is_there(tmp_path: Path) -> None:
    local_workspace(tmp_path / "home").lake.put("a/b", b"kept")
    assert local_workspace(tmp_path / "home").lake.get("a/b") == b"kept"


def test_making_it_starts_no_server(tmp_path: Path) -> None:
    local_workspace(tmp_path / "home")
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"lake", "scratch"}


@pytest.mark.usefixtures("no_api")
def test_local_is_the_home_of_the_settings_where_no_api_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKBOOK_HOME", str(tmp_path / "home"))
    assert load_workspace("local") == local_workspace(tmp_path / "home")
    monkeypatch.setenv("LOOKBOOK_HOME", str(tmp_path / "other"))
    assert load_workspace("local") == local_workspace(tmp_path / "other")


def assert_refused(home: Path) -> None:
    with pytest.raises(LookbookError, match=r"LOOKBOOK_HOME .* cannot be used") as caught:
        local_workspace(home)
    assert str(home) in caught.value.problem
    assert "folder that you may write to" in caught.value.way_out


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file")
    assert_refused(tmp_path / "file" / "home")


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / ("x" * 300))


@contextmanager
def without_rights() -> Iterator[None]:
    """Be nobody for a while, where this process is root's: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_home_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    local_workspace(tmp_path / "home")
    for folder in (tmp_path / "home" / "scratch", tmp_path / "home"):
        folder.chmod(0o555)
    try:
        with without_rights():
            assert_refused(tmp_path / "home" / "below")
            assert_refused(tmp_path / "home")
    finally:
        for folder in (tmp_path / "home", tmp_path / "home" / "scratch"):
            folder.chmod(0o755)


@pytest.mark.parametrize("home", [None, ".lookbook", "here"])
def test_a_worker_that_was_told_no_home_does_not_make_one_in_a_folder_that_goes_away(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "a-run-of-a-worker")
    monkeypatch.setattr(workspace, "_load_saved", lambda _: None)
    monkeypatch.setenv("LOOKBOOK_HOME", home) if home else monkeypatch.delenv("LOOKBOOK_HOME", raising=False)
    with pytest.raises(UsageError, match="started without LOOKBOOK_HOME"):
        load_workspace("local")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("LOOKBOOK_HOME", str(tmp_path / "home"))
    assert load_workspace("local") == local_workspace(tmp_path / "home")


def test_a_registry_of_ones_own_is_named_by_a_setting_and_its_password_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKBOOK_REGISTRY_URL", "postgresql://me:hush@database/books")
    place = local_workspace(tmp_path / "home")
    assert isinstance(place.registry, PostgresRegistry)
    assert place.registry.url == SecretStr("postgresql://me:hush@database/books")
    assert "hush" not in repr(place)


def test_an_api_that_does_not_answer_may_do_so_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **asked: object) -> None:  # noqa: ARG001
        raise httpx.ConnectError("refused")

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(WorkspaceBlock, "load", refuse)
    with pytest.raises(OutOfReachError, match="cannot be asked"):
        load_workspace("other")


#: The content of workspaces' blocks as 0.1 saved them, by name; a key was taken out.
SAVED = json.loads(Path(__file__).with_name("saved_by_0_1.json").read_text(encoding="utf-8"))


def put_in(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: key if name == "private_key" else put_in(part, key) for name, part in value.items()}
    return value


def subset(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(subset(found[name], part) for name, part in wanted.items())
    return bool(found == wanted)


@pytest.mark.parametrize("name", SAVED)
def test_what_an_earlier_release_saved_is_loaded_with_every_value(name: str) -> None:
    saved = put_in(SAVED[name], private_key())
    found = WorkspaceBlock.model_validate(saved)  # what Prefect does with a document's content
    assert subset(found.model_dump(mode="json", context={"include_secrets": True}), saved)
