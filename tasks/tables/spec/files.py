"""Files that specs are made of, opened: YAML with its places, and config files."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.spec.problems import Finder, SpecError, problem
from lookbook.tasks.tables.spec.yaml_text import MOST_BYTES, YamlProblemError, read_yaml


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
