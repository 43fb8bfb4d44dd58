"""YAML as specs are written in it: no surprises, no bombs, and the place of everything."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookbook.tasks.tables.spec.problems import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_VALUES,
    Position,
    YamlProblemError,
    read_yaml,
)

SCALARS = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
DOCUMENTS = st.recursive(
    SCALARS | TEXTS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
    max_leaves=12,
)


def value(text: str) -> Any:
    return read_yaml(text.encode()).value


def fault(text: str | bytes) -> tuple[str, Position]:
    with pytest.raises(YamlProblemError) as caught:
        read_yaml(text if isinstance(text, bytes) else text.encode())
    return str(caught.value), caught.value.place


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS)
def test_what_json_says_is_read_as_json_reads_it(document: Any) -> None:
    assert value(json.dumps(document)) == document


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS)
def test_what_pyyaml_writes_is_read_again(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    if not isinstance(document, dict | list):
        return  # a text alone may be written so that it ends the document
    assert value(text) == document


@pytest.mark.parametrize(
    "text",
    ["on", "off", "yes", "no", "y", "N", "12:30", "2026-03-01", "007", "1_000", "0x1f", "0o17", ".inf", ".nan", "="],
)
def test_words_of_yaml_1_1_are_texts(text: str) -> None:
    assert value(f"key: {text}") == {"key": text}
    assert value(f"{text}: key") == {text: "key"}


def test_anchors_and_merge_keys_work_and_what_stands_there_wins() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], c: 5}\nw: {<<: *x}\nv: [*x]"
    assert value(text) == yaml.safe_load(text)


def test_each_key_and_value_has_its_place() -> None:
    document = read_yaml(b"a: 1\nb:\n  - c: 2\n  - {d: 3}\n")
    assert document.place(("b", 0, "c")) == Position(3, 5)
    assert document.place(("b", 1, "d")) == Position(4, 6)
    assert document.place(("b", 1, "gone")) == Position(4, 5), "of what is missing, the place around it"


def test_a_key_twice_is_refused_where_it_stands_again() -> None:
    assert fault("a: 1\nb: {c: 1, c: 2}") == ("the key c is there twice", Position(2, 11))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1", Position(1, 6)),
        ("a: 1\n  b: 2", Position(2, 4)),
        ("a: *gone", Position(1, 4)),
        ("a: !!python/object:os.system x", Position(1, 4)),
        ("a: !own {b: 1}", Position(1, 4)),
        ("a: !!int one", Position(1, 4)),
        ("? [a]\n: 1", Position(1, 3)),
        ("a: 1\n---\nb: 2", Position(3, 1)),
        ("a: &a [*a]", Position(1, 4)),
        ("a: &a\n  <<: *a", Position(1, 4)),
        ("a: 1e999", Position(1, 4)),
        ('a: "\\ud800"', Position(1, 4)),
        (b"a: 1\nb: \xff", Position(2, 4)),
        ("a: \x00", Position(1, 4)),
        ("", Position(1, 1)),
        ("# nothing", Position(1, 1)),
    ],
)
def test_what_is_no_yaml_of_a_spec_has_a_place(text: str | bytes, place: Position) -> None:
    assert fault(text)[1] == place


def test_bombs_are_refused() -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
    )
    for bomb in (laughs, merges):
        assert f"more than {MOST_VALUES:,} values" in fault(bomb)[0]
    assert f"deeper than {MOST_DEPTH}" in fault("[" * 100_000)[0]
    assert f"more than {MOST_VALUES:,} values" in fault("[" + "1," * (MOST_VALUES + 1) + "]")[0]
    assert f"more than {MOST_BYTES:,} bytes" in fault("#" * (MOST_BYTES + 1))[0]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_a_problem(data: bytes) -> None:
    with suppress(YamlProblemError):
        read_yaml(data)
