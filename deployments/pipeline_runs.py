"""Commands that run flows of feeds in this process. Prefect is imported inside: its settings come first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.settings import read_settings
from lookbook.deployments import prefect_environment, progress
from lookbook.deployments.pipeline_work import read_named

if TYPE_CHECKING:
    from lookbook.tasks.tables.spec.pipeline import Pipeline


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
        prefect_environment.prepare_server(read_settings().home, debug=debug)
        say(doing)
        yield say
