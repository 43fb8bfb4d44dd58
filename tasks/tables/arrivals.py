"""Files that a spec waits for: which are there now."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.watching import NOTHING
from lookbook.tasks.tables.extract.file_sources import find_files
from lookbook.tasks.tables.orchestrations import find_orchestration
from lookbook.tasks.tables.spec.reading import find_spec, read_spec
from lookbook.tasks.tables.spec.values import render


def waited_for(pipelines: Path, starts: str) -> tuple[Path, str]:
    """Return the folder to which the path is relative, and the path of the files that start something.

    Args:
        pipelines: the folder of specs.
        starts: ``pipeline/name`` or ``orchestrate/name``.

    Raises:
        UsageError: it does not wait for files.
        LookbookError: its spec cannot be read.
    """
    kind, _, name = starts.partition("/")
    is_pipeline = kind == "pipeline"
    trigger = (read_spec(find_spec(pipelines, name)) if is_pipeline else find_orchestration(pipelines, name)).on
    if trigger is None or trigger.arrival is None:
        raise UsageError(f"{starts} does not wait for files any more.", 'Deploy it again: "lookbook pipeline deploy".')
    return pipelines, trigger.arrival


def look_for_files(place: Workspace, folder: Path, pattern: str) -> str:
    """Return the digest of the files of a pattern: names, sizes and times; nothing is read.

    Args:
        place: with the lake, for ``lake://``.
        folder: to which a relative path belongs.
        pattern: with wildcards, and the placeholders of templates, which stand for the present day.

    Returns:
        `NOTHING` where there is none.
    """
    path = render(pattern, datetime.now(UTC), {})
    lines = [f"{found.address}\0{found.fingerprint}" for found in find_files(place.lake, folder, path)]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass"))
    return digest.hexdigest() if lines else NOTHING
