"""The notebooks of the docs, executed from the first cell to the last against a real server and worker."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.api_command import api_of
from tests.support.command import ROOT, environment, lookbook, lookbook_json
from tests.support.prefect_processes import Server

pytestmark = pytest.mark.integration

NOTEBOOKS = ROOT / "docs" / "notebooks"


@pytest.fixture(scope="module")
def served(prefect: Server) -> Server:
    """A server whose workspace has the dataset that the notebooks ask for."""
    done = lookbook(prefect.home, "ingest", "sample://120", "--dataset", "demo", PREFECT_API_URL=prefect.url)
    assert done.returncode == 0, done.stderr
    return prefect


def executed(name: str, folder: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each code cell of a notebook gave: its value, or what it printed."""
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    notebook: Any = nbformat.read(NOTEBOOKS / name, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return [answer(cell) for cell in notebook.cells if cell.cell_type == "code"]


def answer(cell: Any) -> str:
    outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    parts = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in outputs]
    return "\n".join(part for part in parts if part).strip()


@pytest.mark.full
def test_from_a_filter_to_a_data_loader(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_of(served) as client:
        settings = {"LOOKBOOK_API": str(client.base_url), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
        answers = executed("export.ipynb", tmp_path, settings, monkeypatch)
        where = {"gender": "Women", "masterCategory": "Apparel", "row_outcome": "matched", "limit": "0"}
        wanted = client.get("/api/v1/datasets/demo/products", params=where).json()["total"]
    _, count, export, sums, loaded, torch = answers
    assert 0 < int(count) <= wanted
    sides, size = ast.literal_eval(loaded)
    assert sum(sides.values()) == int(count)
    assert {side: images for side, images in ast.literal_eval(export)[1].items() if images} == sides
    assert size == (224, 224)
    assert int(sums) > int(count)
    if importlib.util.find_spec("torch") is None:
        assert torch.startswith("torch is not installed")
    else:
        assert "3, 224, 224" in torch


@pytest.mark.full
def test_ask_the_warehouse(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "bin" / "lookbook"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexec python -c 'from lookbook.deployments.command.cli import main; main()' \"$@\"\n")
    command.chmod(0o755)
    own = environment(served.home, PREFECT_API_URL=served.url)
    settings = {name: own[name] for name in ("LOOKBOOK_HOME", "PYTHONPATH", "PREFECT_API_URL")}
    settings["PATH"] = f"{command.parent}:{Path(sys.executable).parent}:{own['PATH']}"
    _, categories, darkest = executed("query.ipynb", tmp_path, settings, monkeypatch)
    sql = "SELECT master_category AS c, sum(products) AS n FROM warehouse.agg_products_by_category WHERE dataset='demo'"
    for row in lookbook_json(served.home, "query", f"{sql} GROUP BY 1", PREFECT_API_URL=served.url):
        assert any(str(row["c"]) in line and str(row["n"]) in line for line in categories.splitlines()), row
    assert darkest.count("images/") == 5


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_no_notebook_brings_answers_of_its_own(path: Path) -> None:
    """What stands in the docs is what was typed; what comes out is for who runs it."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
