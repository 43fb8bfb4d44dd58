"""The page with a real Prefect server and worker: from a facet to a dataset on this machine."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.api_command import api_of
from tests.support.browser import page_of, picture
from tests.support.command import lookbook
from tests.support.prefect_processes import Server, wait_for

pytestmark = pytest.mark.integration


@pytest.mark.full
def test_from_a_facet_to_a_finished_download(browser: Browser, prefect: Server, tmp_path: Path) -> None:
    for count in (180, 200):
        source = ("ingest", f"sample://{count}", "--dataset", "catalogue")
        assert lookbook(prefect.home, *source, PREFECT_API_URL=prefect.url).returncode == 0
    with api_of(prefect) as client, page_of(browser, str(client.base_url), tmp_path) as page:
        page.goto("/")
        page.get_by_role("link", name="catalogue", exact=True).click()
        expect(page.locator(".grid li").first).to_be_visible()
        taken(page, tmp_path, "page-grid")
        look_around(page, tmp_path)
        page.goto("/#/datasets/catalogue?gender=Women&season=Summer")
        page.get_by_role("link", name="Export these…").click()
        page.get_by_label("Images").fill("square-64")
        page.get_by_label("Split").fill("0.8, 0.2")
        expect(page.locator("#count")).to_contain_text("image")
        count = int(page.locator("#count").inner_text().split()[0])
        taken(page, tmp_path, "page-export")
        page.get_by_role("button", name="Export").click()
        expect(page.locator("#progress")).to_be_visible()
        archive = page.get_by_role("link", name="Archive (ZIP)")
        expect(archive).to_be_visible(timeout=300_000)
        taken(page, tmp_path, "page-done")
        with page.expect_download() as download:
            archive.click()
        check(Path(download.value.path()), count)


def look_around(page: Page, pictures: Path) -> None:
    """A product, what differs, a phone; each as a picture."""
    page.locator(".grid a").nth(4).click()
    expect(page.locator("figure")).to_have_count(4)
    taken(page, pictures, "page-product")
    page.get_by_role("link", name="Snapshots").click()
    expect(page.locator(".changes > li").first).to_be_visible()
    taken(page, pictures, "page-diff")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/#/datasets/catalogue?gender=Women&season=Summer")
    expect(page.locator(".grid li").first).to_be_visible()
    taken(page, pictures, "page-phone")
    page.set_viewport_size({"width": 1280, "height": 900})


#: Whether every picture that is in view is drawn.
SEEN = """[...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight)
    .every((image) => image.complete && image.naturalWidth)"""


def taken(page: Page, pictures: Path, name: str) -> None:
    wait_for("all pictures in view are there", lambda: page.evaluate(SEEN))
    picture(page, pictures, name)


def check(path: Path, count: int) -> None:
    """The archive holds what the form counted, and is whole."""
    archive = zipfile.ZipFile(path)
    assert archive.testzip() is None
    (metadata,) = [name for name in archive.namelist() if name.endswith("metadata.csv") and name.count("/") == 1]
    rows = list(csv.DictReader(io.TextIOWrapper(archive.open(metadata), encoding="utf-8")))
    assert len(rows) == count > 0
    assert {(row["gender"], row["season"]) for row in rows} == {("Women", "Summer")}
