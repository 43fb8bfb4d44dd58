"""The values that specs are made of: names, lengths of time, column types, and placeholders in paths and addresses."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_types import TYPES

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")


class Strict(BaseModel):
    """A part of a spec: a key that it does not know is a mistake, most likely a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def read_length(value: Any) -> Any:  # noqa: ANN401 - whatever stands in the YAML
    """``90`` (seconds), ``90s``, ``2m``, ``1h``, ``1d`` or ``1w`` as a timedelta.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    found = _LENGTH.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a length of time is a number of seconds, or 90s, 2m, 1h, 1d, 1w")
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


Length = Annotated[
    timedelta,
    BeforeValidator(read_length),
    Field(ge=timedelta(0)),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhdw]$"}]}
    ),
]


def _as_list(value: Any) -> Any:  # noqa: ANN401 - whatever stands in the YAML
    return [value] if isinstance(value, str) else value


def _stays_inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("a path beside the spec, without .., is asked for")
    return path


#: One name, or several.
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]

SpecName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="Lower-case letters, digits, - and _.")]
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="Lower-case letters, digits and _.")]
TableName = Annotated[
    str,
    Field(
        pattern=r"^([a-z][a-z0-9_]{0,62}|[a-z0-9_]*\{event\}[a-z0-9_]*)$",
        description="Lower-case letters, digits and _. With split_by, {event} stands for the value that was split by.",
    ),
]
#: A file beside the spec: no way leads out of its folder.
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_stays_inside)]
FunctionPath = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function; the module lies beside the spec, or is installed.",
    ),
]
#: The name of a saved block.
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

Target = Literal["warehouse", "registry", "lake"]
WriteDisposition = Literal["append", "replace", "merge"]
ContractMode = Literal["evolve", "freeze", "discard_row", "discard_value"]


def read_field(value: Any) -> Any:  # noqa: ANN401 - whatever stands in the YAML
    """Read a type alone as a field of that type."""
    return {"type": value} if isinstance(value, str) else value


#: Each type of a field in DuckDB's words.
SQL_TYPES = {type_.spec: type_.duckdb for type_ in TYPES}


class FieldSpec(Strict):
    """A declared column.

    Attributes:
        type: text, bigint, double, bool, timestamp (with a zone), datetime (without one), date, time, json, binary,
            or decimal(precision, scale).
        nullable: whether the value may be missing; a row without it is rejected otherwise.
    """

    type: Annotated[str, Field(pattern=rf"^({'|'.join(SQL_TYPES)}|decimal\(\d{{1,2}}, ?\d{{1,2}}\))$")]
    nullable: bool = True

    @property
    def sql_type(self) -> str:
        """The type in DuckDB's words."""
        if found := _DECIMAL.fullmatch(self.type):
            return f"DECIMAL({found[1]}, {found[2]})"
        return SQL_TYPES[self.type]


Fields = dict[str, Annotated[FieldSpec, BeforeValidator(read_field, json_schema_input_type=FieldSpec | str)]]


#: Placeholders of the logical date, each with how it is written.
DATE_PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "date": "%Y-%m-%d"}
#: What a param may put into a path or an address: nothing that begins another part of it, and no pattern.
_VALUE = re.compile(r"(?!\.)[\w.-]+(?: [\w.-]+)*")
MAX_LENGTH = 200


def placeholders(template: str) -> set[str]:
    """Return the names of the placeholders; ``{{`` and ``}}`` are braces.

    Raises:
        LookbookError: a brace is not closed, or one holds more than a name.
    """
    return {name for _, name in _parts(template) if name is not None}


def render(template: str, logical_date: datetime, params: Mapping[str, JsonValue]) -> str:
    """Return the template with values in place of its placeholders.

    Args:
        template: as in ``prices/{year}-{month}.csv``.
        logical_date: of the run.
        params: of the run. A value is a text of letters, digits, ``_``, ``-``, ``.`` and blanks in between, that
            does not start with a dot, a number, or a truth value.

    Raises:
        LookbookError: a placeholder is not known, or a value does not stay within its part of the path.
    """
    known = _known(logical_date, params)
    text = ""
    for literal, name in _parts(template):
        text += literal
        if name is None:
            continue
        if name not in known:
            raise LookbookError(
                f"{template}: there is no placeholder {{{name}}}.",
                f"There are {', '.join('{' + one + '}' for one in known)}; a brace itself is written twice.",
            )
        text += known[name] if name in DATE_PARTS else _checked(name, params[name])
    return text


def _known(logical_date: datetime, params: Mapping[str, JsonValue]) -> dict[str, str]:
    both = [name for name in params if name in DATE_PARTS]
    if both:
        raise LookbookError(
            f"params.{both[0]} has the name of a part of the logical date.",
            "Give it another name: templates know both.",
        )
    # strftime writes years before 1000 with fewer than four digits.
    year = f"{logical_date.year:04}"
    parts = {name: logical_date.strftime(form.replace("%Y", year)) for name, form in DATE_PARTS.items()}
    return parts | dict.fromkeys(params, "")


def _checked(name: str, value: JsonValue) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float | str) else ""
    if len(text) > MAX_LENGTH or ".." in text or not _VALUE.fullmatch(text):
        raise LookbookError(
            f"params.{name} has a value that does not fit into a path or an address.",
            f"It may have letters, digits, _, -, single dots and blanks between them: {MAX_LENGTH} at the most.",
        )
    return text


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Literal texts, each with the name of the placeholder behind it."""
    try:
        found = list(Formatter().parse(template))
    except ValueError as error:
        raise LookbookError(f"{template}: {error}.", "A brace that is no placeholder is written twice: {{.") from error
    parts: list[tuple[str, str | None]] = []
    for literal, name, form, conversion in found:
        if name is not None and (form or conversion or not name.isidentifier()):
            raise LookbookError(f"{template}: {{{name}}} is no placeholder.", "One is a name in braces: {year}.")
        parts.append((literal, name))
    return parts


#: PostgreSQL's bound of a name; a longer one is cut, and gets a hash.
LONGEST = 63
_SIGNS = str.maketrans("+-*@|", "x_xal")
_OTHER_SIGNS = re.compile(r"[^a-zA-Z\d_]+")
_WORDS = (re.compile(r"([^_])([A-Z][a-z]+)"), re.compile(r"([a-z0-9])([A-Z])"))


@lru_cache(maxsize=100_000)
def snake_case(name: str) -> str:
    """Return a name in snake case: productDisplayName is product_display_name; ``__`` stays between levels.

    The rules are those of dlt's naming convention ``snake_case``, so that its tables and ours have the same columns;
    https://dlthub.com/docs/general-usage/naming-convention. Empty, where nothing of the name is left.
    """
    levels = [level for level in name.split("__") if level.strip()]
    return _bounded("__".join(filter(str.strip, map(_level, levels))), name)


def _level(name: str) -> str:
    """Return one level of a name in snake case: signs that no name has become ``_``, and those at its end ``x``."""
    name = name.strip()
    made = _OTHER_SIGNS.sub("_", name.translate(_SIGNS))
    for words in _WORDS:
        made = words.sub(r"\1_\2", made)
    made = made.lower()
    if re.match(r"\d", made):
        made = f"_{made}"
    bare = made.rstrip("_")
    return _bounded(re.sub("__+", "_", bare + "x" * (len(made) - len(bare))), name)


def _bounded(made: str, name: str) -> str:
    """Return a name of at most `LONGEST` characters: of a longer one the ends, and between them a hash of all."""
    if len(made) <= LONGEST:
        return made
    digest = hashlib.shake_128(name.encode("utf-8", "backslashreplace")).digest(4)
    mark = base64.b64encode(digest, b"ba").decode("ascii").rstrip("=").lower()
    kept = LONGEST - len(mark)
    return made[: kept - kept // 2] + mark + made[len(made) - kept // 2 :]
