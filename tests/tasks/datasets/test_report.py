from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.tasks.datasets.report.page import ReportData, render_report, report_markdown
from lookbook.tasks.datasets.schemas import OUTPUTS_SCHEMA
from tests.support.reports import (
    Page,
    data,
    fashion,
    image_changes,
    image_row,
    product_row,
    read_object,
    reject_row,
    sha,
    table,
    with_tables,
)

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def without_pixels(page: str) -> str:
    return re.sub(r"data:image/[^\"]+", "", page)


def test_the_page_asks_the_network_for_nothing() -> None:
    text = render_report(fashion(), read_object)
    page = Page(text)
    fetching = ("src", "href", "xlink:href", "srcset", "action", "poster", "data", "background")
    addresses = [value for _, found in page.elements for name, value in found.items() if name in fetching]
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#many-colours"}
    assert "@import" not in text
    assert "link" not in page.texts
    assert "default-src 'none'" in page.all("meta", "content")[0]


def test_the_security_policy_lets_only_the_pages_own_script_run() -> None:
    page = Page(render_report(fashion(), read_object))
    assert len(page.texts["script"]) == 1
    digest = base64.b64encode(hashlib.sha256(page.texts["script"][0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.all("meta", "content")[0]


def test_an_object_that_the_lake_lacks_is_not_passed_over() -> None:
    def lost(key: str) -> bytes:
        raise ObjectNotFoundError(key)

    with pytest.raises(ObjectNotFoundError):
        render_report(fashion(), lost)


def test_hostile_names_and_texts_are_inert() -> None:
    images = [image_row(n) for n in range(4)]
    images[0] |= {"key": HOSTILE, "camera_model": HOSTILE, "format": HOSTILE, "dominant_colour": HOSTILE}
    images[1] |= {"key": f"{HOSTILE}2", "outcome": "duplicate", "duplicate_of": HOSTILE, "orphan": True}
    texts = dict.fromkeys(("gender", "subCategory", "baseColour", "season", "productDisplayName"), HOSTILE)
    products = [product_row(n, **texts) for n in range(4)]
    products[0] |= {"image_key": HOSTILE, "product_key": HOSTILE}
    products[3] |= {"outcome": "missing_image", "missing_reason": HOSTILE, "file": HOSTILE}
    refused = [reject_row(1, **dict.fromkeys(("kind", "locator", "rule", "message", "raw"), HOSTILE))]
    changes = image_changes(HOSTILE, added=[HOSTILE], removed=[HOSTILE], changed=[HOSTILE])
    named = {"dataset": HOSTILE, "source": HOSTILE, "changes": changes, "versions": {HOSTILE: HOSTILE}}
    made = data(images, products, refused, **named)
    page = Page(render_report(made, read_object))
    assert len(page.texts["script"]) == 1
    assert page.texts["body"][0].count("<script>alert(1)</script>") > 20
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert all(source.startswith("data:image/") for source in page.all("img", "src"))
    markdown = report_markdown(made).replace(f"`lookbook rejects {HOSTILE}`", "")
    assert "<script>" not in markdown
    assert "alert(1)" in markdown


def test_control_characters_and_reversals_do_not_reach_the_page() -> None:
    made = data([image_row(0, key="photo\u202egpj.exe\x00\x1b[31m\nx.jpg")], [])
    text = render_report(made, read_object)
    assert not set("\u202e\x00\x1b") & set(text)
    assert "photo\ufffdgpj.exe\ufffd\ufffd[31m x.jpg" in text


def nothing_loaded() -> ReportData:
    return with_tables(data([image_row(0, outcome="rejected", sha256="")], []), outputs=table([], OUTPUTS_SCHEMA))


def no_columns_at_all() -> ReportData:
    tables = dict.fromkeys(("images", "products", "outputs", "rejects"), pa.table({}))
    return replace(with_tables(fashion(0), **tables), summary={}, recipe={}, versions={})


def no_measures() -> ReportData:
    images = [{"key": f"{n}.jpg", "outcome": "loaded", "sha256": sha(n), "product_key": str(n)} for n in range(3)]
    return data(images, [{"product_key": "1", "outcome": "matched"}])


@pytest.mark.parametrize("make", [nothing_loaded, no_columns_at_all, no_measures])
def test_empty_cases_give_a_whole_page_that_says_so(make: Callable[[], ReportData]) -> None:
    made = make()
    page = Page(render_report(made, read_object))
    assert not page.open
    assert len(page.texts["h2"]) == 10
    assert not re.search(r"\b(nan|inf|None|null)\b", page.body)
    assert "Nothing was refused." in page.body
    assert report_markdown(made).startswith("# fashion\n")


def test_a_hundred_thousand_images_still_give_a_page_of_bounded_size() -> None:
    # Every list is cut and every chart sums up: a hundred thousand make no longer a page than some thousands.
    number = np.arange(100_000)
    keys = pa.array([f"folder-{n % 5000}/{n}.jpg" for n in number])
    hashes = pa.array([f"{n:064x}" for n in number])
    images = pa.table({
        "key": keys, "sha256": hashes, "duplicate_of": pa.array([f"folder-0/{n // 3}.jpg" for n in number]),
        "outcome": pa.array(np.where(number % 2, "loaded", "duplicate")), "orphan": pa.array(number % 5 == 0),
        "original_width": number, "original_height": number % 977, "brightness": number / 1e5,
        "camera_model": pa.array([f"camera {n}" for n in number]), "bytes": number,
    })  # fmt: skip
    outputs = pa.table({"sha256": hashes, "output": ["thumb"] * len(keys), "object_key": keys, "bytes": number})
    changes = image_changes("before", **dict.fromkeys(("added", "removed", "changed"), keys.to_pylist()))
    made = replace(with_tables(fashion(), images=images, outputs=outputs), changes=changes)
    assert len(without_pixels(render_report(made, read_object))) < 250_000
