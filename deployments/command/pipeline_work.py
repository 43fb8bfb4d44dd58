"""What the commands of pipelines do: validate, run, backfill, replay, deploy, show what ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.settings import read_settings
from lookbook.deployments.command import progress
from lookbook.deployments.server import environment

if TYPE_CHECKING:
    from lookbook.deployments.server.applying import Deployed
    from lookbook.tasks.tables.spec.pipeline import Pipeline, Schedule, Trigger

EDITORS = "schema.json"


def list_pipelines(workspace: str) -> list[dict[str, Any]]:
    """Return the pipelines of the folder; one that cannot be read is listed with its fault and hides no other."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.tables.ledger import last_runs
    from lookbook.tasks.tables.spec.reading import read_spec, specs

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
    """Check specs: those files, or all of the folder with its orchestrations.

    A file of orchestrations names pipelines of the folder beside it, or of the settings' where there is none.
    """
    from lookbook.tasks.tables.orchestrations import FILE, orchestrate_file, read_orchestrations_in
    from lookbook.tasks.tables.spec.reading import read_spec, specs

    folder = read_settings().pipelines
    own = orchestrate_file(folder)
    every = [path for path in specs(folder).values() if path.name != FILE] if not files else []
    named = files or [*every, *([own] if own.is_file() else [])]

    def check(path: Path) -> Callable[[], object]:
        if path.name != FILE:
            return partial(read_spec, path)
        beside = path.parent / folder.name
        return partial(read_orchestrations_in, path, beside if beside.is_dir() else folder)

    return _checked([(path.name, check(path)) for path in named])


def validate_orchestrations() -> dict[str, Any]:
    """Check the orchestrations."""
    from lookbook.tasks.tables.orchestrations import FILE, read_orchestrations

    folder = read_settings().pipelines
    found = _checked([(FILE, partial(read_orchestrations, folder))])
    return found | {"valid": [] if found["problems"] else list(read_orchestrations(folder))}


def _checked(checks: Sequence[tuple[str, Callable[[], object]]]) -> dict[str, Any]:
    """Return what is valid, and all that is wrong with the rest."""
    from dataclasses import asdict

    from lookbook.tasks.tables.spec.problems import SpecError

    valid, problems = [], []
    for name, check in checks:
        try:
            check()
            valid.append(name)
        except SpecError as error:
            problems += [asdict(one) | {"text": str(one)} for one in error.problems]
    return {"valid": valid, "problems": problems}


def deploy(*, prune: bool, debug: bool) -> tuple[str, Deployed]:
    """Deploy the pipelines; returns the server's address and what was done."""
    from lookbook.deployments.server import deploying

    with progress.shown() as say:
        say("looking for Prefect's server")
        api = environment.prepare_server(read_settings().home, debug=debug)
        say(f"deploying to {api}")
        return api, deploying.deploy_pipelines(prune=prune)


def rejects(workspace: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of a pipeline that were set aside."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.tables.load import open_rejects

    return open_rejects(load_workspace(workspace).registry, name)


def replay(workspace: str, name: str) -> list[dict[str, Any]]:
    """Take up the rejects of a pipeline again; what became of them, by table."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.runs.lease import lease
    from lookbook.tasks.tables.load import replay as take_up
    from lookbook.tasks.tables.planning import logical_date
    from lookbook.tasks.tables.steps import replay_context, replayed

    spec, folder = read_named(name), read_settings().pipelines
    place = load_workspace(workspace)
    date = logical_date(spec.schedule, None, datetime.now(UTC), scheduled=False)
    with progress.shown() as say, lease(place.registry, f"pipeline/{name}"):
        say(f"replaying {name}")
        context = replay_context(place, spec, folder, date)
        return replayed(context, take_up(context))


def schema() -> str:
    """Return the JSON Schema of specs."""
    from lookbook.tasks.tables.spec.pipeline import Pipeline as Model
    from lookbook.tasks.tables.spec.reading import schema_text

    return schema_text(Model, "A pipeline of Lookbook")


def write_schemas() -> list[Path]:
    """Write the JSON Schemas beside the files that they are for."""
    from lookbook.tasks.tables.orchestrations import orchestrate_file
    from lookbook.tasks.tables.spec.pipeline import Orchestrations
    from lookbook.tasks.tables.spec.reading import schema_text

    folder = read_settings().pipelines
    texts = {
        folder / EDITORS: schema(),
        orchestrate_file(folder).with_suffix(f".{EDITORS}"): schema_text(Orchestrations, "Orchestrations of Lookbook"),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def read_named(name: str) -> Pipeline:
    """Return the spec of a pipeline by its name."""
    from lookbook.tasks.tables.spec.reading import find_spec, read_spec

    return read_spec(find_spec(read_settings().pipelines, name))


def run(
    name: str, date: str | None, params: Sequence[str], workspace: str, *, again: bool, debug: bool
) -> dict[str, Any]:
    """Run a pipeline in this process; returns its summary."""
    from lookbook.tasks.tables.planning import read_date

    spec = read_named(name)
    given = read_date(date, spec.schedule) if date is not None else None
    values = read_params(params, spec)
    with _prefect(debug, f"running {name}"):
        from lookbook.flows.pipeline import pipeline

        summary = pipeline(name, date=given, params=values or None, workspace=workspace, again=again)
    return dict(summary)  # of a state, Prefect gives what it holds


def backfill(
    name: str, dates: tuple[str, str], params: Sequence[str], workspace: str, *, again: bool, debug: bool
) -> dict[str, Any]:
    """Run a pipeline for each date of a span that is not done yet, the oldest first.

    Raises:
        LookbookError: one failed: it is named, with how to go on.
    """
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.tables.ledger import done_dates, params_digest
    from lookbook.tasks.tables.planning import merged_params, span, ticks

    spec = read_named(name)
    first, last = span(*dates, spec.schedule)
    values = read_params(params, spec)
    merged_params(spec, values)
    with _prefect(debug, f"backfilling {name}") as say:
        from lookbook.flows.pipeline import pipeline

        past = done_dates(load_workspace(workspace).registry, name, params_digest(values))
        wanted = [tick for tick in ticks(spec.schedule, first, last) if tick <= datetime.now(UTC)]
        left = [tick for tick in wanted if again or tick.astimezone(UTC) not in past]
        done = []
        for number, tick in enumerate(left, 1):
            say(f"{name} for {tick.isoformat(timespec='minutes')} ({number} of {len(left)})")
            try:
                done.append(pipeline(name, date=tick, params=values or None, workspace=workspace, again=again))
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


def import_table(parameters: dict[str, Any], date: str | None, *, debug: bool) -> dict[str, Any]:
    """Run the flow `import-table` in this process; returns its summary. A path is made absolute."""
    from lookbook.tasks.tables.orchestrations import import_pipeline
    from lookbook.tasks.tables.planning import read_date
    from lookbook.tasks.tables.spec.pipeline import ImportSettings

    source = _absolute(parameters["source"])
    given = {name: value for name, value in parameters.items() if name in ImportSettings.model_fields}
    import_pipeline(ImportSettings.model_validate(given | {"source": source}))
    moment = read_date(date, None) if date is not None else None
    with _prefect(debug, f"importing {parameters['table']}"):
        from lookbook.flows.import_table import import_table as flow

        summary: dict[str, Any] = flow(**parameters | {"source": source}, date=moment)
    return summary


def _absolute(source: str) -> str:
    """Return a path of this folder as one that holds in another, too."""
    if "://" in source or source.startswith("connector:"):
        return source
    path = Path(source).expanduser()
    if not any(sign in source for sign in "*?[{") and not path.exists():
        raise UsageError(f"SOURCE {source}: there is no such file.", "Wildcards need quotes, or the shell takes them.")
    return str(Path.cwd() / path)


def orchestrate(name: str, date: str | None, workspace: str, *, debug: bool) -> dict[str, Any]:
    """Run an orchestration in this process; returns the outcome of each step."""
    from lookbook.tasks.tables.orchestrations import find_orchestration
    from lookbook.tasks.tables.planning import read_date

    spec = find_orchestration(read_settings().pipelines, name)
    given = read_date(date, spec.schedule) if date is not None else None
    with _prefect(debug, f"running {name}"):
        from lookbook.flows.orchestrate import orchestrate as flow

        summary: dict[str, Any] = flow(name, date=given, workspace=workspace)
    return summary


def read_params(given: Sequence[str], spec: Pipeline) -> dict[str, Any]:
    """Return parameters as ``key=value``; the value as YAML understands it, unless the spec's own is a text.

    Raises:
        UsageError: one has no ``=``, or its value is no YAML.
    """
    from lookbook.tasks.tables.spec.problems import YamlProblemError, read_yaml

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


@contextmanager
def _prefect(debug: bool, doing: str) -> Iterator[Callable[[str], None]]:
    """Prefect's server while a flow runs in this process, and what is done in the terminal."""
    with progress.shown() as say:
        say("starting Prefect")
        environment.prepare_server(read_settings().home, debug=debug)
        say(doing)
        yield say
