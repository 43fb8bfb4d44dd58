"""File names of copies: every image has one, no two have the same, and people can read them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookbook.tasks.exports.copy import LONGEST, ImageRow, balanced, file_name, names_by_hash, names_by_id

KEYS = st.text(min_size=1, max_size=12).map(lambda text: text.strip("/") or "x")
ROWS = st.lists(
    st.builds(
        ImageRow,
        key=KEYS,
        sha256=st.sampled_from(["aa1", "aa2", "bb1", "cc1"]),
        product_key=st.none() | st.sampled_from(["1", "1-2", "a", "A", "..", "a/b", "\u00e9", "e\u0301"]),
        main=st.booleans(),
    ),
    max_size=20,
)


def names(*images: ImageRow) -> list[tuple[str, str]]:
    return [(each.name, each.image.key) for each in names_by_id(images)]


def test_a_products_images_are_numbered_from_its_main_one() -> None:
    images = [ImageRow(f"{letter}.jpg", letter, "7", main=letter == "b") for letter in "abc"]
    assert names(*images) == [("7", "b.jpg"), ("7-2", "a.jpg"), ("7-3", "c.jpg")]


def test_copies_of_an_image_are_one_file_for_each_product() -> None:
    images = [ImageRow("1.jpg", "x", "1"), ImageRow("again/1.jpg", "x", "1"), ImageRow("1.jpg", "x", "2", main=True)]
    assert names(*images) == [("1", "1.jpg"), ("2", "1.jpg")]


def test_images_without_a_row_lie_apart_by_their_own_names() -> None:
    images = [ImageRow("1.jpg", "x", "1"), ImageRow("more/b.tar.png", "y", None), ImageRow("copy.jpg", "x", None)]
    assert names(*images) == [("1", "1.jpg"), ("orphans/more/b.tar", "more/b.tar.png")]


def test_a_number_never_takes_another_products_name() -> None:
    images = [ImageRow("a.jpg", "a", "1"), ImageRow("b.jpg", "b", "1"), ImageRow("c.jpg", "c", "1-2")]
    assert names(*images) == [("1", "a.jpg"), ("1-2", "c.jpg"), ("1-3", "b.jpg")]


def test_ids_that_differ_in_case_only_do_not_meet_on_any_file_system() -> None:
    assert names(ImageRow("1.jpg", "x", "Ab"), ImageRow("2.jpg", "y", "aB")) == [("Ab", "1.jpg"), ("aB-2", "2.jpg")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("15970", "15970"),
        ("Größe 3", "Größe 3"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("50%", "50%25"),
        ("end.", "end%2E"),
        ("", "%"),
        ("a\nb", "a%0Ab"),
        (r"C:\x", "C%3A%5Cx"),
    ],
)
def test_what_is_no_file_name_is_escaped(text: str, name: str) -> None:
    assert file_name(text) == name


@given(st.text(max_size=400))
def test_any_text_becomes_a_file_name(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name.encode()) <= LONGEST
    assert "/" not in name
    assert name not in (".", "..")
    assert not name.startswith(".")


@given(ROWS)
def test_every_image_has_a_name_and_no_two_the_same(images: list[ImageRow]) -> None:
    for named in (names_by_id(images), names_by_hash(images)):
        seen = [unicodedata.normalize("NFC", each.name).casefold() for each in named]
        assert len(set(seen)) == len(seen)
        assert {each.image.sha256 for each in named} == {image.sha256 for image in images}
    assert balanced(names_by_id(images), images)


@given(ROWS)
def test_names_do_not_depend_on_the_order_of_the_table(images: list[ImageRow]) -> None:
    unique = list({(image.key, image.product_key): image for image in images}.values())
    assert names(*unique) == names(*reversed(unique))
