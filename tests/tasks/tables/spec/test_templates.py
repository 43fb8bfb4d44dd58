"""Placeholders: the date, and params that stay within their part of a path or an address."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.spec.values import placeholders, render

DATE = datetime(2026, 3, 1, 4, 5, tzinfo=UTC)


def test_parts_of_the_date_have_their_digits() -> None:
    assert render("{year}/{month}/{day}/{hour} {date}", DATE, {}) == "2026/03/01/04 2026-03-01"
    assert render("{date}", datetime(7, 1, 2, tzinfo=UTC), {}) == "0007-01-02"


def test_params_are_written_as_they_are() -> None:
    params: dict[str, Any] = {"city": "São Paulo", "n": 7, "share": 0.5, "on": True}
    assert render("{city}-{n}-{share}-{on}", DATE, params) == "São Paulo-7-0.5-true"


def test_a_brace_is_written_twice() -> None:
    assert render("a{{b}}{year}", DATE, {}) == "a{b}2026"
    assert placeholders("a{{b}}{year}/{city}/{year}") == {"year", "city"}
    assert placeholders("plain") == set()


def test_an_unknown_placeholder_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(LookbookError, match=r"\{cty\}.*\n.*\{year\}, \{month\}, \{day\}, \{hour\}, \{date\}, \{city\}"):
        render("{cty}", DATE, {"city": "x"})


@pytest.mark.parametrize(
    "template", ["{", "}", "{}", "{0}", "{year:>9}", "{year!r}", "{a.b}", "{a[0]}", "{year", "{ year }"]
)
def test_what_is_no_placeholder_is_an_error(template: str) -> None:
    with pytest.raises(LookbookError):
        render(template, DATE, {"a": "x"})
    with pytest.raises(LookbookError):
        placeholders(template)


def test_a_param_with_the_name_of_a_part_of_the_date_is_an_error() -> None:
    with pytest.raises(LookbookError, match=r"params\.year"):
        render("{month}", DATE, {"year": 2020})


@pytest.mark.parametrize(
    "value",
    ["", "..", "a/b", "/etc", "a\\b", "a..b", ".hidden", "a?b", "a#b", "a&b", "a=b", "a%2fb", "a:b", "a@b", "*", "[a]",
     "a\nb", "a\0b", " a", "a ", "{year}", "x" * 201, None, [1], {"a": 1}],
)  # fmt: skip
def test_values_that_lead_elsewhere_are_refused(value: Any) -> None:
    with pytest.raises(LookbookError, match=r"params\.p") as caught:
        render("files/{p}.csv", DATE, {"p": value})
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=10))
def test_no_value_adds_a_part_to_a_path_or_an_address(value: str) -> None:
    try:
        address = render("https://host/a/{p}.csv?q={p}", DATE, {"p": value})
    except LookbookError:
        return
    parts = urlsplit(address)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "host", "")
    assert parts.path == f"/a/{value}.csv"
    assert parts.query == f"q={value}"
    assert re.fullmatch(r"[^/\\?#&%*\[\]:@]+", value)
    assert ".." not in value
