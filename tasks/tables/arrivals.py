"""Files that a spec waits for: which are there now."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from blocks.errors import UsageError
from blocks.settings import read_settings
from blocks.workspace import Workspace
from tasks.datasets.watching import NOTHING
from tasks.tables.orchestrations import find_orchestration
from tasks.tables.spec.reading import find_spec, read_spec


def waited_for(pipelines: Path, starts: str) -> tuple[Path, str]:
    """The folder to which the path is relative, and the path of the files that start something.

    Args:
        pipelines: the folder of specs.
        starts: ``pipeline/name`` or ``orchestrate/name``.

    Raises:
        UsageError: it does not wait for files.
        LookbookError: its spec cannot be read.
    """
    kind, _, name = starts.partition("/")
    if kind == "pipeline":
        trigger = read_spec(find_spec(pipelines, name)).on
    else:
        trigger = find_orchestration(pipelines, name).on
    if trigger is None or trigger.arrival is None:
        raise UsageError(
            f"{starts} does not wait for files any more.", 'Deploy it again: "lookbook pipeline deploy".'
        )
    return pipelines, trigger.arrival


def look(place: Workspace, folder: Path, pattern: str) -> str:
    """The digest of the files of a pattern: names, sizes and times; nothing is read.

    Args:
        place: with the lake, for ``lake://``.
        folder: to which a relative path belongs.
        pattern: with wildcards, and the placeholders of templates, which stand for the present day.

    Returns:
        `NOTHING` where there is none.
    """
    from tasks.tables.spec.templates import render  # noqa: PLC0415

    path = render(pattern, datetime.now(UTC), {})
    scheme, separator, rest = path.partition("://")
    if not separator:
        found = _local(folder / Path(path).expanduser())
    elif scheme == "inbox":
        found = _local(read_settings().home / "inbox" / rest)
    else:
        found = _lake(place, rest)
    lines = sorted(found)
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass"))
    return digest.hexdigest() if lines else NOTHING


def _local(pattern: Path) -> Iterator[str]:
    for name in glob.iglob(str(pattern), recursive=True):
        try:
            status = os.stat(name)  # noqa: PTH116 - a name, not a path
        except OSError:
            continue  # it went away meanwhile
        if not os.path.isdir(name):  # noqa: PTH112
            yield f"{name}\0{status.st_size}\0{status.st_mtime_ns}"


def _lake(place: Workspace, pattern: str) -> Iterator[str]:
    fixed = PurePosixPath(re.split(r"[*?\[]", pattern, maxsplit=1)[0] + "x").parent
    wanted = re.compile(_translated(pattern))
    for one in place.lake.list("" if str(fixed) == "." else str(fixed)):
        if wanted.fullmatch(one.key):
            yield f"{one.key}\0{one.size}"


def _translated(pattern: str) -> str:
    """A pattern with ``*``, ``?`` and ``**`` as a regular expression."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(words.get(part) or re.escape(part) for part in parts)
