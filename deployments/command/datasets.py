"""What the commands do, returned as plain values. Prefect is imported inside: its settings come first."""

from __future__ import annotations

import os
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.settings import read_settings
from lookbook.deployments.command import progress
from lookbook.deployments.server import environment
from lookbook.tasks.images.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    import pyarrow as pa

    from lookbook.blocks.lake import Lake
    from lookbook.blocks.warehouse import QueryCost
    from lookbook.tasks.runs.parameters import Executor


def check_source(home: Path, source: str) -> str:
    """Refuse a source that can't be meant, before anything is started; a path is made absolute.

    The snapshot remembers its source, and a later repair may be started from another folder.

    Raises:
        UsageError: no such folder or archive, or a scheme that is not known.
    """
    from lookbook.tasks.datasets.sources.opening import open_source

    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"SOURCE {source!r}: its path is not UTF-8, and the books could not name it.", "Link or move it."
        ) from error
    open_source(source, home / "scratch")
    return source if "://" in source else os.path.abspath(Path(source).expanduser())  # noqa: PTH100 - links stay


def recipe_from(path: Path | None) -> Recipe:
    """Return the recipe in a file, or the default one."""
    return read_recipe(path) if path else Recipe()


def ingest(home: Path, debug: bool, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the flow `ingest` in this process; returns its summary."""
    with progress.shown() as say:
        say("starting Prefect")
        environment.prepare_server(home, debug=debug)
        from lookbook.flows.ingest import ingest as flow

        source = parameters["source"]
        say("drawing the sample catalogue" if source.startswith("sample://") else f"listing {source}")
        summary: dict[str, Any] = flow(**parameters)
    return summary


def plan(workspace: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what an ingest would do; nothing is written, and no flow runs."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.estimate import estimate
    from lookbook.tasks.datasets.inventory import Request

    return estimate(Request(load_workspace(workspace), **parameters))


def replay(
    home: Path, debug: bool, workspace: str, dataset: str, rules: list[str], recipe: Path | None, executor: Executor
) -> dict[str, Any]:
    """Run the flow `replay` in this process; returns its summary."""
    with progress.shown("judging rejects again") as say:
        say("starting Prefect")
        environment.prepare_server(home, debug=debug)
        from lookbook.flows.replay import replay as flow

        lifted = read_recipe(recipe) if recipe else None
        say(f"judging the rejects of {dataset} again")
        summary: dict[str, Any] = flow(
            dataset=dataset, rules=rules, workspace=workspace, recipe=lifted, executor=executor
        )
    return summary


def verify(
    home: Path, debug: bool, workspace: str, dataset: str, repair: bool, everything: bool, executor: Executor
) -> dict[str, Any]:
    """Verify a dataset; with `repair`, mend what can be mended and verify once more.

    By threads no flow runs: nobody else is needed.
    """
    if executor != "threads":
        return _verified_by_flow(
            home, debug, workspace=workspace, dataset=dataset, repair=repair, everything=everything, executor=executor
        )
    environment.prepare(home, debug=debug)
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.verify import verify_or_repair
    from lookbook.tasks.exports.finished import list_files

    found, repairs = verify_or_repair(
        load_workspace(workspace), dataset, repair, everything=list_files if everything else None
    )
    return {
        "dataset": dataset,
        "snapshot": found.snapshot_id,
        "objects": found.objects,
        "repairs": repairs,
        "differences": [difference.line for difference in found.differences],
    }


def _verified_by_flow(home: Path, debug: bool, **parameters: object) -> dict[str, Any]:
    """Run the flow `verify` in this process; returns what it found, of a run that failed for that, too."""
    with progress.shown("verifying") as say:
        say("starting Prefect")
        environment.prepare_server(home, debug=debug)
        from lookbook.flows.verify import verify as flow

        say(f"verifying {parameters['dataset']}")
        state: Any = flow(**parameters, return_state=True)
        found = state.result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    row: dict[str, Any] = found[0]
    return row


def rejects(workspace: str, dataset: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rejects of the last run of a dataset; and, where it published nothing, lines that say so.

    Each reject says whether it is ``published``, else of which run it is, and where the report lies.
    """
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.manifest import read_published, read_table, require_published
    from lookbook.tasks.datasets.unpublished import read_unpublished, report_key

    place = load_workspace(workspace)
    lake, published = place.lake, read_published(place.lake, dataset)
    last = read_unpublished(place, dataset, published.manifest.snapshot_id if published else None)
    said: dict[str, Any] = {"published": True, "run_id": None, "run_started_at": None, "report": None}
    if last is None:
        table = read_table(lake, require_published(lake, dataset).manifest, "rejects")
        return [row | said for row in table.to_pylist()], []
    run, table = last
    said = {"published": False, "run_id": run.run_id, "run_started_at": run.started_at.isoformat(timespec="seconds")}
    said["report"] = lake.uri(report_key(dataset)) if run.has_report else None
    lines = [run.told, *([f"The report, with pictures: {said['report']}"] if run.has_report else [])]
    return [row | said for row in table.to_pylist()], lines


def datasets(workspace: str) -> list[dict[str, Any]]:
    """Return the datasets of a workspace, with their current snapshots."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.manifest import list_datasets

    lake = load_workspace(workspace).lake
    return [_dataset_row(lake, name) for name in list_datasets(lake)]


def _dataset_row(lake: Lake, name: str) -> dict[str, Any]:
    """Return one dataset; a damaged one is listed with its fault and hides no other."""
    from lookbook.tasks.datasets.manifest import require_published

    row: dict[str, Any] = dict.fromkeys(("snapshot", "created_at", "images", "rows", "fault"))
    try:
        manifest = require_published(lake, name).manifest
    except LookbookError as error:
        return {"dataset": name} | row | {"fault": error.problem}
    return (
        {"dataset": name}
        | row
        | {
            "snapshot": manifest.snapshot_id,
            "created_at": manifest.created_at.isoformat(timespec="seconds"),
            "images": manifest.summary["images"]["found"],
            "rows": manifest.summary["rows"]["found"],
        }
    )


def snapshots(workspace: str, dataset: str) -> list[dict[str, Any]]:
    """Return the snapshots of a dataset, newest first: candidates, then those that are published."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.candidates import walk_candidates
    from lookbook.tasks.datasets.checks import failed
    from lookbook.tasks.datasets.manifest import list_snapshots, read_published
    from lookbook.tasks.datasets.tags import read_tags

    lake = load_workspace(workspace).lake
    waiting, tags = list(walk_candidates(lake, dataset)), read_tags(lake, dataset)
    there = not waiting or read_published(lake, dataset) is not None
    found = list_snapshots(lake, dataset) if there else []
    ids = {manifest.snapshot_id for manifest in found}
    waiting = [manifest for manifest in waiting if manifest.snapshot_id not in ids]
    return [
        {
            "snapshot": manifest.snapshot_id,
            "current": bool(found) and manifest is found[0],
            "candidate": manifest.snapshot_id not in ids,
            "failed_checks": failed(manifest.summary.get("checks", [])),
            "tags": [name for name, tag in tags.items() if tag.snapshot == manifest.snapshot_id],
            "restored_from": manifest.restored_from,
            "created_at": manifest.created_at.isoformat(timespec="seconds"),
            "source": manifest.source,
            "images": manifest.summary["images"]["found"],
            "rows": manifest.summary["rows"]["found"],
            "digest": manifest.digest,
        }
        for manifest in [*waiting, *found]
    ]


def tags(workspace: str, dataset: str) -> list[dict[str, Any]]:
    """Return the tags of a dataset, by name."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.manifest import require_published
    from lookbook.tasks.datasets.tags import read_tags

    lake = load_workspace(workspace).lake
    require_published(lake, dataset)
    return [
        {"tag": name, "snapshot": tag.snapshot, "tagged_at": tag.tagged_at.isoformat(timespec="seconds")}
        for name, tag in read_tags(lake, dataset).items()
    ]


def tag(workspace: str, dataset: str, name: str, snapshot: str | None, *, move: bool, remove: bool) -> dict[str, Any]:
    """Set or remove a tag; returns what it names now, and named before."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.tags import remove_tag, set_tag

    lake = load_workspace(workspace).lake
    done = remove_tag(lake, dataset, name) if remove else set_tag(lake, dataset, name, snapshot, move=move)
    return {"dataset": dataset, "tag": name, "snapshot": done.snapshot, "before": done.before}


def run_flow(name: str, debug: bool, doing: str, what: str, **parameters: object) -> dict[str, Any]:
    """Run a flow of this package in this process; returns its summary.

    Args:
        name: of the flow, and of its module.
        debug: let its log be seen.
        doing: what the command does, in a word.
        what: it does it to.
        parameters: of the flow.
    """
    with progress.shown(doing) as say:
        say("starting Prefect")
        environment.prepare_server(read_settings().home, debug=debug)
        flow = getattr(import_module(f"lookbook.flows.{name}"), name)  # late: Prefect is slow to import
        say(f"{doing} {what}")
        summary: dict[str, Any] = flow(**parameters)
    return summary


def checks(workspace: str, dataset: str) -> list[dict[str, Any]]:
    """Return the checks that hold for each ingest of a dataset, in their order."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.checks import read_checks

    return [check.model_dump() for check in read_checks(load_workspace(workspace).lake, dataset)]


def set_checks(workspace: str, dataset: str, file: Path | None) -> None:
    """Let the checks of a file hold for each ingest of a dataset from now; without a file, none.

    Raises:
        UsageError: something is wrong with the file; the message names line and column.
    """
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.checks import Checks
    from lookbook.tasks.datasets.checks import set_checks as keep
    from lookbook.tasks.tables.spec.problems import SpecError
    from lookbook.tasks.tables.spec.reading import read_model

    try:
        wanted = read_model(file, Checks)[0] if file is not None else None
    except SpecError as error:
        raise UsageError(error.problem, f"Mend it and set it again: the checks of {dataset} are as before.") from error
    keep(load_workspace(workspace).lake, dataset, wanted)


def checks_schema() -> str:
    """Return the JSON Schema of a file of checks, for editors."""
    from lookbook.tasks.datasets.checks import Checks
    from lookbook.tasks.tables.spec.reading import schema_text

    return schema_text(Checks, "Checks of Lookbook")


def runs(workspace: str, dataset: str | None) -> list[dict[str, Any]]:
    """Return the runs in the registry, newest first."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.runs.records import list_runs

    return [
        run | {"counts": _short_counts(run["summary"])}
        for run in list_runs(load_workspace(workspace).registry, dataset)
    ]


def _short_counts(summary: dict[str, Any] | None) -> str:
    counts = (summary or {}).get("images", {})
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def stop(home: Path) -> dict[str, bool]:
    """End the servers of a home; says which of them ran.

    Raises:
        LookbookError: a run is at work, and would hang without them.
    """
    from lookbook.blocks.embedded import postgres, prefect_server

    if postgres.running(home) is not None:
        from lookbook.blocks.registry import PostgresRegistry
        from lookbook.tasks.runs.lease import living_owners

        for name, owner in living_owners(PostgresRegistry(home=home), of_all_lakes=True).items():
            raise LookbookError(
                f"{name}: a run is at work on it (process {owner.pid} on {owner.host}).",
                "Wait for it, or end it first.",
            )
    return {"prefect": prefect_server.stop(home), "postgres": postgres.stop(home)}


def query(workspace: str, sql: str) -> pa.Table:
    """Return what a SELECT over lake and warehouse gives."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.tables.query import query as ask

    return ask(load_workspace(workspace), sql)


def query_cost(workspace: str, sql: str) -> QueryCost:
    """Return what a SELECT would cost; it is checked, and not run."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.tables.query import dry_run

    return dry_run(load_workspace(workspace), sql)


def open_report(workspace: str, dataset: str) -> str:
    """Return where a dataset's report lies; opened in a browser where there is a display."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.datasets.manifest import require_published

    place = load_workspace(workspace)
    report = f"{require_published(place.lake, dataset).manifest.folder}/report.html"
    path = str(place.lake.local_copy(report, place.scratch / "reports"))
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(Path(path).as_uri())
    return path
