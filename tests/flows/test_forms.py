"""The form of a run in Prefect's UI is drawn from the schema of its flow's parameters: it has to explain itself."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from lookbook import flows
from lookbook.tasks.images.recipe import Recipe


def schema_of(flow: Flow[..., Any]) -> dict[str, Any]:
    """The schema that a deployment of the flow gets."""
    return parameter_schema(flow.fn).model_dump()


def all_flows() -> list[Flow[..., Any]]:
    """The flows of the package, each once."""
    modules = [
        importlib.import_module(f"{flows.__name__}.{each.name}") for each in pkgutil.iter_modules(flows.__path__)
    ]
    return list({value.name: value for m in modules for value in vars(m).values() if isinstance(value, Flow)}.values())


@pytest.mark.parametrize("flow", all_flows(), ids=lambda flow: flow.name)
def test_every_parameter_has_a_title_and_a_description(flow: Flow[..., Any]) -> None:
    """Prefect drops those of a plain Field in a signature: `lookbook.tasks.runs.parameters.described` keeps them."""
    for name, shown in schema_of(flow)["properties"].items():
        assert shown.get("title", name) != name, f"{flow.name}: {name} has no title"
        assert shown.get("description"), f"{flow.name}: {name} has no description"


def test_the_form_of_ingest_shows_bounds_choices_and_defaults() -> None:
    ingest = next(flow for flow in all_flows() if flow.name == "ingest")
    schema = schema_of(ingest)
    shown, recipe = schema["properties"], schema["definitions"]["Recipe"]["properties"]
    assert schema["required"] == ["source", "dataset"]
    assert (shown["batch_size"]["minimum"], shown["batch_size"]["maximum"]) == (1, 1_000_000)
    assert (shown["workspace"]["default"], shown["reject_limit"]["default"]) == ("local", 0.1)
    assert recipe["speed"]["enum"] == ["fast", "exact"]
    assert list(recipe["outputs"]["default"]) == ["standard", "grey", "thumb"]
    assert all(field["description"] for field in recipe.values())


def test_the_outputs_that_the_form_starts_from_are_the_default_ones() -> None:
    shown = Recipe.model_json_schema()["properties"]["outputs"]["default"]
    assert Recipe.model_validate({"outputs": shown}) == Recipe()
