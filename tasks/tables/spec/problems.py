"""YAML as specs are written in it: values with their places, and each fault with its place and its path."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, JsonValue, Tag, ValidationError
from pydantic_core import ErrorDetails

from lookbook.blocks.errors import LookbookError

#: A spec is written by hand: more than this is a mistake, or hostile.
MOST_BYTES = 256 * 1024
MOST_DEPTH = 40
#: Values in all, those that aliases stand for counted wherever they stand.
MOST_VALUES = 50_000

SpecPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


@dataclass(frozen=True)
class Position:
    """Where something stands: line and column, the first is 1."""

    line: int
    column: int


class YamlProblemError(ValueError):
    """Text that is no YAML, or none that specs are written in."""

    def __init__(self, message: str, place: Position) -> None:
        super().__init__(message)
        self.place = place


@dataclass
class Document:
    """What a file says, and where it says it.

    Attributes:
        value: of dicts with texts as keys, lists, texts, numbers, truth values and None.
        places: of each value and each key by its path; of what anchors or merge keys brought, where that was written.
    """

    value: Any
    places: dict[SpecPath, Position] = field(default_factory=dict)

    def place(self, path: SpecPath) -> Position:
        """Return where a value stands; of one that is missing, where the one around it does."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Position(1, 1))


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain words only: ``on``, ``no`` and ``12:30`` are texts, and so are dates and 007."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's form


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", list("-0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"^(?:{_pattern})$"), _first)


def read_yaml(data: bytes) -> Document:
    """Read one document.

    Raises:
        YamlProblemError: it is none, or too large, too deep, or has a key twice.
    """
    text = _text(data)
    try:
        _check_size(text)
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.reader.ReaderError as error:
        raise YamlProblemError(
            f"the character {chr(error.character) if isinstance(error.character, int) else error.character!r} "
            "has no place in YAML",
            _place_of(text, error.position),
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _named(error) from None
    if not nodes:
        raise YamlProblemError("it is empty", Position(1, 1))
    if len(nodes) > 1:
        raise YamlProblemError("a second document begins here; one is asked for", _place(nodes[1]))
    document = Document(None)
    document.value = _Reader(document).read(nodes[0], ())
    return document


def _text(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise YamlProblemError(f"it has more than {MOST_BYTES:,} bytes", Position(1, 1))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        raise YamlProblemError("this is not UTF-8", _place_of(before, len(before))) from None


def _place_of(text: str, position: int) -> Position:
    before = text[:position]
    return Position(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _place(node: yaml.Node) -> Position:
    return _at(node.start_mark)


def _at(mark: Any) -> Position:  # noqa: ANN401 - PyYAML has two classes of them
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)


def _named(error: yaml.MarkedYAMLError) -> YamlProblemError:
    mark = error.problem_mark or error.context_mark
    said = ", ".join(filter(None, (error.context, error.problem)))
    return YamlProblemError(said, _at(mark))


def _check_size(text: str) -> None:
    """Look at the events, which take no stack, before anything follows them by recursion."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        values += not isinstance(event, yaml.CollectionEndEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH or values > MOST_VALUES:
            much = f"deeper than {MOST_DEPTH} levels" if depth > MOST_DEPTH else f"of more than {MOST_VALUES:,} values"
            raise YamlProblemError(f"no spec is {much}", _at(event.start_mark))


class _Reader:
    """Makes values of nodes; what aliases stand for is counted again each time."""

    def __init__(self, document: Document) -> None:
        self._places = document.places
        self._values = 0
        self._open: set[int] = set()

    def read(self, node: yaml.Node, path: SpecPath) -> Any:  # noqa: ANN401 - whatever stands there
        place = _place(node)
        self._places.setdefault(path, place)
        self._count(node)
        if id(node) in self._open:
            raise YamlProblemError("it contains itself", place)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self.read(part, (*path, number)) for number, part in enumerate(node.value)]
        finally:
            self._open.discard(id(node))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        raise YamlProblemError(f"{node.tag.removeprefix(_TAG)} has no place in a spec", place)

    def _count(self, node: yaml.Node) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise YamlProblemError(f"with its aliases it has more than {MOST_VALUES:,} values", _place(node))

    def _mapping(self, node: yaml.MappingNode, path: SpecPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[yaml.MappingNode] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged += self._merged(value)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise YamlProblemError("a key is one word or text", _place(key))
            if _whole(key) in found:
                raise YamlProblemError(f"the key {key.value} is there twice", _place(key))
            self._add(key, value, path, found)
        for other in merged:  # what the mapping says itself wins, then what is named first
            for key, value in self._pairs(other):
                if _whole(key) not in found:
                    self._add(key, value, path, found)
        return found

    def _add(self, key: yaml.ScalarNode, value: yaml.Node, path: SpecPath, found: dict[str, Any]) -> None:
        name = _whole(key)
        self._places[*path, name] = _place(key)
        found[name] = self.read(value, (*path, name))

    def _merged(self, node: yaml.Node) -> list[yaml.MappingNode]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise YamlProblemError("<< takes a mapping, or a list of them", _place(part))
        return list(parts)

    def _pairs(self, node: yaml.MappingNode, depth: int = 0) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Yield the keys of a mapping, those first that it says itself, then what it merges in."""
        if depth > MOST_DEPTH:
            raise YamlProblemError("it contains itself", _place(node))
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        yield from ((key, value) for key, value in own if isinstance(key, yaml.ScalarNode))
        for key, value in node.value:
            if key.tag == _MERGE:
                for part in self._merged(value):
                    self._count(part)
                    yield from self._pairs(part, depth + 1)


def _whole(node: yaml.ScalarNode) -> str:
    """Return a text; escapes of JSON write a character beyond the first 65,536 as two halves."""
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise YamlProblemError("half a character stands here", _place(node)) from None


def _scalar(node: yaml.ScalarNode) -> Any:  # noqa: ANN401 - text, number, truth value or None
    text = node.value
    try:
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return _whole(node)
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text)
            case "float" if math.isfinite(float(text)):
                return float(text)
            case "float":
                return int(text)  # which it is not: JSON has no word for the infinite
    except (ValueError, KeyError):
        raise YamlProblemError(f"this is no {node.tag.removeprefix(_TAG)}", _place(node)) from None
    raise YamlProblemError(f"{node.tag.removeprefix(_TAG)} has no place in a spec", _place(node))


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
class SpecProblem:
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

    problems: tuple[SpecProblem, ...] = ()

    @classmethod
    def of(cls, problems: Iterable[SpecProblem]) -> SpecError:
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

    def at(self, path: SpecPath, message: str) -> SpecProblem:
        """Return a problem of what stands under a path."""
        return problem(self.file, self.document.place(path), ".".join(map(str, path)), message)

    def of_model(self, error: ValidationError, model: type[BaseModel]) -> Iterator[SpecProblem]:
        """Yield the problems that pydantic found."""
        for fault in error.errors(include_input=False, include_url=False):
            path, known = self._path(fault["loc"], model)
            for message in _messages(fault, known):
                yield self.told(path, message)

    def told(self, path: SpecPath, message: str) -> SpecProblem:
        """Return a problem of what stands under a path; its message may name a path below that first, and a colon."""
        said = _OWN_PATH.match(message)
        named = tuple(said["path"].split(".")) if said else ()
        for whole in ((*path, *named), (*path, *named[:-1])):
            if said and whole in self.document.places:
                return self.at((*path, *named), said["message"])
        return self.at(path, message)

    def _path(self, loc: Sequence[str | int], model: type[BaseModel]) -> tuple[SpecPath, list[str]]:
        """Return where pydantic's location stands in the file, and the keys that are known there.

        A location names the members of unions too, which the file does not.
        """
        value: Any = self.document.value
        path: SpecPath = ()
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


def problem(file: FilePath, place: Position, field: str, message: str) -> SpecProblem:
    """Return a problem at a place of a file."""
    return SpecProblem(file.name, place.line, place.column, field, message)


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


def read_config(path: Path) -> JsonValue:
    """Return what a config file says: YAML, of which JSON is a part.

    Raises:
        SpecError: it is neither.
        LookbookError: it cannot be read.
    """
    found: JsonValue = open_yaml(path).document.value
    return found


def open_yaml(path: Path) -> Finder:
    """Return what a YAML file says, and where.

    Raises:
        SpecError: it is no YAML, or none that specs are written in.
        LookbookError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise LookbookError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return Finder(path, read_yaml(data))
    except YamlProblemError as error:
        raise SpecError.of([problem(path, error.place, "", str(error))]) from None
