from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from lookbook.tasks.datasets.report.page import render_report
from lookbook.tasks.datasets.schemas import OUTPUTS_SCHEMA
from tests.support.reports import (
    data,
    fashion,
    image_row,
    output_row,
    picture,
    product_row,
    read_object,
    table,
    with_tables,
)


def sheet(page: str) -> str:
    return page.partition('<ul class="sheet">')[2].partition("<dialog")[0]


def test_contact_sheet_spreads_over_categories_and_does_not_depend_on_the_order_of_rows() -> None:
    # One category is twenty times the others; each of them must still be seen whole.
    names = ["Shirts"] * 200 + ["Shoes"] * 10 + ["Watches"] * 10
    products = [product_row(n, subCategory=name) for n, name in enumerate(names)]
    made = data([image_row(n) for n in range(220)], products)
    shown = sheet(render_report(made, read_object))
    assert shown.count("<img") == 96
    assert shown.count("<dd>Shoes</dd>") == shown.count("<dd>Watches</dd>") == 10
    shuffled = np.random.default_rng(1).permutation(220)
    other = data([image_row(n) for n in shuffled.tolist()], [products[n] for n in shuffled[::-1]])
    assert sheet(render_report(other, read_object)) == shown


def test_a_contact_shows_the_pixels_of_its_own_product() -> None:
    contacts = re.findall(
        r'src="data:image/jpeg;base64,([^"]+)" alt="Product number (\d+)"', render_report(fashion(), read_object)
    )
    assert len(contacts) == 30
    assert all(base64.b64decode(pixels) == picture(int(number)) for pixels, number in contacts)


def test_without_a_thumb_the_smallest_output_is_shown_and_drawn_small() -> None:
    made = data([image_row(0)], [product_row(0)])
    noise = np.random.default_rng(1).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(noise).save(target, "PNG")
    rows = [output_row(0, "huge") | {"bytes": 9_000_000}, output_row(0, "large") | {"bytes": 800_000}]
    large = {"derived/large/0.jpg": target.getvalue()}
    text = render_report(with_tables(made, outputs=table(rows, OUTPUTS_SCHEMA)), large.__getitem__)
    pixels = base64.b64decode(re.findall(r'base64,([^"]+)"', text)[0])
    assert max(Image.open(io.BytesIO(pixels)).size) <= 192
    assert len(text) < 150_000
