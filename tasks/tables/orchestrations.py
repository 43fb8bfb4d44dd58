"""Reading orchestrate.yaml, which lies beside the folder of pipelines."""

from __future__ import annotations

from pathlib import Path

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.spec.orchestration import Orchestration, Orchestrations
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import SpecError, did_you_mean
from lookbook.tasks.tables.spec.reading import read_model, specs
from lookbook.tasks.tables.spec.tasks import GraphTask

FILE = "orchestrate.yaml"


def orchestrate_file(pipelines: Path) -> Path:
    """Return the file with the orchestrations that belong to a folder of pipelines."""
    return pipelines.parent / FILE


def read_orchestrations(pipelines: Path) -> dict[str, Orchestration]:
    """Return all orchestrations by name; none where there is no file.

    Raises:
        SpecError: something is wrong with the file, or it names a pipeline that is not there.
        LookbookError: it cannot be read.
    """
    file = orchestrate_file(pipelines)
    return read_orchestrations_in(file, pipelines) if file.is_file() else {}


def read_orchestrations_in(file: Path, pipelines: Path) -> dict[str, Orchestration]:
    """Return all orchestrations of a file by name; raises as `read_orchestrations`.

    Args:
        file: wherever it lies.
        pipelines: the folder of the pipelines that it names.
    """
    found, finder = read_model(file, Orchestrations)
    known = specs(pipelines)
    problems = []
    for name, step, key, pipeline in found.pipelines():
        path = ("orchestrations", name, "steps", step, key)
        if pipeline not in known:
            problems.append(finder.at(path, f"there is no pipeline {pipeline}{did_you_mean(pipeline, known)}"))
        elif key == "graph" and not _has_graph(known[pipeline]):
            problems.append(finder.at(path, f"the pipeline {pipeline} makes no graph"))
    if problems:
        raise SpecError.of(problems)
    return found.orchestrations


def find_orchestration(pipelines: Path, name: str) -> Orchestration:
    """Return an orchestration by its name.

    Raises:
        UsageError: there is none.
        SpecError: something is wrong with the file.
    """
    known = read_orchestrations(pipelines)
    if name in known:
        return known[name]
    raise UsageError(
        f"There is no orchestration {name} in {orchestrate_file(pipelines)}{did_you_mean(name, known) or '.'}",
        f"It has {', '.join(known) or 'none'}.",
    )


def _has_graph(file: Path) -> bool:
    try:
        spec, _ = read_model(file, Pipeline)
    except SpecError:
        return True  # what is wrong with that file is told where that is read
    return any(isinstance(task, GraphTask) for task in spec.tasks.values())
