"""Options of the command from the annotated types that flows and forms use too. Imports no Prefect."""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter
from pydantic.fields import FieldInfo

Command = TypeVar("Command", bound=Callable[..., Any])

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document and nothing else.")]
Debug = Annotated[bool, Parameter(negative="", help="Show logs, and tracebacks of errors.")]


def with_checked_options(command: Command) -> Command:
    """Give each option whose type carries a pydantic field that field's description and bounds."""
    for name, hint in typing.get_type_hints(command, include_extras=True).items():
        field = _field_of(hint)
        if field is not None:
            option = Parameter(help=field.description, validator=partial(_check, hint))
            command.__annotations__[name] = Annotated[hint, option]
    return command


def _field_of(hint: Any) -> FieldInfo | None:  # noqa: ANN401 - any annotation
    candidates = [hint, *typing.get_args(hint)]  # `Limit | None` carries the field inside
    fields = (found for each in candidates for found in getattr(each, "__metadata__", ()))
    return next((field for field in fields if isinstance(field, FieldInfo)), None)


def _check(hint: Any, _: Any, value: Any) -> None:  # noqa: ANN401 - any annotation, any value
    from pydantic import TypeAdapter, ValidationError  # slow to import, and help needs none of it

    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        fault, description = error.errors()[0], getattr(_field_of(hint), "description", "")
        # A pattern tells people nothing that the description does not say better.
        message = "" if fault["type"] == "string_pattern_mismatch" else f"{fault['msg']}. "
        raise ValueError(f"{message}{description}") from error
