"""The check of Terraform files: each kind of mistake is found, and named."""

from __future__ import annotations

from typing import Any

import pytest

from infra.checks.terraform_check import Module, add_file, faults

#: As the parser gives it: values in lists, blocks as lists of bodies.
SCHEMA: dict[str, Any] = {
    "resource google_bucket": {
        "arguments": {
            "name": {"type": "string", "required": True},
            "public": {"type": "boolean"},
            "days": {"type": "number"},
            "zones": {"type": "list of string"},
            "labels": {"type": "map"},
            "rule": {"block": {"age": {"type": "number", "required": True}}},
            "policy": {"block": {"kept": {"type": "boolean"}}, "single": True},
        },
        "attributes": ["self_link"],
    },
    "data google_account": {"arguments": {}, "attributes": ["email"]},
}


def bucket(**body: Any) -> dict[str, Any]:
    return {"resource": [{"google_bucket": {"lake": {"name": ["a"], "__start_line__": 1} | body}}]}


def said(*files: dict[str, Any]) -> list[str]:
    module = Module()
    for file in files:
        add_file(module, file)
    return faults(module, SCHEMA)


def test_nothing_is_said_of_files_without_fault() -> None:
    body = {
        "public": [False],
        "days": ["${var.days}"],
        "zones": [["a", "b"]],
        "labels": [{"app": "lookbook"}],
        "rule": [{"age": [1]}, {"age": [2]}],
        "policy": [{"kept": [True]}],
        "depends_on": [["${data.google_account.storage}"]],
    }
    files = {
        "variable": [{"days": {"description": ["Days."], "default": [1]}}],
        "data": [{"google_account": {"storage": {}}}],
        "output": [{"link": {"description": ["Link."], "value": ["${google_bucket.lake.self_link}"]}}],
    }
    assert said(bucket(**body), files) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"nam": ["b"]}, "no argument nam"),
        ({"public": ["yes"]}, "public: 'yes' is no boolean"),
        ({"days": [True]}, "days: True is no number"),
        ({"zones": ["a"]}, "zones: 'a' is no list of string"),
        ({"rule": [{}]}, "rule: age is missing"),
        ({"rule": [{"age": [1], "size": [2]}]}, "rule: no argument size"),
        ({"policy": [{}, {}]}, "policy: given 2 times"),
        ({"dynamic": [{"rule": {"for_each": ["${[1]}"], "content": [{}]}}]}, "rule: age is missing"),
    ],
)
def test_a_body_that_the_provider_would_refuse(body: dict[str, Any], fault: str) -> None:
    assert said(bucket(**body)) == [f"resource google_bucket.lake: {fault}"]


def test_an_argument_that_is_missing() -> None:
    found = said({"resource": [{"google_bucket": {"lake": {"public": [True]}}}]})
    assert found == ["resource google_bucket.lake: name is missing"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("${var.none}", "var.none: not declared"),
        ("${local.none}", "local.none: not declared"),
        ("${google_bucket.none.name}", "resource google_bucket.none: used, and not declared"),
        ("${data.google_account.none.email}", "data google_account.none: used, and not declared"),
        ("${google_bucket.lake[0].self_lnk}", "resource google_bucket.lake: has no self_lnk"),
    ],
)
def test_a_name_that_is_not_there(value: str, fault: str) -> None:
    assert said(bucket(), {"output": [{"it": {"description": ["It."], "value": [value]}}]}) == [fault]


def test_what_is_declared_is_used_and_described() -> None:
    found = said({"variable": [{"days": {}}], "locals": [{"name": ["x"], "__start_line__": 1}]})
    assert found == ["var.days: says not what it is", "local.name: not used", "var.days: not used"]


def test_what_is_declared_twice() -> None:
    assert said(bucket(), bucket()) == ["resource google_bucket.lake: declared twice"]


def test_a_resource_that_the_schema_does_not_have() -> None:
    [found] = said({"resource": [{"google_disk": {"a": {}}}]})
    assert "not in google-schema.json" in found
