"""The page over 100,000 products: the first screen, a facet, words, and scrolling through 50 pages, in Chromium."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

import pyarrow.compute as pc
from playwright.sync_api import Page, sync_playwright

from benchmarks import catalogue, corpora
from benchmarks.api import serving
from benchmarks.processes import say
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.tasks.datasets.manifest import Manifest, read_table
from lookbook.tasks.images.render import render

PRODUCTS = 100_000
PAGES, PAGE = 50, 60
PHOTOS = 20
RUNS = 5
#: Counts what keeps the browser from answering a hand for longer than 50 ms (https://w3c.github.io/longtasks/).
LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: "longtask", buffered: true });
"""
#: Whether so many cards are there, and every picture in view is drawn: asked of the last screens of cards alone, so
#: that asking does not slow down what is measured.
DRAWN = """([count, last]) => {
    const cards = document.querySelector(".grid").children;
    const near = [...cards].slice(-last);
    const images = near.flatMap((card) => [...card.querySelectorAll("img")]);
    return cards.length >= count && images
        .map((image) => [image, image.getBoundingClientRect()])
        .filter(([, box]) => box.bottom > 0 && box.top < innerHeight)
        .every(([image]) => image.complete && image.naturalWidth);
}"""
#: How many are found, as the page says it.
TOTAL = "document.querySelector('.total')?.textContent ?? null"
WITHIN = 60


def section(home: Path) -> str:
    """Measure it."""
    say(f"page: writing {PRODUCTS:,} products with their thumbnails")
    (home / "lake").mkdir(parents=True)
    lake = FolderLake(root=home / "lake")
    write_thumbnails(lake, catalogue.publish(lake, "big", PRODUCTS))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("There is no chromium here: apt-get install chromium.")
    with serving(home) as (port, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(base_url=f"http://127.0.0.1:{port}", viewport={"width": 1280, "height": 900})
        page.add_init_script(LONG_TASKS)
        measured = measure(page)
        browser.close()
    return text(*measured)


def write_thumbnails(lake: Lake, manifest: Manifest) -> None:
    """A file for each thumbnail of a snapshot: those of a few photos again and again, filled up to the bytes listed."""
    photos = sorted(corpora.folder_of(replace(corpora.LARGE, count=PHOTOS)).iterdir())
    drawn = [render(photo.read_bytes(), manifest.recipe, ["thumb"]).files["thumb"].data for photo in photos]
    outputs = read_table(lake, manifest, "outputs")
    thumbs = outputs.filter(pc.equal(outputs["output"], "thumb")).to_pylist()

    def put(number: int) -> None:
        row = thumbs[number]
        lake.put(row["object_key"], drawn[number % len(drawn)].ljust(row["bytes"], b"\0"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(thumbs))))


def measure(page: Page) -> tuple[list[float], list[float], list[float], list[float], float]:
    """Seconds of first screens, of a facet, of each page more; milliseconds of long tasks; MB of the scripts' heap."""
    address = "/#/datasets/big"
    page.goto(address)  # the snapshot is read once
    drawn(page, PAGE)
    first, facet = [], []
    for number in range(RUNS):
        say(f"page: run {number + 1} of {RUNS}")
        page.goto("about:blank")
        first.append(timed(page, lambda: page.goto(address)))
        facet.append(timed(page, page.locator(".facets input").first.check))
    page.goto("about:blank")
    page.goto(address)
    drawn(page, PAGE)
    page.evaluate("window.longTasks.length = 0")
    pages = []
    for number in range(2, PAGES + 1):
        start = time.perf_counter()
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        drawn(page, number * PAGE)
        pages.append(time.perf_counter() - start)
    heap = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
    return first, facet, pages, page.evaluate("window.longTasks"), heap


def timed(page: Page, work: Callable[[], object]) -> float:
    """Seconds until what was asked for is drawn."""
    before = page.evaluate(TOTAL)
    start = time.perf_counter()
    work()
    while page.evaluate(TOTAL) == before:
        time.sleep(0.005)
    drawn(page, 1)
    return time.perf_counter() - start


def drawn(page: Page, count: int) -> None:
    """Wait until so many cards are there, with the pictures in view."""
    deadline = time.perf_counter() + WITHIN
    while not page.evaluate(DRAWN, [count, 3 * PAGE]):
        if time.perf_counter() > deadline:
            sys.exit(f"{count} products are not shown within {WITHIN} s.")
        time.sleep(0.01)


def text(first: list[float], facet: list[float], pages: list[float], tasks: list[float], heap: float) -> str:
    """The section's text."""
    slow = sorted(pages)[int(0.99 * len(pages))]
    longest = f"; the longest took {max(tasks):.0f} ms" if tasks else ""
    return f"""## The page

{PRODUCTS:,} products with a thumbnail each, in Chromium on the same two cores, until every picture in view is drawn.

| what | seconds |
|---|---|
| the first screen, median of {RUNS} | {median(first):.2f} |
| a facet is chosen, median of {RUNS} | {median(facet):.2f} |
| {PAGE} products more by scrolling, median of {len(pages)} | {median(pages):.2f} |
| the same, at the 99th percentile | {slow:.2f} |

While {PAGES * PAGE:,} products were scrolled through, {len(tasks)} tasks kept the browser busy for more than
50 ms{longest}. The scripts held {heap:.0f} MB at the end.
"""
