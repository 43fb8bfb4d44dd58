"""Orchestrations, read from orchestrate.yaml beside the folder of pipelines; and one-off imports as pipelines."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.spec.pipeline import ImportSettings, Orchestration, Orchestrations, Pipeline
from lookbook.tasks.tables.spec.problems import SpecError, did_you_mean
from lookbook.tasks.tables.spec.reading import read_model, specs
from lookbook.tasks.tables.spec.tasks import GraphTask
from lookbook.tasks.tables.spec.values import DATE_PARTS

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


#: The date of an import whose source names none: the same source is one batch, whenever it is imported.
UNDATED = datetime(1970, 1, 1, tzinfo=UTC)

_CONNECTOR = re.compile(r"connector:(?P<block>[^/]+)/(?P<table>.+)", re.DOTALL)


def import_pipeline(settings: ImportSettings) -> Pipeline:
    """Return the pipeline that an import is.

    It has a name of its own for each source, table and place, so that importing another source into a table adds to
    it, and importing the same one again takes the place of what that had brought.

    Raises:
        UsageError: the source cannot be meant, or the options do not go together.
    """
    identity = "\0".join((settings.source, settings.table, settings.to))
    name = f"import-{settings.table.replace('_', '-')[:40]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    load = {
        "after": ["extract"],
        "table": settings.table,
        "target": settings.to,
        "write_disposition": settings.write_disposition,
        "primary_key": settings.primary_key,
        "reject_limit": settings.reject_limit,
    }
    described = {"name": name, "tasks": {"extract": {"source": _source(settings)}, "load": load}}
    try:
        return Pipeline.model_validate(described)
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{settings.source}: {said}.", 'See "lookbook import --help".') from None


def import_date(settings: ImportSettings, date: datetime | None, now: datetime) -> datetime:
    """Return the date of an import: the given one; else today's, where the source's address names parts of it."""
    if date is not None:
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    if any(f"{{{part}}}" in settings.source for part in DATE_PARTS):
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return UNDATED


def _source(settings: ImportSettings) -> dict[str, Any]:
    source = settings.source
    read = {"format": settings.format, "csv": {"skip": settings.skip, "decimal": settings.decimal}}
    if found := _CONNECTOR.fullmatch(source):
        return {"type": "sql", "connector": found["block"], "table": found["table"]}
    if source.startswith(("http://", "https://")):
        return {"type": "http", "url": source, **read, "allow_private": settings.allow_private}
    if "://" in source and not source.startswith(("lake://", "inbox://")):
        raise UsageError(
            f"SOURCE {source.partition('://')[0]}://…: no such kind of source.",
            "It is a path, http:// or https://, lake://key, inbox://name, or connector:block/table.",
        )
    return {"type": "file", "path": source, **read}
