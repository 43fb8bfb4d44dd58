from __future__ import annotations

import re

import pyarrow as pa

from lookbook.tasks.datasets.report.page import render_report
from tests.support.reports import fashion, read_object, with_tables


def test_every_chart_has_a_title_and_says_its_numbers_in_words() -> None:
    text = render_report(fashion(), read_object)
    charts = re.findall(r'<svg [^>]*role="img" aria-labelledby="([\w-]+) ([\w-]+)">(.*?)</svg>', text, re.DOTALL)
    words = {}
    for title, description, inside in charts:
        found = re.search(
            rf'<title id="{title}">(.*?)</title>\s*<desc id="{description}">(.*?)</desc>', inside, re.DOTALL
        )
        assert found is not None
        words[found[1]] = found[2]
    assert words["Products per sub category"] == "Shirts: 10 (33.3%); Shoes: 10 (33.3%); Watches: 10 (33.3%)"
    assert words["Products per colour"] == "Multi: 15 (50.0%); Navy Blue: 15 (50.0%)"
    assert words["Products per season and year"].startswith("2011: Winter 8; 2012: Summer 8; ")
    assert words["Formats and modes"] == "JPEG · RGB: 30 (100.0%)"
    assert "30 images from 10 to 300" in words["Sharpness, variance of the Laplacian"]
    assert "median 155" in words["Sharpness, variance of the Laplacian"]
    assert {"Brightness, 0 to 1", "Contrast, 0 to 1", "Megapixels", "Products per gender"} <= words.keys()
    assert 'fill="#1f2a52"' in text


def test_a_foreign_catalogue_is_charted_by_its_own_columns() -> None:
    rows = 40
    foreign = pa.table({
        "product_key": [str(n) for n in range(rows)], "outcome": ["matched"] * rows,
        "image_key": [f"images/{n}.jpg" for n in range(rows)], "file": ["a.csv"] * rows, "line": list(range(rows)),
        "Species": ["oak", "elm"] * (rows // 2), "note": [f"all differ {n}" for n in range(rows)],
        "weight": [n / 7 for n in range(rows)],
    })  # fmt: skip
    titles = re.findall(
        "<figcaption>(.*?)</figcaption>", render_report(with_tables(fashion(rows), products=foreign), read_object)
    )
    assert [title for title in titles if title.startswith("Products")] == ["Products per species"]
