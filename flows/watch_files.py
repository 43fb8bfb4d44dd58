"""Watch for files: when new ones have come to rest, an event says so, and an automation starts what waits for them."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger, runtime

from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import load_workspace
from lookbook.tasks.datasets.watching import NOTHING, decide, read_watch, write_watch
from lookbook.tasks.runs.announcements import announce_files
from lookbook.tasks.runs.parameters import WorkspaceName, described
from lookbook.tasks.tables.arrivals import look, waited_for

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
    before, now = read_watch(place.registry, pattern, starts), look(place, folder, pattern)
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
