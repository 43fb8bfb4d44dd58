"""orchestrate.yaml: read with the place of each fault, beside the folder of pipelines."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from lookbook.blocks.errors import UsageError
from lookbook.blocks.settings import read_settings
from lookbook.tasks.tables.orchestrations import find_orchestration, read_orchestrations
from lookbook.tasks.tables.spec.problems import SpecError
from tests.support.pipelines import write_spec

GOOD = """
    orchestrations:
      nightly:
        schedule: {cron: "0 1 * * *", timezone: Europe/Berlin}
        steps:
          images: {ingest: {source: "sample://30", dataset: photos}}
          rates: {import: {source: "https://host/rates.csv", table: rates}}
          prices: {after: [images, rates], pipeline: prices, params: {shop: a}}
          graph: {after: [prices], graph: network}
"""
EXTRACT = "extract: {source: {type: file, path: a.csv}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pipelines: one with a graph, one without."""
    pipelines = tmp_path / "pipelines"
    write_spec(pipelines, "prices", f"tasks: {{{EXTRACT}}}")
    graph = "graph: {after: [extract], type: graph, entities: {a: {table: extract, key: k}}}"
    write_spec(pipelines, "network", f"tasks: {{{EXTRACT}, {graph}}}")
    return pipelines


def problems(folder: Path, text: str) -> list[str]:
    (folder.parent / "orchestrate.yaml").write_text(dedent(text), encoding="utf-8")
    try:
        read_orchestrations(folder)
    except SpecError as error:
        return [str(one) for one in error.problems]
    return []


def test_steps_are_read_in_their_order(folder: Path) -> None:
    assert problems(folder, GOOD) == []
    order = find_orchestration(folder, "nightly").in_order()
    assert set(order[:2]) == {"images", "rates"}
    assert order[2:] == ["prices", "graph"]
    with pytest.raises(UsageError, match="did you mean nightly"):
        find_orchestration(folder, "nightli")


def test_without_a_file_there_are_none(folder: Path) -> None:
    assert read_orchestrations(folder) == {}


def test_the_shipped_one_is_right() -> None:
    assert "sample" in read_orchestrations(read_settings().pipelines)


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("pipeline: prices", "pipeline: pricess", "prices.pipeline: there is no pipeline pricess; did you mean prices?"),  # noqa: E501
        ("graph: network", "graph: prices", "graph.graph: the pipeline prices makes no graph"),
        ("after: [prices]", "after: [price]", "graph.after: there is no step price; there are images, rates, prices, graph"),  # noqa: E501
        ("dataset: photos", "dataste: photos", "images.ingest.dataste: no such key; did you mean dataset?"),
        ("pipeline: prices, ", "", "prices: a step has one of pipeline, graph, ingest, import"),
        ("table: rates", "table: Rates", "rates.import.table: String should match pattern '^[a-z][a-z0-9_]{0,62}$'"),
    ],
)  # fmt: skip
def test_each_fault_has_its_place(folder: Path, right: str, wrong: str, expected: str) -> None:
    assert right in GOOD
    found = [
        line.partition("orchestrations.nightly.steps.")[2] for line in problems(folder, GOOD.replace(right, wrong))
    ]
    assert expected in found


def test_a_circle_is_refused(folder: Path) -> None:
    (found,) = problems(folder, GOOD.replace("images: {", "images: {after: [graph], "))
    assert "orchestrations.nightly.steps: these wait for each other" in found
