"""Which image belongs to which catalogue row."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.tasks.datasets.links import CatalogueName, ImageNames, key_order, link


def row(product: str, file_name: str | None = None, catalogue: str = "styles.csv") -> CatalogueName:
    return CatalogueName(product, catalogue, file_name)


def test_the_shallowest_copy_comes_first_then_the_first_by_name() -> None:
    keys = ["b/1.jpg", "a/deep/1.jpg", "a/1.jpg", "1.png", "1.jpg"]
    assert sorted(keys, key=key_order) == ["1.jpg", "1.png", "a/1.jpg", "b/1.jpg", "a/deep/1.jpg"]


@pytest.mark.parametrize(
    ("keys", "wanted", "found"),
    [
        (["images/1.jpg", "images/11.jpg"], row("1"), ["images/1.jpg"]),
        (["nested/images/1.jpg", "images/1.png"], row("1"), ["images/1.png", "nested/images/1.jpg"]),
        (["images/1.jpg"], row("01"), []),
        (["images/1.large.jpg"], row("1"), []),
        ([], row("1"), []),
        (["train/a.jpg", "a.jpg"], row("9", "a.jpg", "train/metadata.csv"), ["train/a.jpg"]),
        (["train/a.jpg", "a.jpg"], row("9", "a.jpg", "metadata.csv"), ["a.jpg"]),
        (["data/train/a.jpg"], row("9", "train/a.jpg", "data/metadata.csv"), ["data/train/a.jpg"]),
        (["train/a.jpg"], row("9", "train/a.jpg", "docs/metadata.csv"), ["train/a.jpg"]),
        (["x/y/a.jpg", "z/a.jpg"], row("9", "a.jpg"), ["z/a.jpg", "x/y/a.jpg"]),
        (["images/a.jpg"], row("9", "./a.jpg", "images/metadata.csv"), ["images/a.jpg"]),
        (["images/a.jpg"], row("9", "../images/a.jpg", "docs/metadata.csv"), ["images/a.jpg"]),
        (["images/a.jpg"], row("a", "gone.jpg"), ["images/a.jpg"]),
        (["images/a.jpg"], row("a", ""), ["images/a.jpg"]),
        (["images/a.jpg"], row("9", "b.jpg"), []),
    ],
    ids=[
        "by product", "copies", "not a number", "other stem", "none", "beside", "at the root", "below", "from the root",
        "anywhere", "dot", "up", "falls back", "empty name", "missing",
    ],
)  # fmt: skip
def test_images_of_a_row(keys: list[str], wanted: CatalogueName, found: list[str]) -> None:
    assert ImageNames(keys).find(wanted) == found


def test_an_image_belongs_to_the_first_row_that_names_it() -> None:
    found, products = link([row("1"), row("2", "1.jpg"), row("3")], ["1.jpg", "4.jpg"])
    assert found == [["1.jpg"], ["1.jpg"], []]
    assert products == {"1.jpg": "1"}


@settings(deadline=None)
@given(
    st.lists(st.from_regex(r"([ab]/){0,2}[1-3]\.(jpg|png)", fullmatch=True), unique=True),
    st.lists(st.integers(1, 4).map(str)),
    st.randoms(use_true_random=False),
)
def test_links_do_not_depend_on_the_order_of_keys(keys: list[str], ids: list[str], random: object) -> None:
    rows = [row(number) for number in ids]
    shuffled = random.sample(keys, len(keys))  # type: ignore[attr-defined]
    assert link(rows, keys) == link(rows, shuffled)
    found, products = link(rows, keys)
    assert set(products) == {key for images in found for key in images}
    for number, images in zip(ids, found, strict=True):
        assert set(images) == {key for key in keys if key.rsplit("/", 1)[-1].split(".")[0] == number}
