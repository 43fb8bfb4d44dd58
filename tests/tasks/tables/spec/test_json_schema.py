"""The JSON Schema of specs: up to date, and of one mind with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lookbook.blocks.settings import read_settings
from lookbook.deployments.command.pipeline_work import schema
from lookbook.tasks.tables.orchestrations import orchestrate_file
from lookbook.tasks.tables.spec.pipeline import Orchestrations
from lookbook.tasks.tables.spec.reading import schema_text, specs
from tests.support.pipelines import problems
from tests.tasks.tables.spec.test_reading import FAULTS, GOOD, write

FOLDER = read_settings().pipelines
#: What a schema cannot say: what hangs together, what lies in other files, cron and time zones.
BEYOND = (
    "there is no",
    "wait for each other",
    "needs a",
    "names no task",
    "beside the spec",
    "defines no",
    "nothing is known",
)
VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema()))


def said(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_schemas_beside_the_specs_are_up_to_date() -> None:
    """`make schema` writes them."""
    assert (FOLDER / "schema.json").read_text(encoding="utf-8") == schema()
    beside = orchestrate_file(FOLDER).with_suffix(".schema.json")
    assert beside.read_text(encoding="utf-8") == schema_text(Orchestrations, "Orchestrations of Lookbook")


def test_it_is_a_schema_and_every_shipped_spec_is_valid_by_it() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    for path in specs(FOLDER).values():
        assert list(VALIDATOR.iter_errors(said(path))) == []
    own = jsonschema.Draft202012Validator(json.loads(schema_text(Orchestrations, "")))
    own.validate(said(orchestrate_file(FOLDER)))


@pytest.mark.parametrize(("right", "wrong", "expected"), FAULTS)
def test_it_refuses_what_the_models_refuse(tmp_path: Path, right: str, wrong: str, expected: list[str]) -> None:
    text = GOOD.replace(right, wrong).replace(" on:", ' "on":')
    path = write(tmp_path, text)
    beyond = all(any(word in line for word in BEYOND) for line in expected)
    assert bool(problems(path)) is True
    assert bool(list(VALIDATOR.iter_errors(said(path)))) is not beyond


def test_editors_are_told_what_each_key_means() -> None:
    definitions = VALIDATOR.schema["$defs"]
    assert definitions["LoadTask"]["properties"]["write_disposition"]["description"].startswith("append: each batch")
    for model in ("LoadTask", "ExtractTask", "Schedule", "ModelTests", "FileSource"):
        assert definitions[model]["description"]
    told = [
        part.get("description") for name in definitions for part in definitions[name].get("properties", {}).values()
    ]
    assert sum(map(bool, told)) > len(told) / 2
