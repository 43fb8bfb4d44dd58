"""The page in a headless browser, over a published sample: found, looked at, compared, by mouse, keyboard and phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from lookbook.blocks.registry import Registry
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.deployments.api.access import create_key
from lookbook.deployments.api.app import make_app
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.runs import RunState
from lookbook.tasks.datasets.checks import Check, Checks, set_checks
from lookbook.tasks.datasets.estimate import PLAN_ARTIFACT, estimate, plan_lines
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.publish import FailedChecksError
from lookbook.tasks.datasets.tags import tags_key
from tests.deployments.api.conftest import forget_keys
from tests.support import pipeline
from tests.support.api import FakeRuns, serving
from tests.support.browser import page_of
from tests.support.pipeline import photo, write_collection
from tests.support.prefect_processes import wait_for
from tests.support.sets import sampled

HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "שלום \u202eevil",
    "x" * 900,
    "</script><script>window.hacked=1</script>",
    "",
]
VIEWS = (
    "#/",
    "#/datasets/shoes",
    "#/datasets/shoes/snapshots",
    "#/datasets/shoes/rejects",
    "#/datasets/shoes/export",
    "#/datasets/shoes/plan",
    "#/datasets/shoes/manage",
    "#/exports",
)


def is_fault(line: ConsoleMessage) -> bool:
    """Whether the console tells a fault of the page; an answer that says no is none."""
    return line.type == "error" and not line.text.startswith("Failed to load resource")


@contextmanager
def opened(browser: Browser, workspace: Workspace, pictures: Path, runs: FakeRuns | None = None) -> Iterator[Page]:
    """A page of an app while the block runs; what its console says of errors fails the test."""
    forget_keys(workspace.registry)
    faults: list[str] = []
    app = make_app(workspace, "local", ApiConfig(), runs or FakeRuns())
    with serving(app) as url, page_of(browser, url, pictures) as page:
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if is_fault(line) else None)
        yield page
    forget_keys(workspace.registry)
    assert faults == []


@pytest.fixture
def page(browser: Browser, shoes: Workspace, tmp_path: Path) -> Iterator[Page]:
    with opened(browser, shoes, tmp_path) as page:
        yield page


def told(page: Page, path: str, **query: Any) -> Any:
    """What the API says."""
    origin = re.match(r"https?://[^/]+", page.url)
    assert origin is not None
    return httpx.get(f"{origin[0]}/api/v1/{path}", params=query).raise_for_status().json()


def total(page: Page) -> int:
    return int(page.locator(".total").inner_text().split()[0].replace(",", ""))


def test_facets_and_words_find_what_the_api_finds_and_stand_in_the_address(page: Page) -> None:
    page.goto("/#/datasets/shoes")
    page.get_by_label("Women", exact=False).first.check()
    expect(page.get_by_role("button", name="Without gender Women")).to_be_visible()
    wanted = told(page, "datasets/shoes/products", gender="Women", limit=0)["total"]
    expect(page.locator(".total")).to_have_text(f"{wanted} products")
    assert "gender=Women" in page.url

    page.get_by_label("Search").fill("shirts")
    both = told(page, "datasets/shoes/products", gender="Women", q="shirts", limit=0)["total"]
    assert 0 < both < wanted
    expect(page.locator(".total")).to_have_text(f"{both} product{'s' if both > 1 else ''}")
    expect(page.locator(".grid li")).to_have_count(both)
    expect(page.get_by_label("Search")).to_be_focused()
    page.reload()
    expect(page.locator(".grid li")).to_have_count(both)
    expect(page.get_by_label("Search")).to_have_value("shirts")
    page.get_by_role("button", name="Without words shirts").click()
    expect(page.locator(".total")).to_have_text(f"{wanted} products")
    page.go_back()
    expect(page.locator(".grid li")).to_have_count(both)


def test_all_products_come_page_by_page_in_the_order_that_was_asked_for(page: Page) -> None:
    page.goto("/#/datasets/shoes?sort=-year")
    wanted = told(page, "datasets/shoes/products", limit=500, sort="-year", columns="year")
    items = page.locator(".grid li")
    expect(items.first).to_be_visible()
    page.get_by_role("button", name="Show more").scroll_into_view_if_needed()
    expect(items).to_have_count(wanted["total"])
    keys = page.locator(".grid small").all_inner_texts()
    assert keys == [each["product_key"] or "image without a row" for each in wanted["items"]]
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    page.reload()
    page.set_viewport_size({"width": 1280, "height": 9000})  # with room for all at once
    expect(items).to_have_count(wanted["total"])
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_product_is_opened_by_keyboard_with_its_images_measures_and_history(page: Page) -> None:
    page.goto("/#/datasets/shoes?q=shirts")
    first = page.locator(".grid a").first
    expect(first).to_be_visible()
    name = first.locator(".name").inner_text()
    page.get_by_label("Search").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.grid') !== null"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("figure")).to_have_count(4)
    seen(page, "[...document.querySelectorAll('figure img')].every((image) => image.complete && image.naturalWidth)")
    expect(page.get_by_text("sharpness", exact=True).first).to_be_visible()
    expect(page.get_by_role("region", name="History").locator("tbody tr")).to_have_count(2)
    page.get_by_role("region", name="History").get_by_role("link").last.click()
    expect(page.get_by_text(re.compile("^Product .* in ")).first).to_contain_text(
        told(page, "datasets/shoes/snapshots")["items"][1]["id"]
    )
    seen(page, "[...document.querySelectorAll('figure img')].every((image) => image.complete && image.naturalWidth)")
    # The API looks for images of older snapshots only where they are named, once they are out of its memory.
    assert all("snapshot=" in (each.get_attribute("src") or "") for each in page.locator("figure img").all())


def test_a_tag_stands_beside_its_snapshot_and_works_in_addresses(page: Page, shoes: Workspace) -> None:
    page.goto("/")
    older = told(page, "datasets/shoes/snapshots")["items"][1]["id"]
    try:
        assert page.request.put("/api/v1/datasets/shoes/tags/v1.0", data={"snapshot": older}).ok
        page.goto("/#/datasets/shoes/snapshots?from=v1.0")
        expect(page.locator("tbody tr").nth(1)).to_contain_text("v1.0")
        expect(page.get_by_label("From")).to_have_value(older)
        page.goto("/#/datasets/shoes?snapshot=v1.0")
        expect(page.get_by_label("Snapshot")).to_have_value(older)
    finally:
        shoes.lake.remove(tags_key("shoes"))


def test_the_diff_of_two_snapshots_is_what_the_api_tells(page: Page) -> None:
    page.goto("/#/datasets/shoes/snapshots")
    diff = page.locator(".differences")
    expect(diff.locator(".changes > li").first).to_be_visible()
    wanted = told(page, "datasets/shoes/diff", limit=500)
    lines = diff.locator(".total")
    for name, of in (("images", "images"), ("catalogue rows", "rows")):
        for kind in ("added", "removed", "changed"):
            if count := wanted["counts"][of][kind]:
                expect(lines.filter(has_text=re.compile(f"^{name}: "))).to_contain_text(f"{count} {kind}")
    diff.get_by_label("From").select_option(wanted["to"])
    expect(diff.locator(".total")).to_have_text("Nothing differs.")


def test_a_changed_image_is_shown_before_and_after_and_a_candidate_as_one(
    browser: Browser, workspace: Workspace, tmp_path: Path
) -> None:
    pipeline.two_snapshots(workspace, tmp_path / "in", title=HOSTILE[0])
    with opened(browser, workspace, tmp_path) as page:
        page.goto("/#/datasets/things/snapshots")
        changed = page.locator(".changes > li", has_text="new bytes")
        expect(changed.locator("figcaption")).to_have_text(["before", "after"])
        seen(
            page, "[...document.querySelectorAll('.sides img')].every((image) => image.complete && image.naturalWidth)"
        )
        shown = [each.get_attribute("src") for each in changed.locator("img").all()]
        assert len(set(shown)) == 2
        expect(page.locator(".changes > li", has_text="other values")).to_contain_text(f"Thing 2 → {HOSTILE[0]}")
        page.locator("#of").select_option("rows")
        expect(changed).to_have_count(0)
        check = Check(name="few", sql="SELECT key FROM images")
        set_checks(workspace.lake, "things", Checks(checks=[check]))
        with pytest.raises(FailedChecksError):
            pipeline.two_snapshots(workspace, tmp_path / "in", title="Candidate")
        page.reload()
        expect(page.locator("tbody tr").first).to_contain_text("candidate: few failed")
        expect(page.get_by_label("To")).to_have_value(require_published(workspace.lake, "things").manifest.snapshot_id)


def test_rejects_are_listed_with_their_reasons_and_chosen_by_rule(page: Page) -> None:
    page.goto("/#/datasets/shoes/rejects")
    wanted = told(page, "datasets/shoes/rejects", limit=500)
    expect(page.locator("tbody tr")).to_have_count(wanted["total"])
    rule = wanted["items"][0]["rule"]
    page.get_by_label("Rule").select_option(rule)
    expect(page.locator("tbody tr")).to_have_count(sum(each["rule"] == rule for each in wanted["items"]))
    expect(page.locator("tbody tr").first).to_contain_text(wanted["items"][0]["message"])


def test_an_export_is_counted_asked_for_watched_and_cancelled(
    browser: Browser, shoes: Workspace, tmp_path: Path
) -> None:
    runs = FakeRuns()
    with opened(browser, shoes, tmp_path, runs) as page:
        page.goto("/#/datasets/shoes?gender=Women&q=shirts")
        page.get_by_role("link", name="Export these…").click()
        count = page.locator("#count")
        expect(count).to_have_text(re.compile(r"^\d+ images?"))
        found = int(count.inner_text().split()[0])
        page.get_by_label("Conditions").fill("")
        expect(count).not_to_have_text(re.compile(rf"^{found} "))
        page.get_by_label("Conditions").fill('gender in "Women"\nyear >> 3')
        expect(count).to_contain_text("cannot be exported")
        expect(page.get_by_role("button", name="Export")).to_be_disabled()
        page.get_by_label("Conditions").fill('gender in "Women"')
        page.get_by_label("Images").fill("square-8")
        page.get_by_label("Split").fill("0.8, 0.2")
        page.get_by_label("Quote formulas").check()
        expect(count).to_have_text(re.compile(rf"^{found} "))
        page.get_by_role("button", name="Export").click()
        expect(page.get_by_text("waiting")).to_be_visible()
        (run,) = runs.submitted
        asked = runs.submitted[run][1]
        assert (asked["split"], asked["quote_formulas"]) == ("train=0.8,test=0.2", True)
        runs.states[run] = RunState("running", "", datetime.now(UTC), None, 42.0, "42 of 100 images")
        expect(page.get_by_text("running: 42 of 100 images")).to_be_visible()
        assert page.locator("#progress").get_attribute("value") == "42"
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("cancelled")).to_be_visible()
        assert runs.cancelled == [run]
        page.get_by_role("link", name="My exports").click()
        expect(page.locator("tbody tr").first).to_contain_text("cancelled")


def test_a_plan_is_asked_for_and_shown_as_the_command_prints_it(
    browser: Browser, shoes: Workspace, tmp_path: Path
) -> None:
    runs, source = FakeRuns(), write_collection(tmp_path / "source", {"1.jpg": photo(1)})
    made = estimate(pipeline.request(shoes, source, dataset="shoes"))
    with opened(browser, shoes, tmp_path, runs) as page:
        page.goto("/#/datasets/shoes")
        page.get_by_role("link", name="Plan").click()
        expect(page.get_by_label("Source")).to_have_value(re.compile("."))
        page.get_by_label("Source").fill(str(source))
        page.get_by_role("button", name="Plan").click()
        expect(page.get_by_text("waiting")).to_be_visible()
        ((run, (_, parameters)),) = runs.submitted.items()
        assert parameters["source"] == str(source)
        runs.artifacts[run, PLAN_ARTIFACT] = made
        runs.states[run] = RunState("completed", "", None, None)
        expect(page.locator("tbody tr")).to_have_text(["".join(line) for line in plan_lines(made)[1:]])


#: Of each form of the page "Manage": its title, what is filled in, the button, and what the API is asked for.
MANAGED: list[tuple[str, dict[str, str], str, str, dict[str, Any]]] = [
    ("Ingest", {"Source": "sample://9"}, "Ingest", "ingest", {"source": "sample://9"}),
    ("Restore", {}, "Restore", "restore", {}),
    ("Judge rejects again", {}, "Judge again", "replay", {"rules": []}),
    ("Clean up", {"Older than": "2w"}, "Show what would go", "gc", {"keep": 10, "older_than": "2w", "dry_run": True}),
    ("Clean up", {"Snapshots to keep": "3"}, "Clean up", "gc", {"keep": 3, "older_than": "30d", "dry_run": False}),
    ("Rename", {"New name": "boots"}, "Rename", "rename", {"new_name": "boots"}),
    ("Forget", {"Keys": "1\n 2 "}, "Show what would go", "forget", {"keys": ["1", "2"], "where": [], "dry_run": True}),
    (
        "Forget",
        {"Or conditions": "year < 2010", "Type shoes": "shoes"},
        "Forget",
        "forget",
        {"keys": [], "where": ["year < 2010"], "dry_run": False},
    ),
    ("Remove the dataset", {"Type shoes": "shoes"}, "Remove", "remove", {}),
]


def test_what_can_be_done_to_a_dataset_is_asked_for_and_its_end_is_told(
    browser: Browser, shoes: Workspace, tmp_path: Path
) -> None:
    runs = FakeRuns()
    with opened(browser, shoes, tmp_path, runs) as page:
        page.goto("/#/datasets/shoes")
        page.get_by_role("link", name="Manage").click()
        for title, filled, button, flow, wanted in MANAGED:
            page.reload()
            part = page.get_by_role("region", name=title, exact=True)
            for label, text in filled.items():
                part.get_by_label(label).fill(text)
            part.get_by_role("button", name=button, exact=True).click()
            expect(part.get_by_text("waiting")).to_be_visible()
            run, (deployment, parameters) = list(runs.submitted.items())[-1]
            assert (deployment, parameters["dataset"]) == (f"{flow}/local", "shoes")
            assert {name: parameters[name] for name in wanted} == wanted
            runs.states[run] = RunState("failed", "No space left.", None, None)
            expect(part.get_by_text("failed: No space left.")).to_be_visible()
    assert len(runs.submitted) == len(MANAGED)


def test_a_snapshot_is_tagged_on_the_page(page: Page, shoes: Workspace) -> None:
    page.goto("/#/datasets/shoes/manage")
    part = page.get_by_role("region", name="Tag")
    part.get_by_label("Tag").fill("spring")
    oldest = part.get_by_label("Snapshot").locator("option").last.inner_text()
    part.get_by_label("Snapshot").select_option(oldest)
    part.get_by_role("button").click()
    expect(part.get_by_text("completed")).to_be_visible()
    (tag,) = told(page, "datasets/shoes/tags")["items"]
    assert (tag["tag"], tag["snapshot"]) == ("spring", oldest)
    shoes.lake.remove(tags_key("shoes"))


def test_nothing_is_removed_before_the_name_of_the_dataset_is_typed(page: Page) -> None:
    page.goto("/#/datasets/shoes/manage")
    part = page.get_by_role("region", name="Remove the dataset")
    remove = part.get_by_role("button", name="Remove")
    expect(remove).to_be_disabled()
    part.get_by_label("Type shoes").fill("shoe")
    expect(remove).to_be_disabled()
    part.get_by_label("Type shoes").fill("shoes")
    expect(remove).to_be_enabled()


def test_an_export_takes_a_value_or_none_along(browser: Browser, shoes: Workspace, tmp_path: Path) -> None:
    """What the short form of conditions has no words for: the export holds what the grid showed."""
    runs = FakeRuns()
    with opened(browser, shoes, tmp_path, runs) as page:
        page.goto("/#/datasets/shoes/export?gender=Women&gender=&season=Summer")
        expect(page.get_by_text("Also chosen: gender: Women, or none")).to_be_visible()
        expect(page.get_by_label("Conditions")).to_have_value('season in "Summer"')
        expect(page.locator("#count")).to_contain_text("image")
        page.get_by_role("button", name="Export").click()
        expect(page.get_by_text("waiting")).to_be_visible()
        ((_, parameters),) = runs.submitted.values()
        query = {"gender": ["Women", ""], "season": "Summer", "limit": 0}
        wanted = told(page, "datasets/shoes/products", **query)["total"]
        found = told(page, "datasets/shoes/products", filter=json.dumps(parameters["filter"]), limit=0)["total"]
        assert found == wanted > 0


def test_a_key_is_asked_for_and_opens_pictures_too(browser: Browser, shoes: Workspace, tmp_path: Path) -> None:
    with opened(browser, shoes, tmp_path) as page:
        key = create_key(shoes.registry, "page", ["read"])
        page.goto("/#/datasets/shoes")
        field = page.get_by_label("Key", exact=True)
        field.fill("wrong")
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("alert")).to_contain_text("no key")
        field.fill(key)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator(".grid li").first).to_be_visible()
        seen(page, "document.querySelector('.grid img').naturalWidth > 0")
        assert page.evaluate("document.querySelector('.grid img').src").startswith("blob:")
        assert key not in page.url
        assert page.context.cookies() == []


def test_texts_of_a_catalogue_stay_texts(browser: Browser, registry: Registry, tmp_path: Path) -> None:
    place = replace(local_workspace(tmp_path / "home"), registry=registry)
    images = {f"{number}.jpg": pipeline.photo(number) for number, _ in enumerate(HOSTILE)}
    rows = [
        pipeline.row(number) | {"productDisplayName": name, "gender": name[:50]} for number, name in enumerate(HOSTILE)
    ]
    source = pipeline.write_collection(tmp_path / "in", images, rows)
    pipeline.run(pipeline.request(place, source, dataset="hostile"))
    with opened(browser, place, tmp_path) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto("/#/datasets/hostile")
        expect(page.locator(".grid li")).to_have_count(len(HOSTILE))
        assert set(page.locator(".grid .name").all_text_contents()) >= set(HOSTILE[:4])
        assert is_narrow(page)
        page.locator(".grid a").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE[0])
        assert page.evaluate("window.hacked") is None
        assert is_narrow(page)


def seen(page: Page, condition: str) -> None:
    """Wait for something of the page; its policy lets no text run, so it is asked from outside."""
    wait_for(condition, lambda: page.evaluate(condition))


def is_narrow(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("view", sampled(VIEWS, fast=["#/datasets/shoes"]))
def test_a_phone_scrolls_no_view_sideways(page: Page, view: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/{view}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("Loading…")).to_have_count(0)
    assert is_narrow(page)
    assert page.get_by_role("alert").inner_text() == ""


def test_an_api_that_does_not_answer_is_named_and_can_be_asked_again(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("link", name="shoes")).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("link", name="shoes").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".grid li").first).to_be_visible()
    expect(page.get_by_role("alert")).to_be_empty()


def test_what_is_not_there_is_said(page: Page) -> None:
    page.goto("/#/datasets/none")
    expect(page.get_by_role("alert")).to_contain_text("There is no such dataset.")
    page.goto("/#/somewhere/else")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
