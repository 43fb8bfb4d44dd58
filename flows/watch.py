"""The flows that watch: sources of datasets, and files that pipelines wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from prefect import flow, get_run_logger, runtime

from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.tasks.datasets.watching import NOTHING, decide, look, read_watch, write_watch
from lookbook.tasks.runs.announcements import announce_change, announce_files
from lookbook.tasks.runs.parameters import DatasetName, SourceUri, WorkspaceName, described
from lookbook.tasks.tables.arrivals import look_for_files, waited_for


@flow(name="watch", flow_run_name="watch-{dataset}")
def watch(source: SourceUri, dataset: DatasetName, workspace: WorkspaceName = "local") -> bool:
    """Look at a source once; its second look at the same change announces it. Run it on a short interval.

    Returns:
        Whether a change was announced.
    """
    place = load_workspace(workspace)
    return _look(
        place,
        source,
        dataset,
        now=look(source, place.scratch, place.kaggle),
        announce=lambda: announce_change(source, dataset, workspace, related=[str(runtime.flow_run.id)]),
        announced=f"{source} has changed and come to rest: ingest of {dataset} is asked for.",
    )


Starts = Annotated[
    str,
    described(
        "Starts",
        "What the files start, and whose spec names them: pipeline/NAME or orchestrate/NAME.",
        pattern=r"^(pipeline|orchestrate)/[a-z][a-z0-9_-]{0,62}$",
    ),
]


@flow(name="watch-files", flow_run_name="watch-files-{starts}")
def watch_files(starts: Starts, workspace: WorkspaceName = "local") -> bool:
    """Look at the files that a spec waits for; the second look at the same change announces it.

    Returns:
        Whether a change was announced.
    """
    place = load_workspace(workspace)
    folder, pattern = waited_for(read_settings().pipelines, starts)
    name, related = starts.replace("/", "."), [str(runtime.flow_run.id)]
    return _look(
        place,
        pattern,
        starts,
        now=look_for_files(place, folder, pattern),
        announce=lambda: announce_files(name, pattern, workspace, related=related),
        announced=f"{pattern}: files have arrived and come to rest: {starts} is asked for.",
    )


def _look(
    place: Workspace, watched: str, starts: str, *, now: str, announce: Callable[[], None], announced: str
) -> bool:
    """Compare what a look found with the look before, announce a change that has come to rest, and remember it.

    Args:
        place: in whose registry looks are remembered.
        watched: a source, or a path with wildcards.
        starts: what a change starts.
        now: digest of what this look found.
        announce: sends the event.
        announced: for the log, once it is sent.

    Returns:
        Whether a change was announced.
    """
    logger, before = get_run_logger(), read_watch(place.registry, watched, starts)
    changed, after = decide(before, now)
    if changed:
        announce()  # first the event, then the note: killed in between, the next look announces it again
        logger.info("%s", announced)
    elif now == NOTHING:
        logger.info("%s: nothing there yet.", watched)
    elif now != before.seen:
        logger.info("%s is changing: the next look tells whether it has come to rest.", watched)
    else:
        logger.info("%s has not changed.", watched)
    if after != before:
        write_watch(place.registry, watched, starts, after)
    return changed
