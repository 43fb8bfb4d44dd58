"""Watch a source: when what it holds has changed and come to rest, an event says so, and an automation ingests it."""

from __future__ import annotations

from prefect import flow, get_run_logger, runtime

from lookbook.blocks.workspace import load_workspace
from lookbook.tasks.datasets.watching import NOTHING, decide, look, read_watch, write_watch
from lookbook.tasks.runs.announcements import announce_change
from lookbook.tasks.runs.parameters import DatasetName, SourceUri, WorkspaceName


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
