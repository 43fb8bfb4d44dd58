"""The API's document: schemathesis asks all that it describes, and answers are what it says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.app import make_app
from lookbook.deployments.api.config import MEGABYTE, ApiConfig
from tests.support.api import Api, FakeRuns, serving
from tests.support.sets import sampled

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]

#: Longer ones are refused by the server's parser, as text, before the app sees them.
LONGEST_ADDRESS = 64_000

#: What is longer is refused unread (413), which schemathesis does not count among the refusals of a bad request.
LONGEST_BODY = MEGABYTE


def test_the_document_describes_every_route_with_its_errors(api: Api) -> None:
    document = api.json("/openapi.json")
    assert set(document["paths"]) >= {
        "/health",
        "/api/v1/datasets/{name}/products",
        "/api/v1/datasets/{name}/images/{sha256}/{output}",
        "/api/v1/exports/{id}/archive",
        "/api/v1/ingests",
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (method, path)
            for status, answer in operation["responses"].items():
                if path.startswith("/api") and int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)


def test_the_page_lists_them_and_needs_nothing_from_elsewhere(api: Api) -> None:
    page = api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in api.json("/openapi.json")["paths"]:
        assert path in page.text
    assert "<script" not in page.text
    assert not re.findall(r"https?://", page.text)
    assert api.get("/docs.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("examples", sampled([2, 10], fast=[2]))
def test_schemathesis_finds_no_answer_that_the_document_does_not_describe(
    shoes: Workspace, api: Api, examples: int
) -> None:
    """Good and bad requests of each operation; the limits on how often are high enough for all of them."""
    snapshot = api.json("/datasets/shoes")["snapshot"]
    app = make_app(shoes, "local", ApiConfig(submits_at_once=100_000), FakeRuns())
    document = api.json("/openapi.json")
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        operation.pop("security", None)  # it is open to this machine, and a request without a key is a good one
    found: list[Any] = list(schemathesis.openapi.from_dict(document).get_all_operations())
    operations = [result.ok() for result in found]
    assert len(operations) > 15
    with serving(app) as url, requests.Session() as session:
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                known = {"name": "shoes", "snapshot": snapshot} if mode is GenerationMode.POSITIVE else {}
                known = {name: value for name, value in known.items() if f"{{{name}}}" in operation.path}
                ask_all(operation, mode, examples, known, base_url=url, session=session)


def ask_all(operation: Any, mode: Any, examples: int, known: dict[str, str], **options: Any) -> None:
    """Ask so many requests that schemathesis draws, and hold that each answer is one that the document describes."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def ask(case: Any) -> None:
        if known:  # else no drawn name would ever be one that there is
            case.path_parameters |= known
        request = prepared(case)
        body = int(request.headers.get("content-length", 0))
        assume(len(str(request.url)) < LONGEST_ADDRESS and body < LONGEST_BODY)
        case.call_and_validate(checks=CHECKS, **options)

    def prepared(case: Any) -> requests.PreparedRequest:
        told = case.as_transport_kwargs(base_url=options["base_url"])
        asked = {name: told.get(name) for name in ("method", "url", "params", "json", "data")}
        return requests.Request(**asked).prepare()

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "of what takes nothing, nothing can be wrong"
