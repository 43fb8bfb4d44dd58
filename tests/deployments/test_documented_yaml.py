"""The YAML that the documents show, as who types it off gets it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from lookbook.deployments.receiver import read_config
from tests.support.command import ROOT

OWN = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
SNIPPETS = [
    (path.name, text)
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for text in re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]
#: Entries that are added to prefect.yaml, and files beside it.
ENTRIES = [pytest.param(OWN + text, id=name) for name, text in SNIPPETS if text.startswith("  - ")]
FILES = [pytest.param(text, id=name) for name, text in SNIPPETS if re.search(r"^deployments:", text, re.MULTILINE)]


def test_there_are_snippets_to_test() -> None:
    assert len(ENTRIES) >= 2
    assert len(FILES) >= 2


@pytest.mark.parametrize("text", ENTRIES + FILES)
def test_deployments_are_read_by_prefect_and_start_a_flow_that_takes_their_parameters(text: str) -> None:
    file: dict[str, Any] = yaml.safe_load(text)
    assert len(PrefectYamlModel.model_validate(file).deployments) == len(file["deployments"])
    names = [(each["entrypoint"], each["name"]) for each in file["deployments"]]
    assert len(names) == len(set(names))
    for deployment in file["deployments"]:
        if deployment["entrypoint"].startswith("lookbook.flows."):
            flow: Flow[Any, Any] = load_flow_from_entrypoint(deployment["entrypoint"])
            schema = parameter_schema(flow).model_dump()
            assert deployment.get("parameters", {}).keys() <= schema["properties"].keys()
            if "schedules" in deployment:
                jsonschema.validate(deployment.get("parameters", {}), schema)


@pytest.mark.parametrize("text", FILES)
def test_no_file_makes_prefect_note_the_folder_of_who_deploys(text: str) -> None:
    assert yaml.safe_load(text)["pull"] == []


def test_the_receivers_file_is_read(tmp_path: Path) -> None:
    (found,) = [text for _, text in SNIPPETS if text.startswith("# receiver.yaml")]
    (tmp_path / "receiver.yaml").write_text(found, encoding="utf-8")
    assert read_config(tmp_path / "receiver.yaml").watched
