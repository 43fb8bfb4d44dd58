"""Which sources may be ingested through the API: workers read them, so that a folder has to be allowed."""

from __future__ import annotations

import posixpath

from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.problems import Problem

#: Addresses that name no folder of a worker's machine.
NAMED = ("sample://", "inbox://", "kaggle://", "gs://")


def check_source(source: str, config: ApiConfig, *, is_open: bool) -> str:
    """Return the source, if it may be ingested. Before the first key the machine's own user asks: any folder may.

    Only the worker, whose links it may lead through, can see where it lies: the run is told the roots (`run_roots`).

    Raises:
        Problem: it is a folder or an archive that is below none of the roots.
    """
    if any(ord(letter) < ord(" ") for letter in source):
        raise Problem(422, "invalid-request", "The source has control characters.")
    if source.startswith(NAMED) and ".." not in source.split("/"):
        return source
    path = source.removeprefix("file://")
    if posixpath.isabs(path) and "://" not in path:
        path = posixpath.normpath(path)
        if (is_open and not config.source_roots) or any(_is_below(path, root) for root in config.source_roots):
            return path
    raise Problem(
        403,
        "no-source",
        "This source may not be ingested through the API.",
        f"It takes {', '.join(NAMED)} and folders below those of LOOKBOOK_API_SOURCE_ROOTS.",
    )


def run_roots(source: str, config: ApiConfig) -> list[str]:
    """Return the folders in which the run has to find the source, links followed; empty: any, or it is no folder."""
    return [] if source.startswith(NAMED) else list(config.source_roots)


def _is_below(path: str, root: str) -> bool:
    root = posixpath.normpath(root)
    return path == root or path.startswith(root.rstrip("/") + "/")
