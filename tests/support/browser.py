"""A page of Prefect's UI in a headless browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, Route, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Where pictures go that the docs show; without it they are kept with the test's own files.
PICTURES = "LOOKBOOK_SCREENSHOTS"
DEADLINE = 60_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, without a window, while the block runs."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, base: str, pictures: Path) -> Iterator[Page]:
    """A page that reaches `base` and nothing else; a failure leaves ``failure.png`` in `pictures`."""
    host = urlsplit(base).netloc

    def stay(route: Route) -> None:
        route.continue_() if urlsplit(route.request.url).netloc == host else route.abort()

    page = browser.new_page(base_url=base, viewport={"width": 1280, "height": 900})
    page.set_default_timeout(DEADLINE)
    page.route("**/*", stay)
    try:
        yield page
    except (AssertionError, Error) as error:
        page.screenshot(path=pictures / "failure.png", full_page=True)
        error.add_note(f"what the page showed: {pictures / 'failure.png'}")
        raise
    finally:
        page.close()


def picture(page: Page, folder: Path, name: str) -> None:
    """Take a picture, also for the docs where they ask for it."""
    page.mouse.move(0, 0)
    page.screenshot(path=Path(os.environ.get(PICTURES, folder)) / f"ui-{name}.png", animations="disabled")
