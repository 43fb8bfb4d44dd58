"""Reading specs: a YAML file becomes a pipeline, or a list of all that is wrong with it and with what it names."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import (
    Finder,
    SpecError,
    SpecPath,
    SpecProblem,
    did_you_mean,
    open_yaml,
    read_config,
)
from lookbook.tasks.tables.spec.tasks import (
    ExtractTask,
    FileSource,
    GraphTask,
    HttpSource,
    LoadTask,
    ModelsTask,
    ObjectsSource,
    PythonTask,
    SqlTask,
    Task,
)
from lookbook.tasks.tables.spec.values import DATE_PARTS, placeholders

if TYPE_CHECKING:
    from sqlglot import exp

#: What a function gets of the run, if it has parameters of these names.
GIVEN = ("params", "config", "logical_date")


def check_function(folder: Path, path: str, after: Sequence[str]) -> str:
    """Return what is wrong with ``module:function``, in words; nothing where all is right.

    Args:
        folder: of the spec, which is looked through first.
        path: of the function.
        after: the tasks whose results it takes, each by its name.
    """
    module, _, name = path.partition(":")
    file = module_file(folder, module)
    if file is None:
        return f"there is no module {module} beside the spec, and none is installed"
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        return f"{file.name}{f' line {line}' if line else ''} is no Python: {getattr(error, 'msg', None) or error}"
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    if name not in functions:
        known = {*functions, *_other_names(tree)}
        return "" if name in known else f"{file.name} defines no function {name}{did_you_mean(name, known)}"
    if isinstance(functions[name], ast.AsyncFunctionDef):
        return f"{name} is async; a plain function is asked for"
    decorated = bool(functions[name].decorator_list)  # it may take anything then
    return "" if decorated else _check_parameters(functions[name].args, name, after)


def _other_names(tree: ast.Module) -> set[str]:
    """Return what else a module may call by a name: imported, assigned, defined under a condition."""
    inner = [
        part for each in tree.body if not isinstance(each, ast.FunctionDef | ast.ClassDef) for part in ast.walk(each)
    ]
    values = [part for part in inner if isinstance(part, ast.Assign) and not isinstance(part.value, ast.Constant)]
    names = {part.id for each in values for part in each.targets if isinstance(part, ast.Name)}
    names |= {part.name for part in inner if isinstance(part, ast.FunctionDef)}
    imports = [alias for part in inner if isinstance(part, ast.Import | ast.ImportFrom) for alias in part.names]
    return names | {alias.asname or alias.name for alias in imports}


def module_file(folder: Path, module: str) -> Path | None:
    """Return the file of a module: beside the spec, or installed. No package is imported to look into it."""
    parts = module.split(".")
    beside = folder.joinpath(*parts[:-1], f"{parts[-1]}.py")
    if beside.is_file():
        return beside
    places: list[str] | None = None
    found: ModuleSpec | None = None
    for number in range(len(parts)):
        found = PathFinder.find_spec(".".join(parts[: number + 1]), places)
        if found is None:
            return None
        places = list(found.submodule_search_locations or [])
    origin = found.origin if found is not None else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _check_parameters(found: ast.arguments, name: str, after: Sequence[str]) -> str:
    """Return whether a function can be called with the results of tasks and what the run gives, by name."""
    if found.posonlyargs:
        return f"{name} is called by names, and takes {found.posonlyargs[0].arg} by its place alone"
    positional = [each.arg for each in found.args]
    optional = set(positional[len(positional) - len(found.defaults) :] if found.defaults else [])
    named = [each.arg for each in found.kwonlyargs]
    optional |= {one for one, default in zip(named, found.kw_defaults, strict=True) if default is not None}
    takes = [*positional, *named]
    for task in after:
        if task not in takes and found.kwarg is None:
            return f"{name} takes no {task}, which stands in after; it takes {', '.join(takes) or 'nothing'}"
    given = {*after, *GIVEN}
    for one in takes:
        if one not in given and one not in optional:
            nearest = did_you_mean(one, [*after, *GIVEN]) or f"; it gets {', '.join([*after, *GIVEN])}"
            return f"nothing is given to {name} as {one}{nearest}"
    return ""


#: Line, column and what is wrong there.
Fault = tuple[int, int, str]


def check_task_sql(text: str, after: Sequence[str], values: Sequence[str]) -> Iterator[Fault]:
    """Yield what is wrong with the SQL of a task.

    Args:
        text: of the file.
        after: the tasks whose results it may name as tables.
        values: names that it may use as $name.
    """
    found = _one_select(text)
    if isinstance(found, list):
        yield from found
        return
    for table, schema in _tables(found):
        if schema or table.casefold() not in after:
            whole = ".".join(filter(None, (schema, table)))
            nearest = did_you_mean(table, after) or f"; there are {', '.join(after)}"
            yield (*_place(text, table), f"the table {whole} is no task in after{nearest}")
    for name in _parameters(found):
        if name not in values:
            nearest = did_you_mean(name, values) or f"; there are {', '.join(values)}"
            yield (*_place(text, f"${name}"), f"nothing is known of ${name}{nearest}")


def _one_select(text: str) -> exp.Query | list[Fault]:
    import sqlglot  # noqa: PLC0415 - slow to import
    from sqlglot import errors, exp  # noqa: PLC0415

    try:
        found = [each for each in sqlglot.parse(text, dialect="duckdb") if each is not None]
    except errors.ParseError as error:
        return [_parse_fault(each) for each in error.errors]
    except (errors.TokenError, RecursionError) as error:
        return [(1, 1, f"this is no SQL: {str(error).splitlines()[0]}")]
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        return [(1, 1, "one SELECT is asked for, and nothing else")]
    writes = found[0].find(exp.DML, exp.DDL, exp.Command, exp.Into)
    if writes is not None and not isinstance(writes, exp.Query):
        return [(1, 1, "one SELECT is asked for, and nothing that writes")]
    return found[0]


def _parse_fault(said: Mapping[str, Any]) -> Fault:
    message = str(said["description"]).partition(" but got <Token")[0]
    return int(said["line"] or 1), int(said["col"] or 1), f"this is no SQL: {message}"


def _tables(select: exp.Query) -> Iterator[tuple[str, str]]:
    """Return the tables that a SELECT reads, each once, with their schemas; what it defines itself is none."""
    from sqlglot import exp  # noqa: PLC0415

    own = {each.alias.casefold() for each in select.find_all(exp.CTE)}
    seen = set()
    for table in select.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            continue
        name = (table.name, ".".join(filter(None, (table.catalog, table.db))))
        if name not in seen and (name[1] or table.name.casefold() not in own):
            seen.add(name)
            yield name


def _parameters(select: exp.Query) -> Iterator[str]:
    from sqlglot import exp  # noqa: PLC0415

    found = [*select.find_all(exp.Parameter), *select.find_all(exp.Placeholder)]
    yield from dict.fromkeys(each.name for each in found)


def _place(text: str, word: str) -> tuple[int, int]:
    """Return where a word stands first in a text."""
    found = re.search(rf"(?<![\w$]){re.escape(word)}\b", text, re.IGNORECASE)
    position = found.start() if found else 0
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


#: Says what is wrong with a text: line, column, message.
Check = Callable[[str], Iterator[tuple[int, int, str]]]


def check_references(pipeline: Pipeline, folder: FilePath, finder: Finder) -> Iterator[SpecProblem]:
    """Yield all that is wrong with what a pipeline names.

    Args:
        pipeline: as its file says it.
        folder: of the file.
        finder: knows where in the file each part stands.
    """
    if pipeline.config is not None:
        yield from _config(pipeline.config, folder, finder)
    if pipeline.on is not None and pipeline.on.arrival is not None:
        yield from _placeholders(pipeline, pipeline.on.arrival, ("on", "arrival"), finder)
    for name, task in pipeline.tasks.items():
        yield from _task(pipeline, name, task, folder, finder)


def _task(pipeline: Pipeline, name: str, task: Task, folder: FilePath, finder: Finder) -> Iterator[SpecProblem]:
    path: SpecPath = ("tasks", name)
    match task:
        case ExtractTask():
            yield from _source(pipeline, task, path, finder)
        case SqlTask():
            check = partial(check_task_sql, after=pipeline.rows_before(name), values=("logical_date", *pipeline.params))
            yield from _sql(task.sql, folder, (*path, "sql"), finder, check)
        case PythonTask():
            fault = check_function(folder, task.python, pipeline.rows_before(name))
            yield from ([finder.at((*path, "python"), fault)] if fault else [])
        case ModelsTask():
            from lookbook.tasks.tables.star.checking import check_models  # noqa: PLC0415 - few specs have models

            yield from (finder.told(path, line) for line in check_models(folder, task, pipeline))
        case GraphTask():
            from lookbook.tasks.tables.graph.checking import check_graph  # noqa: PLC0415 - few specs have graphs

            yield from (finder.told(path, line) for line in check_graph(task))
        case LoadTask():
            yield from _split(pipeline, name, task, path, finder)


def _config(name: str, folder: FilePath, finder: Finder) -> Iterator[SpecProblem]:
    if not (folder / name).is_file():
        yield finder.at(("config",), f"there is no file {name} beside the spec")
        return
    try:
        read_config(folder / name)
    except SpecError as error:
        yield from error.problems


def _source(pipeline: Pipeline, task: ExtractTask, path: SpecPath, finder: Finder) -> Iterator[SpecProblem]:
    match task.source:
        case FileSource() | ObjectsSource():
            yield from _placeholders(pipeline, task.source.path, (*path, "source", "path"), finder)
        case HttpSource():
            yield from _placeholders(pipeline, task.source.url, (*path, "source", "url"), finder)


def _placeholders(pipeline: Pipeline, text: str, path: SpecPath, finder: Finder) -> Iterator[SpecProblem]:
    known = [*DATE_PARTS, *pipeline.params]
    try:
        names = placeholders(text)
    except LookbookError as error:
        yield finder.at(path, error.problem)
        return
    for name in names:
        if name not in known:
            nearest = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            yield finder.at(path, f"nothing is known of {{{name}}}{nearest}")


def _sql(name: str, folder: FilePath, path: SpecPath, finder: Finder, check: Check) -> Iterator[SpecProblem]:
    file = folder / name
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        yield finder.at(path, f"there is no file {name} beside the spec")
        return
    except (OSError, UnicodeDecodeError) as error:
        yield finder.at(path, f"{name} cannot be read: {error}")
        return
    for line, column, message in check(text):
        yield SpecProblem(name, line, column, ".".join(map(str, path)), message)


def _split(pipeline: Pipeline, name: str, task: LoadTask, path: SpecPath, finder: Finder) -> Iterator[SpecProblem]:
    if "{event}" not in task.table:
        return
    before = [pipeline.tasks[each] for each in pipeline.upstream(name)]
    if not any(isinstance(each, PythonTask) or (isinstance(each, ExtractTask) and each.split_by) for each in before):
        yield finder.at((*path, "table"), "{event} stands for what rows were split by, and no extract has split_by")


Model = TypeVar("Model", bound=BaseModel)

SUFFIX = ".yaml"
#: Keys of a file's top level that begin so are the author's, for anchors.
FREE = "x-"


def specs(folder: Path) -> dict[str, Path]:
    """Return the specs of a folder by their names, sorted.

    Raises:
        LookbookError: the folder cannot be read.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in {SUFFIX, ".yml"} and path.is_file())
    except OSError as error:
        raise LookbookError(
            f"The folder of pipelines {folder} cannot be read: {error.strerror or error}.",
            "LOOKBOOK_PIPELINES names another.",
        ) from error
    return {path.stem: path for path in found}


def find_spec(folder: Path, name: str) -> Path:
    """Return the file of a pipeline by its name.

    Raises:
        UsageError: there is none.
    """
    known = specs(folder)
    if name in known:
        return known[name]
    raise UsageError(
        f"There is no pipeline {name}: {folder / name}{SUFFIX} is not there{did_you_mean(name, known) or '.'}",
        "lookbook pipeline list shows those that are; LOOKBOOK_PIPELINES names another folder.",
    )


def read_spec(path: Path) -> Pipeline:
    """Read a spec, and check all that it names: files, SQL, functions, placeholders.

    Raises:
        SpecError: something is wrong with it; all that is, each with file, line and column.
        LookbookError: the file cannot be read.
    """
    pipeline, finder = read_model(path, Pipeline)
    found = list(check_references(pipeline, path.parent, finder))
    if path.name != f"{pipeline.name}{SUFFIX}":
        wanted = f"the file of {pipeline.name} is named {pipeline.name}{SUFFIX}, not {path.name}"
        found.append(finder.at(("name",), wanted))
    if found:
        raise SpecError.of(found)
    return pipeline


def read_model(path: Path, model: type[Model]) -> tuple[Model, Finder]:
    """Read a YAML file as a model; with what finds places in it.

    Raises:
        SpecError: it is no YAML, or not what the model asks for.
        LookbookError: it cannot be read.
    """
    finder = open_yaml(path)
    said = finder.document.value
    if not isinstance(said, dict):
        raise SpecError.of([finder.at((), "a mapping is asked for: name: …, tasks: …")])
    try:
        found = model.model_validate({key: value for key, value in said.items() if not key.startswith(FREE)})
    except ValidationError as error:
        raise SpecError.of(finder.of_model(error, model)) from None
    return found, finder


_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def schema_text(model: type[BaseModel], title: str) -> str:
    """Return the JSON Schema of a file that is read as `model`, as text."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Described)
    whole: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": title}
    whole["patternProperties"] = {f"^{re.escape(FREE)}": {}} | whole.get("patternProperties", {})
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _Described(GenerateJsonSchema):
    """Takes the descriptions of fields from the docstrings of their models, and lets keys be as their patterns say."""

    def model_schema(self, schema: Any) -> Any:  # noqa: ANN401 - core schemas
        """See `GenerateJsonSchema.model_schema`."""
        found = super().model_schema(schema)
        models = [each for each in schema["cls"].__mro__ if issubclass(each, BaseModel) and each is not BaseModel]
        kinds = [each for each in models if each.__doc__]
        parts = [inspect.cleandoc(each.__doc__).partition("\n\nAttributes:\n") for each in kinds]
        said = {
            name: " ".join(words.split()) for *_, rest in reversed(parts) for name, words in _ATTRIBUTE.findall(rest)
        }
        by_name = {field.alias or name: name for name, field in schema["cls"].model_fields.items()}
        for key, part in found.get("properties", {}).items():
            if (words := said.get(by_name.get(key, key))) and "description" not in part:
                part["description"] = words.replace("``", '"')
        return found | {"description": " ".join(parts[0][0].split()).replace("``", '"')}

    def dict_schema(self, schema: Any) -> Any:  # noqa: ANN401 - core schemas
        """See `GenerateJsonSchema.dict_schema`."""
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found

    def get_title_from_name(self, name: str) -> str:
        """See `GenerateJsonSchema.get_title_from_name`."""
        return name

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - core schemas
        """Names of fields stand for themselves."""
        return False
