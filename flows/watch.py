"""The flows that watch: sources of datasets, and files that pipelines wait for."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger, runtime

from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import load_workspace
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
    place, logger = load_workspace(workspace), get_run_logger()
    before, now = (
        read_watch(place.registry, source, dataset),
        look(source, place.scratch, place.kaggle),
    )
    announce, after = decide(before, now)
    if announce:
        # First the event, then the note: killed in between, the next look announces it again.
        announce_change(source, dataset, workspace, related=[str(runtime.flow_run.id)])
        logger.info("%s has changed and come to rest: ingest of %s is asked for.", source, dataset)
    elif now == NOTHING:
        logger.info("%s: nothing there yet.", source)
    elif now != before.seen:
        logger.info("%s is changing: the next look tells whether it has come to rest.", source)
    else:
        logger.info("%s has not changed.", source)
    if after != before:
        write_watch(place.registry, source, dataset, after)
    return announce


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
    place, logger = load_workspace(workspace), get_run_logger()
    folder, pattern = waited_for(read_settings().pipelines, starts)
    before, now = read_watch(place.registry, pattern, starts), look_for_files(place, folder, pattern)
    announce, after = decide(before, now)
    if announce:
        # First the event, then the note: killed in between, the next look announces it again.
        announce_files(starts.replace("/", "."), pattern, workspace, related=[str(runtime.flow_run.id)])
        logger.info("%s: files have arrived and come to rest: %s is asked for.", pattern, starts)
    elif now == NOTHING:
        logger.info("%s: nothing there yet.", pattern)
    elif now != before.seen:
        logger.info("%s is changing: the next look tells whether it has come to rest.", pattern)
    else:
        logger.info("%s has not changed.", pattern)
    if after != before:
        write_watch(place.registry, pattern, starts, after)
    return announce
