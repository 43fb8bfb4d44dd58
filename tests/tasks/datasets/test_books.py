"""The books: what does not add up is said, with names."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.books import (
    NAMED,
    UnbalancedBooksError,
    check_counts,
    check_images,
    check_outputs,
    check_reject_limit,
)
from lookbook.tasks.datasets.desk import Desk
from tests.support.desks import TEXT


@cache
def desk() -> Desk:
    """One of these tests alone: where others have views of a source's files, they put tables of keys."""
    return Desk(Path(tempfile.gettempdir()))


def images_are_booked(found: list[str], ended: list[str]) -> None:
    desk().put("images", [(key,) for key in found], key=TEXT)
    desk().put("states", [(key,) for key in ended], key=TEXT)
    check_images(desk())


def outputs_are_booked(states: list[tuple[str, str, str]], outputs: list[tuple[str, str]]) -> None:
    desk().put("states", states, key=TEXT, status=TEXT, sha256=TEXT)
    desk().put("outputs", outputs, sha256=TEXT, output=TEXT)
    desk().put("definitions", [("thumb",), ("grey",)], output=TEXT)
    check_outputs(desk())


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5), unique=True),
    st.randoms(use_true_random=False),
)
def test_one_outcome_for_each_image_in_any_order_balances(keys: list[str], random: object) -> None:
    images_are_booked(keys, random.sample(keys, len(keys)))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("found", "ended", "said"),
    [
        (["a", "b", "c"], ["b"], "3 images were found; 2 without an outcome (a, c)."),
        (["a", "b"], ["a", "b", "b"], "2 images were found; 1 with several outcomes (b)."),
        (["a"], ["a", "x"], "1 images were found; 1 with an outcome but not listed (x)."),
        (["a", "a"], ["a"], "1 images were found; 1 listed more than once (a)."),
        (
            ["a", "b"],
            ["a", "a", "x"],
            "1 without an outcome (b); 1 with several outcomes (a); 1 with an outcome but not listed (x).",
        ),
        ([], ["a"], "0 images were found; 1 with an outcome but not listed (a)."),
    ],
)
def test_images_that_are_off_are_named(found: list[str], ended: list[str], said: str) -> None:
    with pytest.raises(UnbalancedBooksError) as caught:
        images_are_booked(found, ended)
    assert caught.value.problem.endswith(said)
    assert "Nothing was published" in caught.value.way_out


def test_numbers_that_cancel_out_do_not_hide_a_fault() -> None:
    with pytest.raises(UnbalancedBooksError, match=r"1 without an outcome \(b\).*not listed \(c\)"):
        images_are_booked(["a", "b"], ["a", "c"])


def test_of_many_keys_some_are_named_and_the_rest_is_counted() -> None:
    keys = [f"images/{number}.jpg" for number in range(NAMED + 3)]
    with pytest.raises(UnbalancedBooksError) as caught:
        images_are_booked(keys, [])
    assert f"({', '.join(keys[:NAMED])} and 3 more)" in caught.value.problem
    with pytest.raises(UnbalancedBooksError) as caught:
        images_are_booked(keys[:NAMED], [])
    assert f"({', '.join(keys[:NAMED])})." in caught.value.problem


def test_every_good_image_with_every_output_balances() -> None:
    whole = [("s1", "thumb"), ("s1", "grey")]
    outputs_are_booked([("a", "ok", "s1"), ("copy of a", "ok", "s1"), ("bad", "rejected", "s9")], whole)
    outputs_are_booked([], [])


def test_outputs_that_were_not_drawn_are_named() -> None:
    drawn = [("s1", "thumb"), ("s1", "grey"), ("s2", "thumb"), ("s2", "former")]
    with pytest.raises(UnbalancedBooksError, match=r"1 outputs were not drawn \(grey of b\)") as caught:
        outputs_are_booked([("a", "ok", "s1"), ("b", "ok", "s2")], drawn)
    assert "Nothing was published" in caught.value.way_out


def test_of_many_lacking_outputs_some_are_named_and_the_rest_is_counted() -> None:
    rows = [(f"{number}.jpg", "ok", f"s{number}") for number in range(NAMED)]
    with pytest.raises(UnbalancedBooksError, match=rf"{2 * NAMED} outputs .*grey of 0.jpg.* and {NAMED} more"):
        outputs_are_booked(rows, [])


def test_rows_balance_when_their_outcomes_add_up() -> None:
    check_counts("catalogue rows", {"found": 6, "matched": 3, "missing_image": 1, "duplicate": 1, "rejected": 1})
    check_counts("catalogue rows", {"found": 0, "matched": 0})
    for off in (5, 7):
        with pytest.raises(UnbalancedBooksError, match=f"{off} catalogue rows were found.*'matched': 6"):
            check_counts("catalogue rows", {"found": off, "matched": 6, "rejected": 0})


@pytest.mark.parametrize(
    ("rejected", "found", "limit"), [(1, 10, 0.1), (0, 10, 0.0), (10, 10, 1.0), (0, 0, 0.0), (3, 10, 0.3)]
)
def test_as_many_rejects_as_allowed_pass(rejected: int, found: int, limit: float) -> None:
    rules = {f"{number}.jpg": "truncated" for number in range(rejected)}
    check_reject_limit({"found": found, "rejected": rejected}, rules, limit)


@pytest.mark.parametrize(("rejected", "found", "limit"), [(2, 10, 0.1), (1, 1000, 0.0), (10, 10, 0.99)])
def test_more_rejects_fail_and_are_counted_by_rule(rejected: int, found: int, limit: float) -> None:
    rules = {f"{number}.jpg": "truncated" for number in range(1, rejected)} | {"0.jpg": "not_an_image"}
    with pytest.raises(LookbookError) as caught:
        check_reject_limit({"found": found, "rejected": rejected}, rules, limit)
    assert f"{rejected} of {found} images ({rejected / found:.1%}) were rejected" in caught.value.problem
    counted = "1 not_an_image" + (f", {rejected - 1} truncated" if rejected > 1 else "")
    assert f"were rejected: {counted} (0.jpg" in caught.value.problem
    assert f"--reject-limit is {limit:g}" in caught.value.problem
    assert "--reject-limit" in caught.value.way_out


def test_what_is_refused_by_the_recipe_names_its_limit_and_each_key_its_rule() -> None:
    rules = {"a.jpg": "timeout", "b.jpg": "truncated"}
    with pytest.raises(LookbookError) as refused:
        check_reject_limit({"found": 2, "rejected": 2}, rules, 0.1)
    assert "a.jpg: timeout, b.jpg: truncated" in refused.value.problem
    assert "or the recipe's max_seconds" in refused.value.way_out
    with pytest.raises(LookbookError) as refused:
        check_reject_limit({"found": 1, "rejected": 1}, {"b.jpg": "truncated"}, 0.1)
    assert "recipe" not in refused.value.way_out
