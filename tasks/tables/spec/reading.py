"""Reading specs: a YAML file becomes a pipeline, or a list of all that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.tasks.tables.spec.files import open_yaml
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import Finder, SpecError, did_you_mean
from lookbook.tasks.tables.spec.references import check_references

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
