"""Prefect's UI as a user meets it: the form of a run, a refused value, the run, its artifacts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from lookbook.blocks.embedded.prefect_server import sign_in_path
from tests.support.browser import DEADLINE, page_of, picture
from tests.support.command import lookbook_json
from tests.support.prefect_processes import Server, wait_for

pytestmark = pytest.mark.integration

expect.set_options(timeout=DEADLINE)


@pytest.fixture
def page(browser: Browser, prefect: Server, tmp_path: Path) -> Iterator[Page]:
    with page_of(browser, prefect.url.removesuffix("/api"), tmp_path) as page:
        page.goto(sign_in_path(prefect.home))
        expect(page.get_by_role("link", name="Deployments")).to_be_visible()
        yield page


def open_form(page: Page) -> None:
    """From the UI's start page to the form of a run of ``ingest/local``."""
    page.goto("/")
    page.get_by_role("link", name="Deployments").click()
    page.get_by_placeholder("Search deployments").fill("ingest")
    expect(page.get_by_role("link", name="process-batch")).to_have_count(0)
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="ingest", exact=True))
    row.get_by_role("link", name="local").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    expect(page.get_by_role("heading", name="Parameters")).to_be_visible()


def press_submit_until(page: Page, done: Callable[[], None]) -> None:
    """Press the button until `done` holds: a busy server refuses one write in a while, and the page forgets a press."""

    def pressed() -> bool:
        page.get_by_role("button", name="Submit").click()
        try:
            done()
        except (AssertionError, Error):
            return False
        return True

    wait_for("the form is sent", pressed)


@pytest.mark.full
def test_a_run_is_filled_in_started_and_read_in_the_ui(prefect: Server, page: Page, tmp_path: Path) -> None:
    open_form(page)
    for explained in (
        "Name of the dataset: lower-case letters",
        "inbox:// for its inbox",
        "Images in one batch, at the most (1 to 1,000,000)",
        "Fail if a larger share of the images, or of the rows, is rejected (0 to 1)",
    ):
        expect(page.get_by_text(explained)).to_be_visible()
    expect(page.get_by_label("Workspace")).to_have_value("local")
    page.get_by_label("Source").fill("sample://30")
    page.get_by_label("Dataset").fill("from-the-ui")
    page.get_by_label("Batch size").fill("8")
    page.get_by_role("tab", name="Images").click()
    page.get_by_role("tabpanel", name="Images").get_by_role("spinbutton").fill("24")
    picture(page, tmp_path, "form")
    page.get_by_role("tab", name="Recipe").click()
    expect(page.get_by_text('"image_size": 128')).to_be_visible()
    page.get_by_role("button", name="Select Speed").click()
    page.get_by_role("option", name="exact").click()
    page.get_by_text("Outputs (Optional)").scroll_into_view_if_needed()
    picture(page, tmp_path, "form-recipe")
    press_submit_until(page, lambda: page.wait_for_url(re.compile("tab=Runs"), timeout=10_000))

    run = wait_for("the run is there", lambda: next(iter(named(prefect, "from-the-ui")), None))
    assert run["parameters"]["limit"] == 24
    assert run["parameters"]["recipe"]["speed"] == "exact"
    assert prefect.finished(run["id"])["state_type"] == "COMPLETED"
    page.goto(f"/v2/runs/flow-run/{run['id']}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    page.get_by_role("tab", name="Subflow Runs").click()
    expect(page.get_by_role("link", name="batches/from-the-ui/")).to_have_count(3)
    picture(page, tmp_path, "run")
    page.get_by_role("tab", name="Artifacts").click()
    expect(page.get_by_role("link", name=re.compile("The report in short"))).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("The books: found, and each outcome"))).to_be_visible()
    picture(page, tmp_path, "artifacts")
    look_at_artifact(page, run["id"], "from-the-ui-report")
    expect(page.get_by_role("heading", name=re.compile("from-the-ui")).first).to_be_visible()
    picture(page, tmp_path, "report")
    look_at_artifact(page, run["id"], "from-the-ui-outcomes")
    expect(page.get_by_role("row").filter(has_text=re.compile("images.*found.*24"))).to_be_visible()
    picture(page, tmp_path, "outcomes")
    assert "from-the-ui" in [row["dataset"] for row in lookbook_json(prefect.home, "datasets")]


def look_at_artifact(page: Page, run_id: str, key: str) -> None:
    """Open an artifact of a run by what the run's page links."""
    page.goto(f"/v2/runs/flow-run/{run_id}?tab=Artifacts")
    page.get_by_role("link", name=re.compile(key)).click()
    page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()


def named(prefect: Server, dataset: str) -> list[dict[str, Any]]:
    """The runs of ingest for a dataset."""
    return [run for run in prefect.runs("ingest") if run["parameters"].get("dataset") == dataset]


@pytest.mark.full
def test_the_form_refuses_a_bad_value_and_names_it(prefect: Server, page: Page, tmp_path: Path) -> None:
    page.goto(f"/v2/deployments/deployment/{prefect.deployment('ingest/local')['id']}/run")
    page.get_by_label("Source").fill("sample://30")
    page.get_by_label("Dataset").fill("Summer Shoes")
    refusal = page.get_by_text("'Summer Shoes' does not match").first
    press_submit_until(page, lambda: expect(refusal).to_be_visible(timeout=10_000))
    picture(page, tmp_path, "refused")
    assert not named(prefect, "Summer Shoes")


@pytest.mark.full
def test_the_list_of_deployments_says_what_each_is_for(page: Page, tmp_path: Path) -> None:
    page.goto("/v2/deployments")
    expect(page.get_by_role("link", name="ingest", exact=True).first).to_be_visible()
    picture(page, tmp_path, "deployments")
