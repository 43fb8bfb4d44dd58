"""Filters of an export: as people write them, and as models with bounds."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
)

from lookbook.blocks.errors import UsageError

# A filter is a condition on one column, a text, a list of ids, or a combination of filters by ``and``, ``or``,
# ``not``.

#: Levels of a filter, conditions in it, and values in a list.
MOST_LEVELS = 16
MOST_CONDITIONS = 500
MOST_VALUES = 100_000
MOST_CHARACTERS = 1000

#: What names a column of a snapshot.
COLUMN = r"^\w{1,128}$"
Column = Annotated[str, StringConstraints(pattern=COLUMN), Field(description="A column of the snapshot.")]
Word = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
Scalar = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Word


class _Condition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Comparison(_Condition):
    """A column's value beside another one. A missing value is neither equal nor unequal to anything."""

    column: Column
    op: Literal["=", "!=", "<", "<=", ">", ">="]
    value: Annotated[Scalar, Field(description="Of the column's type; a number or date may be written as text.")]


class Membership(_Condition):
    """A column's value among others."""

    column: Column
    op: Literal["in", "not in"]
    value: Annotated[list[Scalar], Field(min_length=1, max_length=MOST_VALUES, description="Values of that type.")]


class Emptiness(_Condition):
    """Whether a column has a value."""

    column: Column
    op: Literal["is null", "is not null"]


class Containment(_Condition):
    """A text column that contains a text, whatever the case."""

    column: Column
    op: Literal["contains"]
    value: Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]


class Text(_Condition):
    """Whole words in the product's display name, in any order and case: all of them have to be there."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]


class Ids(_Condition):
    """Products by their keys, or images by the SHA-256 of their contents."""

    ids: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]],
        Field(min_length=1, max_length=MOST_VALUES),
    ]


class And(_Condition):
    """All of these hold."""

    all_of: Annotated[list[Filter], Field(alias="and", min_length=1, max_length=MOST_CONDITIONS)]


class Or(_Condition):
    """One of these holds, or more."""

    any_of: Annotated[list[Filter], Field(alias="or", min_length=1, max_length=MOST_CONDITIONS)]


class Not(_Condition):
    """This does not hold. Where it can't be told for want of a value, the image is not taken, as in SQL."""

    none_of: Annotated[Filter, Field(alias="not")]


_BY_KEY = {"and": "and", "or": "or", "not": "not", "text": "text", "ids": "ids"}
_BY_FIELD = {"all_of": "and", "any_of": "or", "none_of": "not", "text": "text", "ids": "ids"}
_BY_OPERATOR = {
    "in": "membership",
    "not in": "membership",
    "is null": "emptiness",
    "is not null": "emptiness",
    "contains": "containment",
}


def _kind(value: object) -> str:
    """Return which model a filter is of, by the key that only that one has."""
    if isinstance(value, BaseModel):
        found = next((_BY_FIELD[name] for name in type(value).model_fields if name in _BY_FIELD), None)
        return found or _BY_OPERATOR.get(getattr(value, "op", ""), "comparison")
    keys = value if isinstance(value, dict) else {}
    found = next((_BY_KEY[name] for name in keys if name in _BY_KEY), None)
    operator = keys.get("op")
    return found or _BY_OPERATOR.get(operator if isinstance(operator, str) else "", "comparison")


Filter = Annotated[
    Annotated[And, Tag("and")]
    | Annotated[Or, Tag("or")]
    | Annotated[Not, Tag("not")]
    | Annotated[Text, Tag("text")]
    | Annotated[Ids, Tag("ids")]
    | Annotated[Membership, Tag("membership")]
    | Annotated[Emptiness, Tag("emptiness")]
    | Annotated[Containment, Tag("containment")]
    | Annotated[Comparison, Tag("comparison")],
    Discriminator(_kind),
]
And.model_rebuild()
Or.model_rebuild()
Not.model_rebuild()


def check_bounds(value: object) -> object:
    """Return the value itself: before anything is made of it, however deep or large it is.

    Raises:
        ValueError: it is deeper than `MOST_LEVELS` or has more than `MOST_CONDITIONS` conditions.
    """
    rest: list[tuple[object, int]] = [(value, 1)]
    conditions = 0
    while rest:
        each, level = rest.pop()
        conditions += 1
        if level > MOST_LEVELS:
            raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
        if conditions > MOST_CONDITIONS:
            raise ValueError(f"it has more than {MOST_CONDITIONS} conditions")
        rest += ((part, level + 1) for part in _parts(each))
    return value


def _parts(value: object) -> list[Any]:
    """Return the filters that a filter combines, as a model or as plain values."""
    if isinstance(value, And | Or):
        return list(value.all_of if isinstance(value, And) else value.any_of)
    if isinstance(value, Not):
        return [value.none_of]
    if not isinstance(value, dict):
        return []
    listed = [part for name in ("and", "or") if isinstance(value.get(name), list) for part in value[name]]
    return [*listed, value["not"]] if "not" in value else listed


#: A filter as it comes from outside: its depth and size are checked first.
BoundedFilter = Annotated[Filter, BeforeValidator(check_bounds)]
_ADAPTER: TypeAdapter[Filter] = TypeAdapter(BoundedFilter)


def read_filter(document: object) -> Filter:
    """Return the filter that a JSON document describes.

    Raises:
        UsageError: it is none; the message names the place and the rule.
    """
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "it"
        message = fault["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"The filter cannot be read: {place}: {message}.",
            'A condition is {"column": "year", "op": ">=", "value": 2012}; docs/exports.md shows all.',
        ) from error


def filter_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a filter."""
    return _ADAPTER.json_schema()


def as_document(wanted: Filter) -> dict[str, Any]:
    """Return a filter as plain JSON values."""
    document: dict[str, Any] = wanted.model_dump(mode="json", by_alias=True)
    return document


def all_of(filters: list[Filter]) -> Filter | None:
    """Return one filter of several that all have to hold; None of none."""
    if not filters:
        return None
    return filters[0] if len(filters) == 1 else And.model_validate({"and": filters})


def canonical(wanted: Filter) -> Filter:
    """Return the filter in the one form of all its spellings: nesting, order and repeats tell nothing."""
    if isinstance(wanted, Not):
        inner = canonical(wanted.none_of)
        return inner.none_of if isinstance(inner, Not) else Not.model_validate({"not": inner})
    if isinstance(wanted, And | Or):
        parts: dict[str, Filter] = {}
        for part in map(canonical, _parts(wanted)):
            same = _parts(part) if type(part) is type(wanted) else [part]
            parts |= {_written(each): each for each in same}
        sorted_parts = [parts[text] for text in sorted(parts)]
        key = "and" if isinstance(wanted, And) else "or"
        return sorted_parts[0] if len(sorted_parts) == 1 else type(wanted).model_validate({key: sorted_parts})
    if isinstance(wanted, Membership):
        unique = {json.dumps(value): value for value in wanted.value}
        return wanted.model_copy(update={"value": [unique[text] for text in sorted(unique)]})
    if isinstance(wanted, Ids):
        return wanted.model_copy(update={"ids": sorted(set(wanted.ids))})
    return wanted


def _written(wanted: Filter) -> str:
    return json.dumps(as_document(wanted), sort_keys=True)


TAKES = (
    "It takes COLUMN=VALUE, also with !=, <, <=, >, >=; COLUMN in A,B; COLUMN not in A,B; COLUMN contains TEXT; "
    "COLUMN is null; COLUMN is not null."
)

_COLUMN = r"\s*(?P<column>\w+)\s*"
_COMPARISON = re.compile(_COLUMN + r"(?P<op>!=|<=|>=|==|=|<|>)(?P<value>.*)", re.DOTALL)
_LIST = re.compile(_COLUMN.removesuffix(r"\s*") + r"\s+(?P<op>not\s+in|in)\s+(?P<value>.*)", re.DOTALL | re.IGNORECASE)
_CONTAINS = re.compile(_COLUMN.removesuffix(r"\s*") + r"\s+(?P<op>contains)\s+(?P<value>.*)", re.DOTALL | re.IGNORECASE)
_EMPTY = re.compile(_COLUMN.removesuffix(r"\s*") + r"\s+(?P<op>is\s+not\s+null|is\s+null)\s*", re.IGNORECASE)


def read_condition(text: str) -> Filter:
    """Return one condition in its short form. Values stay texts: the snapshot's columns say what they are.

    A value may stand in double quotes, as in CSV: ``productDisplayName in "Tee, blue",Cap``.

    Raises:
        UsageError: it is no condition.
    """
    if found := _EMPTY.fullmatch(text):
        document = {"column": found["column"], "op": _words(found["op"])}
    elif found := _LIST.fullmatch(text):
        document = {"column": found["column"], "op": _words(found["op"]), "value": _values(text, found["value"])}
    elif found := _CONTAINS.fullmatch(text):
        document = {"column": found["column"], "op": "contains", "value": _value(text, found["value"])}
    elif found := _COMPARISON.fullmatch(text):
        operator = "=" if found["op"] == "==" else found["op"]
        document = {"column": found["column"], "op": operator, "value": _value(text, found["value"])}
    else:
        raise UsageError(f"--where {text!r}: this is no condition.", TAKES)
    return read_filter(document)


def read_conditions(
    where: Iterable[str] = (),
    text: str | None = None,
    ids: Iterable[str] = (),
    wanted: Filter | None = None,
) -> Filter | None:
    """Return one filter of all that was given; each has to hold. None where nothing was.

    Args:
        where: conditions in their short form.
        text: words of the display name.
        ids: keys of products, or hashes of images.
        wanted: a filter.

    Raises:
        UsageError: one of them is no condition.
    """
    filters = [read_condition(each) for each in where]
    if text is not None:
        filters.append(read_filter({"text": text}))
    if listed := list(ids):
        filters.append(read_filter({"ids": listed}))
    if wanted is not None:
        filters.append(wanted)
    return all_of(filters)


def _words(operator: str) -> str:
    return " ".join(operator.lower().split())


def _values(text: str, listed: str) -> list[str]:
    try:
        rows = list(csv.reader([listed], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f"--where {text!r}: its values cannot be told apart: {error}.", TAKES) from error
    if len(rows) != 1:
        raise UsageError(f"--where {text!r}: it names no value.", TAKES)
    return [value.strip() for value in rows[0]]


def _value(text: str, written: str) -> str:
    written = written.strip()
    if written.startswith('"'):
        values = _values(text, written)
        if len(values) != 1:
            raise UsageError(f"--where {text!r}: it names {len(values)} values.", TAKES)
        return values[0]
    return written
