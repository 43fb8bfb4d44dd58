"""What the commands for pipelines do: which files are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.deployments.command.pipeline_work import validate
from tests.support.pipelines import write_spec

EXTRACT = "tasks: {extract: {source: {type: file, path: a.csv}}}"


def orchestrations(folder: Path, pipeline: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "orchestrate.yaml"
    file.write_text(f"orchestrations: {{nightly: {{steps: {{first: {{pipeline: {pipeline}}}}}}}}}\n")
    return file


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the pipeline prices, and orchestrations that name it."""
    write_spec(tmp_path / "own/pipelines", "prices", EXTRACT)
    monkeypatch.setenv("LOOKBOOK_PIPELINES", str(tmp_path / "own/pipelines"))
    orchestrations(tmp_path / "own", "prices")
    return tmp_path / "own"


def said(*files: Path) -> tuple[list[str], list[str]]:
    found: dict[str, Any] = validate(files)
    return found["valid"], [one["text"] for one in found["problems"]]


def test_all_of_the_folder_is_checked_with_its_orchestrations(own: Path) -> None:
    assert said() == (["prices.yaml", "orchestrate.yaml"], [])
    orchestrations(own, "stock")
    assert "there is no pipeline stock" in said()[1][0]


def test_the_orchestrations_that_are_named_are_checked_and_no_others(own: Path, tmp_path: Path) -> None:
    other = orchestrations(tmp_path / "other", "stock")
    valid, (problem,) = said(other)
    assert valid == []
    assert "there is no pipeline stock" in problem
    orchestrations(tmp_path / "other", "prices")
    assert said(other, own / "pipelines/prices.yaml") == (["orchestrate.yaml", "prices.yaml"], [])
    write_spec(tmp_path / "other/pipelines", "stock", EXTRACT)  # it has a folder of pipelines of its own now
    assert "there is no pipeline prices" in said(other)[1][0]
    orchestrations(tmp_path / "other", "stock")
    assert said(other) == (["orchestrate.yaml"], [])


@pytest.mark.usefixtures("own")
def test_orchestrations_that_are_not_there_are_no_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(LookbookError, match=r"orchestrate\.yaml"):
        validate([tmp_path / "orchestrate.yaml"])
