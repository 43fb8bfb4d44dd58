"""Terms are found as whole words, whatever the case, and as often as they stand there."""

from __future__ import annotations

import re
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lookbook.tasks.tables.graph.entities import END, START, Terms, fold, marked

#: Letters that fold to themselves, to two, to a letter with a mark; marks; digits; what stands between words.
ALPHABET = "aAbBsSßẞİiI\u0131éÉﬁŉς\u0301\u0307_1 -+.*?[\\(|$^,\u2019≠❤\ufe0f\x02\x03\ufffd각가\u200d"
TEXTS = st.text(ALPHABET, max_size=24)
TERMS = st.lists(st.text(ALPHABET, max_size=5), max_size=6)


def is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")


def slow_reference(term: str, text: str) -> int:
    """A regular expression for one term: no letter, digit or underscore stands beside it, and no mark behind it."""
    term, text = fold(term.strip()), fold(text)
    if not term:
        return 0
    count = 0
    for found in re.finditer(f"(?={re.escape(term)})", text):
        start, end = found.start(), found.start() + len(term)
        if start and (is_mark(text[start]) or _ends_in_word(text[:start])):
            continue
        if end < len(text) and (is_mark(text[end]) or re.match(r"\w", text[end])):
            continue
        count += 1
    return count


def _ends_in_word(text: str) -> bool:
    bare = len(text)
    while bare and is_mark(text[bare - 1]):
        bare -= 1
    return bool(bare and re.match(r"\w", text[bare - 1]))


@settings(max_examples=800, deadline=None)
@given(TERMS, TEXTS)
@example(["s", "ss", "ß"], "ß SS s ẞ")
@example(["i", "İ", "i\u0307"], "İ i I \u0131")
@example(["a", "a a"], "a a a")
@example(["+", "c++"], "c++ C++, +++")
@example(["\u0301"], "\u0301a")
def test_what_is_found_is_what_a_slow_regular_expression_finds(terms: list[str], text: str) -> None:
    labels = {str(number): term for number, term in enumerate(terms)}
    expected = {key: count for key, term in labels.items() if (count := slow_reference(term, text))}
    assert Terms(labels).find(text) == expected


@settings(max_examples=500, deadline=None)
@given(st.text("ab -_.1é", max_size=5), st.text("abAB -_.1éÉ,", max_size=30))
def test_without_letters_that_fold_to_several_it_is_pythons_regular_expression(term: str, text: str) -> None:
    pattern = re.compile(rf"(?<!\w)(?={re.escape(term.strip())}(?!\w))", re.IGNORECASE)
    expected = len(pattern.findall(text)) if term.strip() else 0
    assert Terms({"x": term}).find(text).get("x", 0) == expected


def test_folding_keeps_words_words_for_every_character() -> None:
    """So a whole word of the text as it stood is one of the folded text, and the other way round."""
    word = re.compile(r"\w")
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        if 0xD800 <= number < 0xE000 or is_mark(letter):
            continue
        folded = [part for part in fold(letter) if not is_mark(part)]
        assert folded, hex(number)
        assert {bool(word.match(part)) for part in folded} == {bool(word.match(letter))}, hex(number)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_the_marks_of_a_text_are_ours_alone(text: str) -> None:
    bare = marked(fold(text)).replace(START, "").replace(END, "")
    assert bare == fold(text)


@pytest.mark.parametrize(
    ("term", "text", "count"),
    [
        ("Aspirin", "ASPIRIN, aspirin and aspirins", 2),
        ("straße", "Die STRASSE, die Straße", 2),
        ("s", "ß", 0),
        ("acid", "acid_7 acid-7 (acid)", 2),
        ("vitamin b12", "Vitamin B12; vitamin B123", 1),
        ("c++", "C++ and c++17", 1),
        (".net", "ASP.NET or .NET", 1),
        ("a.c", "abc a.c", 1),
        ("café", "cafe\u0301 CAFÉ", 2),
        ("cafe", "café cafe\u0301", 0),
        (" padded ", "padded", 1),
        ("Ã©clair", "a Ã©clair, mis-encoded", 1),
        ("x", "x" * 5 + " x", 1),
    ],
)
def test_examples(term: str, text: str, count: int) -> None:
    assert Terms({"t": term}).find(text).get("t", 0) == count


def test_equal_terms_of_two_keys_and_overlapping_terms_all_count() -> None:
    terms = Terms({"1": "acid", "2": "Acid", "3": "folic acid", "4": "", "5": "  "})
    assert terms.find("Folic acid") == {"1": 1, "2": 1, "3": 1}
    assert terms.empty == ["4", "5"]
    assert Terms({}).find("anything") == {}


def test_time_does_not_grow_with_terms_that_stand_within_each_other() -> None:
    """Two thousand terms that all begin at every letter of one word of a megabyte: none is a whole word of it."""
    terms = Terms({str(length): "a" * length for length in range(1, 2000)})
    begun = time.perf_counter()
    assert terms.find("a" * 1_000_000) == {}
    assert time.perf_counter() - begun < 5
