"""What is wrong with a spec: each fault with its place in the file and its path in the spec."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.spec.yaml_text import Document, Path, Place

#: A path that a validator of a whole spec puts before what it says.
_OWN_PATH = re.compile(r"^(?P<path>[a-z_]+(?:\.[\w-]+)*): (?P<message>.*)$", re.DOTALL)

#: pydantic's words are Python's; a file knows others.
_ASKED_FOR = {
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
}


@dataclass(frozen=True, order=True)
class Problem:
    """One fault.

    Attributes:
        file: its name, without folders.
        field: path in the spec, as ``tasks.load.primary_key``; empty: of the file as a whole.
    """

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (f"{self.file}:{self.line}:{self.column}", self.field, self.message)))


class SpecError(LookbookError):
    """A spec that cannot be meant as it stands.

    Attributes:
        problems: all that was found.
    """

    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> SpecError:
        """Return the error of these problems, a line each."""
        found = tuple(sorted(set(problems)))
        error = cls("\n".join(map(str, found)), "Mend it; lookbook pipeline validate checks it again.")
        error.problems = found
        return error


@dataclass(frozen=True)
class Finder:
    """Makes problems of a file: knows its name, and where each path stands."""

    file: FilePath
    document: Document

    def at(self, path: Path, message: str) -> Problem:
        """Return a problem of what stands under a path."""
        return problem(self.file, self.document.place(path), ".".join(map(str, path)), message)

    def of_model(self, error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
        """Yield the problems that pydantic found."""
        for fault in error.errors(include_input=False, include_url=False):
            path, known = self._path(fault["loc"], model)
            for message in _messages(fault, known):
                yield self.told(path, message)

    def told(self, path: Path, message: str) -> Problem:
        """Return a problem of what stands under a path; its message may name a path below that first, and a colon."""
        said = _OWN_PATH.match(message)
        named = tuple(said["path"].split(".")) if said else ()
        for whole in ((*path, *named), (*path, *named[:-1])):
            if said and whole in self.document.places:
                return self.at((*path, *named), said["message"])
        return self.at(path, message)

    def _path(self, loc: Sequence[str | int], model: type[BaseModel]) -> tuple[Path, list[str]]:
        """Return where pydantic's location stands in the file, and the keys that are known there.

        A location names the members of unions too, which the file does not.
        """
        value: Any = self.document.value
        path: Path = ()
        kind: Any = model
        known: list[str] = []
        for element in loc:
            if not _is_tag(kind, element):
                if _holds(value, element):
                    value = value[element]
                elif element == loc[-1] and isinstance(value, dict) and element != "[key]":
                    return (*path, element), _keys(kind)  # it is missing
                else:
                    break
                path, known = (*path, element), _keys(kind)
            kind = _below(kind, element)
        return path, known


def problem(file: FilePath, place: Place, field: str, message: str) -> Problem:
    """Return a problem at a place of a file."""
    return Problem(file.name, place.line, place.column, field, message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question, or nothing where nothing is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _messages(fault: ErrorDetails, known: list[str]) -> list[str]:
    """Return what to say of a fault; a validator of our own may say several, a line each."""
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        return [f"no such key{did_you_mean(name, known) or _choice(known)}"]
    if fault["type"] == "missing":
        return ["it is missing"]
    if fault["type"] in _ASKED_FOR:
        return [f"{_ASKED_FOR[fault['type']]} is asked for"]
    text = fault["msg"].removeprefix("Value error, ")
    return text.splitlines() or [text]


def _choice(known: list[str]) -> str:
    return f"; there are {', '.join(known)}" if known else ""


def _holds(value: Any, element: str | int) -> bool:  # noqa: ANN401 - whatever stands in the file
    if isinstance(value, list):
        return isinstance(element, int) and element < len(value)
    return isinstance(value, dict) and element in value


def _bare(kind: Any) -> Any:  # noqa: ANN401 - a type
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _members(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type
    """Return the members of a union by the names that locations give them."""
    found = {}
    for member in get_args(_bare(kind)):
        tags = [each.tag for each in get_args(member)[1:] if isinstance(each, Tag)] if get_args(member) else []
        own = _bare(member)
        if tags:
            found[tags[0]] = own
        elif isinstance(own, type) and issubclass(own, BaseModel):
            literal: Any = own.model_fields["type"].annotation if "type" in own.model_fields else None
            is_one = get_origin(literal) is Literal
            found.update(dict.fromkeys(get_args(literal) if is_one else [own.__name__], own))
    return found


def _is_tag(kind: Any, element: str | int) -> bool:  # noqa: ANN401 - a type
    bare = _bare(kind)
    union = get_origin(bare) is not None and get_origin(bare) not in {dict, list, tuple, Literal}
    return union and len(_members(bare)) > 1 and element in _members(bare)


def _below(kind: Any, element: str | int) -> Any:  # noqa: ANN401 - types
    """Return the type of what lies under a key, or of a member of a union."""
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        for name, field in bare.model_fields.items():
            if element in (name, field.alias):
                return field.annotation
        return None
    if get_origin(bare) is dict:
        return get_args(bare)[1]
    if get_origin(bare) in {list, tuple}:
        return get_args(bare)[0]
    members = _members(bare)
    if element in members:
        return members[str(element)]
    return _below(next(iter(members.values())), element) if len(members) == 1 else None


def _keys(kind: Any) -> list[str]:  # noqa: ANN401 - a type
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return [field.alias or name for name, field in bare.model_fields.items()]
    members = _members(bare)
    return _keys(next(iter(members.values()))) if len(members) == 1 else []
