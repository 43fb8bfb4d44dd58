"""Which image belongs to which catalogue row."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.tasks.datasets.links import CatalogueName, key_order, names_in
from tests.support.desks import Match
from tests.support.desks import linked as link

FRONTS = ("images/A100/front.jpg", "images/B200/front.jpg")


def row(product: str, file_name: str | None = None, catalogue: str = "styles.csv") -> CatalogueName:
    return CatalogueName(product, catalogue, file_name)


def matches(rows: Sequence[CatalogueName], keys: Sequence[str], copies: Sequence[str] = ()) -> list[Match]:
    """Link rows with files of contents of their own; `copies` are of one content."""
    return link(rows, keys, {key: "copy" if key in copies else key for key in keys})[0]


def test_the_shallowest_copy_comes_first_then_the_first_by_name() -> None:
    keys = ["b/1.jpg", "a/deep/1.jpg", "a/1.jpg", "1.png", "1.jpg"]
    assert sorted(keys, key=key_order) == ["1.jpg", "1.png", "a/1.jpg", "b/1.jpg", "a/deep/1.jpg"]


@pytest.mark.parametrize(
    ("keys", "wanted", "found", "rule"),
    [
        (["images/1.jpg", "images/11.jpg"], row("1"), ["images/1.jpg"], "stem"),
        (["nested/images/1.jpg", "images/1.png"], row("1"), ["images/1.png", "nested/images/1.jpg"], "stem"),
        (["images/1.jpg"], row("01"), [], None),
        (["1.1.jpg", "1.10.jpg"], row("1.10"), ["1.10.jpg"], "stem"),
        (["images/1.large.jpg"], row("1"), [], None),
        ([], row("1"), [], None),
        (["train/a.jpg", "a.jpg"], row("9", "a.jpg", "train/metadata.csv"), ["train/a.jpg"], "exact"),
        (["train/a.jpg", "a.jpg"], row("9", "a.jpg", "metadata.csv"), ["a.jpg"], "exact"),
        (["data/train/a.jpg"], row("9", "train/a.jpg", "data/metadata.csv"), ["data/train/a.jpg"], "exact"),
        (["train/a.jpg"], row("9", "train/a.jpg", "docs/metadata.csv"), ["train/a.jpg"], "exact"),
        (["images/a.jpg"], row("9", "./a.jpg", "images/metadata.csv"), ["images/a.jpg"], "exact"),
        (["images/a.jpg"], row("9", "../images/a.jpg", "docs/metadata.csv"), ["images/a.jpg"], "exact"),
        (["images/a.jpg"], row("9", "images\\a.jpg"), ["images/a.jpg"], "exact"),
        (["images/a b.jpg"], row("9", " images/a%20b.jpg "), ["images/a b.jpg"], "exact"),
        (["100%25.jpg", "100%.jpg"], row("9", "100%25.jpg"), ["100%25.jpg"], "exact"),
        (["p2.jpg?v=15"], row("9", "p2.jpg"), ["p2.jpg?v=15"], "exact"),
        (["images/a.jpg"], row("9", "https://shop.example/p/a.jpg?w=3"), ["images/a.jpg"], "tail"),
        (["data/images/a.jpg"], row("9", "images/a.jpg"), ["data/images/a.jpg"], "tail"),
        (["images/a.jpg"], row("9", "C:\\photos\\images\\a.jpg"), ["images/a.jpg"], "tail"),
        (["images/7f.jpg"], row("9", "7f"), ["images/7f.jpg"], "stem"),
        (["images/A.JPG"], row("9", "images/a.jpg"), ["images/A.JPG"], "case"),
        (["images/A.JPG"], row("a"), ["images/A.JPG"], "case"),
        (["images/a.jpeg"], row("9", "images/A.jpg"), ["images/a.jpeg"], "ending"),
        (["images/a.png"], row("9", "images/a.jpg"), [], None),
        (["images/a.jpg"], row("a", "gone.jpg"), ["images/a.jpg"], "stem"),
        (["images/a.jpg"], row("a", ""), ["images/a.jpg"], "stem"),
        (["images/a.jpg"], row("9", "b.jpg"), [], None),
    ],
    ids=[
        "by product", "further images", "zeros count", "decimals count", "other stem", "none", "beside", "at the root",
        "below", "from the root", "dot", "up", "backslash", "blanks and escapes", "an escape that is none", "query",
        "address", "below a folder", "absolute", "no ending", "capitals", "capitals of a product", "jpeg",
        "another format", "falls back", "empty name", "missing",
    ],
)  # fmt: skip
def test_images_of_a_row(keys: list[str], wanted: CatalogueName, found: list[str], rule: str | None) -> None:
    (match,) = matches([wanted], keys)
    assert (match.keys, match.rule, match.ambiguous) == (found, rule, False) or (not found and match == Match())


@pytest.mark.parametrize("composed", [True, False])
def test_names_are_compared_in_one_normal_form_and_kept_as_they_are(composed: bool) -> None:
    key = unicodedata.normalize("NFD" if composed else "NFC", "Müller Stiefel.jpg")
    name = unicodedata.normalize("NFC" if composed else "NFD", "Müller Stiefel.jpg")
    assert matches([row("1", name)], [key]) == [Match([key], "exact")]


def test_a_folder_that_is_not_there_gets_no_image_of_another_folder() -> None:
    rows = [row(product, f"images/{product}/front.jpg") for product in ("A100", "B200", "C300")]
    assert [match.keys for match in matches(rows, FRONTS)] == [[FRONTS[0]], [FRONTS[1]], ()]
    assert [match.keys for match in matches(rows, FRONTS[:1])] == [[FRONTS[0]], (), ()], "nor the only one of its name"
    assert matches(rows, ["front.jpg"]) == [Match()] * 3, "nor one that all three would get"


def test_as_many_parts_of_a_path_decide_as_are_needed() -> None:
    rows = [row(product, f"/home/me/{product}/front.jpg") for product in ("A100", "B200")]
    assert [(match.keys, match.rule) for match in matches(rows, FRONTS)] == [([key], "tail") for key in FRONTS]


def test_a_name_that_several_files_bear_matches_none_and_names_them() -> None:
    (match,) = matches([row("1", "front.jpg")], FRONTS)
    assert match.ambiguous
    assert match.candidates == "images/A100/front.jpg, images/B200/front.jpg"
    assert link([row("1", "front.jpg")], FRONTS, {key: key for key in FRONTS})[1] == {}


def test_copies_of_one_content_are_not_ambiguous() -> None:
    (match,) = matches([row("1", "front.jpg")], FRONTS, copies=FRONTS)
    assert (list(match.keys), match.ambiguous) == ([*FRONTS], False)


def test_other_capitals_count_only_where_no_other_name_leads_to_the_file() -> None:
    assert [match.rule for match in matches([row("A"), row("a")], ["a.jpg"])] == [None, "stem"]
    assert matches([row("ABC"), row("Abc")], ["abc.jpg"]) == [Match(), Match()]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("a.jpg,b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg; b.jpg", ["a.jpg", "b.jpg"]),
        ('["a.jpg", "b, c.jpg"]', ["a.jpg", "b, c.jpg"]),
        ("['a.jpg', 'b.jpg']", ["a.jpg", "b.jpg"]),
        ("shoe, red.jpg", ["shoe, red.jpg"]),
    ],
)
def test_a_cell_may_name_several_images(cell: str, names: list[str]) -> None:
    assert names_in(cell) == names


def test_each_name_of_a_cell_is_matched_and_what_is_absent_is_told() -> None:
    (match,) = matches([row("1", "a.jpg,b.jpeg,c.jpg")], ["x/a.jpg", "b.jpg"])
    assert match == Match(["x/a.jpg", "b.jpg"], "ending", absent=("c.jpg",))


def test_with_suffixed_images_a_file_belongs_to_the_longest_product_that_its_name_begins_with() -> None:
    keys = ["101_1.jpg", "101-back.jpg", "101_2_1.jpg", "1011.jpg", "102.jpg", "102_b.jpg"]
    rows = [row("101"), row("101_2"), row("102"), row("103")]
    found, products = link(rows, keys, suffixed=True)
    assert [(list(match.keys), match.rule) for match in found] == [
        (["101-back.jpg", "101_1.jpg"], "suffix"),
        (["101_2_1.jpg"], "suffix"),
        (["102.jpg", "102_b.jpg"], "stem"),
        ([], None),
    ]
    assert products["102_b.jpg"] == "102"
    assert [list(match.keys) for match in link(rows, keys)[0]] == [[], [], ["102.jpg"], []], "only if asked for"


def test_a_file_whose_name_holds_a_comma_is_no_list() -> None:
    assert matches([row("1", "a.jpg,b.jpg")], ["a.jpg,b.jpg", "a.jpg"]) == [Match(["a.jpg,b.jpg"], "exact")]


def test_an_image_belongs_to_the_first_of_the_rows_that_name_it() -> None:
    found, products = link([row("1", "x.jpg"), row("2", "x.jpg"), row("3")], ["x.jpg", "4.jpg"])
    assert [match.keys for match in found] == [["x.jpg"], ["x.jpg"], ()]
    assert products == {"x.jpg": "1"}


@pytest.mark.parametrize(
    ("rows", "keys", "right"),
    [
        ([row("1", "0.jpg"), row("2", "1.jpg"), row("3", "2.jpg")], ["0.jpg", "2.jpg"], ["0.jpg", None, "2.jpg"]),
        ([row("1"), row("2", "1.jpg")], ["1.jpg"], [None, "1.jpg"]),
        ([row("1", "https://s/image.jpg?id=1"), row("2", "https://s/image.jpg?id=2")], ["image.jpg"], [None, None]),
        ([row("1", "image.jpg?id=1"), row("2", "image.jpg?id=2")], ["image.jpg?id=2"], [None, "image.jpg?id=2"]),
        (
            [row("1", "https://s/i.jpg?id=1"), row("2", "https://s/i.jpg?id=2")],
            ["i.jpg?id=1", "i.jpg?id=2"],
            ["i.jpg?id=1", "i.jpg?id=2"],
        ),
        ([row("A/1"), row("B/1"), row("1")], ["1.jpg"], [None, None, "1.jpg"]),
        ([row("9", "1.jpg", "train/m.csv"), row("8", "1.jpg", "test/m.csv")], ["train/1.jpg"], ["train/1.jpg", None]),
        ([row("1", None, "shoes/p.csv")], ["hats/1.jpg", "shoes/1.jpg"], ["shoes/1.jpg"]),
        (
            [row("1", "A100/front.jpg"), row("2", "B200/side.jpg")],
            ["B200/front.jpg", "B200/side.jpg"],
            [None, "B200/side.jpg"],
        ),
        ([row("ABC", "gone.jpg"), row("Abc", "gone.jpg")], ["abc.jpg"], [None, None]),
        ([row("1"), row("1.1"), row("1.10")], ["1.1", "1.10"], [None, "1.1", "1.10"]),
        ([row("1", "M%FCller.jpg")], ["M%F6ller.jpg"], [None]),
        ([row("1", "Maße.jpg")], ["masse.jpg"], [None]),
        ([row("1", "https://c1/a.jpg"), row("1", "https://c2/a.jpg")], ["a.jpg"], ["a.jpg", "a.jpg"]),
        ([row("1", "https://s/p4.jpg_large")], ["p4.jpg_large"], ["p4.jpg_large"]),
        ([row("a.jpg")], ["a.jpg"], ["a.jpg"]),
        ([row("1", '["a.jpg", null]')], ["None.jpg", "a.jpg"], ["a.jpg"]),
        ([row("1", '["a.jpg"]')], ["a.jpg"], ["a.jpg"]),
        ([row("1", "a.jpg,")], ["a.jpg"], ["a.jpg"]),
        ([row("1", "[" * 3000 + "]" * 3000), row("2", "data:," + "a/" * 9000)], ["a.jpg"], [None, None]),
    ],
    ids=[
        "another row names it", "named before its product", "one file, two queries", "another query",
        "files of two queries", "slashes in ids", "two catalogues", "the catalogue's own folder",
        "a folder of another row", "two spellings of products", "dots in names", "escapes that are no text",
        "no capitals", "two addresses of one", "no image's ending", "an id that is a name", "nulls", "a list of one",
        "a last comma", "hostile cells",
    ],
)  # fmt: skip
def test_no_row_gets_what_is_anothers(rows: list[CatalogueName], keys: list[str], right: list[str | None]) -> None:
    assert [match.keys[0] if match.keys else None for match in matches(rows, keys)] == right


@pytest.mark.parametrize(
    "cell", ["i/1_a.jpg,i/1_b.jpg", "i/1_a.jpg; i/1_b.jpg", "https://c/1_a.jpg?v=1,https://c/1_b.jpg?v=1"]
)
def test_a_cell_of_several_paths_gives_all_of_them(cell: str) -> None:
    (match,) = matches([row("1", cell)], ["i/1_a.jpg", "i/1_b.jpg"])
    assert (list(match.keys), list(match.absent)) == (["i/1_a.jpg", "i/1_b.jpg"], [])


def test_a_file_that_could_not_be_read_is_a_candidate_as_well() -> None:
    found, _ = link([row("1", "front.jpg")], FRONTS, {FRONTS[0]: "content", FRONTS[1]: FRONTS[1]})
    assert found[0].ambiguous


@settings(deadline=None, max_examples=30)
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
    assert set(products) == {key for match in found for key in match.keys}
    for number, match in zip(ids, found, strict=True):
        assert set(match.keys) == {key for key in keys if key.rsplit("/", 1)[-1].split(".")[0] == number}


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.from_regex(r"([ab]/){0,2}[xyXY]\.(jpg|jpeg|png)", fullmatch=True), unique=True, min_size=1),
    st.lists(st.from_regex(r"([abc]/){0,3}[xyXY]\.(jpg|png)", fullmatch=True)),
)
def test_a_row_never_gets_a_file_of_another_name_or_one_of_several(keys: list[str], names: list[str]) -> None:
    for name, match in zip(names, matches([row("none", name) for name in names], keys), strict=True):
        folded = {key.rsplit("/", 1)[-1].lower().replace("jpeg", "jpg") for key in match.keys}
        assert folded <= {name.rsplit("/", 1)[-1].lower()}
        assert match.ambiguous == (match.candidates is not None)
        assert len(match.keys) <= 1
        if name in keys:
            assert match == Match([name], "exact")
