"""Folders with specs."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from lookbook.tasks.tables.spec.problems import SpecError
from lookbook.tasks.tables.spec.reading import read_spec


def write_spec(folder: Path, name: str, text: str, **files: str) -> Path:
    """A spec in a folder, with files beside it: names with ``__`` for slashes, and a dot for the last ``_``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\n{dedent(text)}", encoding="utf-8")
    for key, content in files.items():
        stem, _, suffix = key.rpartition("_")
        file = folder / f"{stem.replace('__', '/')}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(content), encoding="utf-8")
    return path


def problems(path: Path) -> list[str]:
    """What is wrong with a spec, a line each."""
    try:
        read_spec(path)
    except SpecError as error:
        return [str(one) for one in error.problems]
    return []
