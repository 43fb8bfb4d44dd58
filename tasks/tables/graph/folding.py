r"""Texts in which whole words are compared whatever their case.

Terms and texts are folded alike, and looked for in what that gives: no position in the text as it stood is needed, so
it does not matter that a letter may become two (ß is ss, İ is i with a dot above). A text is put into NFC, folded by
Unicode's full case folding, and put into NFC again, so that é is one letter however it is written.

A word is made of letters, digits and underscores, and of the combining marks behind them (an accent that no letter has
of its own, a vowel sign). Folding turns letters into letters only, so a match that begins or ends within ß stands
within a word, and does not count.

Whole words are found by marks: one stands where what is before it is no part of a word (``START``), one where what is
behind it is none (``END``). A term with both is found nowhere but between words, so that finding takes time by the
length of the text and by what is found, whatever the terms.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

START, END = "\x02", "\x03"
#: Of so many kinds of characters between words, each is marked by itself.
_FEW = 16
_NO_MARKS = str.maketrans(dict.fromkeys((START, END), "\ufffd"))


def fold(text: str) -> str:
    """Return a text without case, in which the marks stand nowhere."""
    if START in text or END in text:
        text = text.translate(_NO_MARKS)
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def marked(text: str) -> str:
    """Return a folded text with its marks; that of a whole word in a text stands in that of the text."""
    letters = set(text)
    others = [letter for letter in letters if _kind(letter) != "word"]
    if len(others) <= _FEW and not any(_kind(letter) == "mark" for letter in others):
        for letter in others:  # in C, a letter at a time: ten times as fast as a regular expression
            text = text.replace(letter, f"{END}{letter}{START}")
    else:
        text = _between_words().sub(_with_marks, text)
    return f"{START}{text}{END}"


@cache
def _kind(letter: str) -> str:
    if letter == "_" or letter.isalnum():
        return "word"
    return "mark" if unicodedata.category(letter).startswith("M") else "other"


def _with_marks(found: re.Match[str]) -> str:
    return f"{END}{found[0]}{START}"


@cache
def _between_words() -> re.Pattern[str]:
    """A character that is no part of a word, with the combining marks behind it; or marks that nothing precedes."""
    marks = combining_marks()
    return re.compile(rf"[^\w{marks}][{marks}]*|^[{marks}]+")


@cache
def combining_marks() -> str:
    """Return all combining marks, as ranges of a class of a regular expression."""
    ranges: list[list[int]] = []
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)).startswith("M"):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
