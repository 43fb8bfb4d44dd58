"""What the commands for pipelines do, returned as plain values. Prefect is imported inside: its settings come first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.errors import LookbookError, UsageError
from blocks.settings import read_settings
from deployments import prefect_environment, progress

if TYPE_CHECKING:
    from deployments.deploying import Deployed
    from tasks.tables.spec.pipeline import Pipeline
    from tasks.tables.spec.schedules import Schedule, Trigger

EDITORS = "schema.json"


def list_pipelines(workspace: str) -> list[dict[str, Any]]:
    """The pipelines of the folder; one that cannot be read is listed with its fault and hides no other."""
    from blocks.workspace import load_workspace
    from tasks.tables.ledger import last_runs
    from tasks.tables.spec.reading import read_spec, specs

    last = last_runs(load_workspace(workspace).registry)
    rows = []
    for name, path in specs(read_settings().pipelines).items():
        row = {"pipeline": name} | dict.fromkeys(("starts", "description", "tasks", "error")) | _last(last.get(name))
        try:
            spec = read_spec(path)
        except LookbookError as error:
            rows.append(row | {"error": error.problem})
            continue
        said = {"starts": _starts(spec.schedule, spec.on), "description": spec.description, "tasks": len(spec.tasks)}
        rows.append(row | said)
    return rows


def _last(run: dict[str, Any] | None) -> dict[str, Any]:
    if run is None:
        return dict.fromkeys(("last_date", "status", "rows", "ended_at", "error"))
    tables = (run["summary"] or {}).get("tables", [])
    return {
        "last_date": run["logical_date"].isoformat(timespec="minutes"),
        "status": run["status"],
        "rows": sum(table.get("loaded") or 0 for table in tables) if tables else None,
        "ended_at": run["ended_at"].isoformat(timespec="seconds") if run["ended_at"] else None,
        "error": (run["error"] or "").partition("\n")[0] or None,
    }


def _starts(schedule: Schedule | None, trigger: Trigger | None) -> str:
    said = []
    if schedule is not None:
        said.append(f"{schedule.cron} {schedule.timezone}" if schedule.cron else f"every {schedule.every}")
    if trigger is not None:
        said.append(f"files {trigger.arrival}" if trigger.arrival else f"event {trigger.event}")
    return ", ".join(said) or "by hand"


def validate(files: Sequence[Path]) -> dict[str, Any]:
    """Check specs: those files, or all of the folder with its orchestrations."""
    from dataclasses import asdict

    from tasks.tables.orchestrations import FILE, orchestrate_file, read_orchestrations
    from tasks.tables.spec.problems import SpecError
    from tasks.tables.spec.reading import read_spec, specs

    folder = read_settings().pipelines
    checks: list[tuple[str, Callable[[], object]]] = []
    for path in files or specs(folder).values():
        if path.name == FILE:
            checks.append((path.name, lambda path=path: read_orchestrations(path.parent / folder.name)))
        else:
            checks.append((path.name, lambda path=path: read_spec(path)))
    if not files and orchestrate_file(folder).is_file():
        checks.append((FILE, lambda: read_orchestrations(folder)))
    valid, problems = [], []
    for name, check in checks:
        try:
            check()
            valid.append(name)
        except SpecError as error:
            problems += [asdict(one) | {"text": str(one)} for one in error.problems]
    return {"valid": valid, "problems": problems}


def run(name: str, date: str | None, params: Sequence[str], workspace: str, *, debug: bool) -> dict[str, Any]:
    """Run a pipeline in this process; returns its summary."""
    from tasks.tables.ticks import read_date

    spec = _spec(name)
    given = read_date(date, spec.schedule) if date is not None else None
    values = read_params(params, spec)
    with _prefect(debug, f"running {name}"):
        from flows.pipeline import pipeline

        summary: dict[str, Any] = pipeline(name, date=given, params=values or None, workspace=workspace)
    return summary


def backfill(
    name: str, dates: tuple[str, str], params: Sequence[str], workspace: str, *, again: bool, debug: bool
) -> dict[str, Any]:
    """Run a pipeline for each date of a span that is not done yet, the oldest first.

    Raises:
        LookbookError: one failed: it is named, with how to go on.
    """
    from blocks.workspace import load_workspace
    from tasks.tables.ledger import done_dates, params_digest
    from tasks.tables.planning import merged_params
    from tasks.tables.ticks import span, ticks

    spec = _spec(name)
    first, last = span(*dates, spec.schedule)
    values = read_params(params, spec)
    merged_params(spec, values)
    with _prefect(debug, f"backfilling {name}") as say:
        from flows.pipeline import pipeline

        past = done_dates(load_workspace(workspace).registry, name, params_digest(values))
        wanted = [tick for tick in ticks(spec.schedule, first, last) if tick <= datetime.now(UTC)]
        left = [tick for tick in wanted if again or tick not in past]
        done = []
        for number, tick in enumerate(left, 1):
            say(f"{name} for {tick.isoformat(timespec='minutes')} ({number} of {len(left)})")
            try:
                done.append(pipeline(name, date=tick, params=values or None, workspace=workspace))
            except Exception as error:
                raise _stopped(name, tick, len(done), len(left), error) from error
    return {"pipeline": name, "dates": len(wanted), "done_before": len(wanted) - len(left), "runs": done}


def _stopped(name: str, tick: datetime, done: int, wanted: int, error: Exception) -> LookbookError:
    said = error.problem if isinstance(error, LookbookError) else f"{type(error).__name__}: {error}"
    way_out = f"{error.way_out} " if isinstance(error, LookbookError) and error.way_out else ""
    return LookbookError(
        f"{name} for {tick.isoformat()}: {said}",
        f"{way_out}{done} of {wanted} dates are done; the same command goes on with this one.",
    )


def deploy(*, prune: bool, debug: bool) -> tuple[str, Deployed]:
    """Deploy the pipelines; returns the server's address and what was done."""
    from deployments import deploying

    with progress.shown() as say:
        say("looking for Prefect's server")
        api = prefect_environment.prepare_server(read_settings().home, debug=debug)
        say(f"deploying to {api}")
        return api, deploying.deploy_pipelines(prune=prune)


def rejects(workspace: str, name: str) -> list[dict[str, Any]]:
    """The rows of a pipeline that were set aside."""
    from blocks.workspace import load_workspace
    from tasks.tables.load import open_rejects

    return open_rejects(load_workspace(workspace).registry, name)


def replay(workspace: str, name: str) -> list[dict[str, Any]]:
    """Take up the rejects of a pipeline again; what became of them, by table."""
    from blocks.workspace import load_workspace
    from tasks.datasets.lease import lease
    from tasks.tables.load import replay as take_up
    from tasks.tables.planning import logical_date
    from tasks.tables.results import replay_context, replayed

    spec, folder = _spec(name), read_settings().pipelines
    place = load_workspace(workspace)
    date = logical_date(spec.schedule, None, datetime.now(UTC), scheduled=False)
    with progress.shown() as say, lease(place.registry, f"pipeline/{name}"):
        say(f"replaying {name}")
        context = replay_context(place, spec, folder, date)
        return replayed(context, take_up(context))


def schema() -> str:
    """The JSON Schema of specs."""
    from tasks.tables.spec.json_schema import schema_text
    from tasks.tables.spec.pipeline import Pipeline as Model

    return schema_text(Model, "A pipeline of Lookbook")


def write_schemas() -> list[Path]:
    """Write the JSON Schemas beside the files that they are for."""
    from tasks.tables.orchestrations import orchestrate_file
    from tasks.tables.spec.json_schema import schema_text
    from tasks.tables.spec.orchestration import Orchestrations

    folder = read_settings().pipelines
    texts = {
        folder / EDITORS: schema(),
        orchestrate_file(folder).with_suffix(f".{EDITORS}"): schema_text(Orchestrations, "Orchestrations of Lookbook"),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def read_params(given: Sequence[str], spec: Pipeline) -> dict[str, Any]:
    """Parameters as ``key=value``; the value as YAML understands it, unless the spec's own is a text.

    Raises:
        UsageError: one has no ``=``, or its value is no YAML.
    """
    from tasks.tables.spec.yaml_text import YamlProblemError, read_yaml

    found: dict[str, Any] = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not name:
            raise UsageError(f"--param {one}: it has no =.", "It looks like key=value.")
        if isinstance(spec.params.get(name), str):
            found[name] = value
            continue
        try:
            found[name] = read_yaml(value.encode()).value if value else ""
        except YamlProblemError as error:
            raise UsageError(f"--param {one}: {error}.", "Put texts with signs in them into quotes.") from None
    return found


def _spec(name: str) -> Pipeline:
    from tasks.tables.spec.reading import find_spec, read_spec

    return read_spec(find_spec(read_settings().pipelines, name))


@contextmanager
def _prefect(debug: bool, doing: str) -> Iterator[Callable[[str], None]]:
    """Prefect's server while a flow runs in this process, and what is done in the terminal."""
    with progress.shown() as say:
        say("starting Prefect")
        prefect_environment.prepare_server(read_settings().home, debug=debug)
        os.environ.setdefault("LOOKBOOK_PIPELINES", str(read_settings().pipelines))
        say(doing)
        yield say
