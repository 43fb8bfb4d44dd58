"""A file behind an address as a source."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.sources.downloading import Patience
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.files import Reading, read_file
from lookbook.tasks.tables.extract.http_answers import shown
from lookbook.tasks.tables.extract.http_fetch import Asked, Fetched, fetch
from lookbook.tasks.tables.extract.kinds import kind_of_media_type, kind_of_name
from lookbook.tasks.tables.extract.pieces import Notes, Piece, UnreadableError
from lookbook.tasks.tables.spec.sources import HttpSource
from lookbook.tasks.tables.spec.templates import render

#: With faults of servers; tests have none.
PATIENCE = Patience()


def read_http(
    context: Context, name: str, source: HttpSource, notes: Notes, *, skip_unchanged: bool
) -> Iterator[Piece]:
    """Yield the rows of a file behind an address.

    With `skip_unchanged` the server is asked first whether it changed since the last commit.
    """
    url = _url(render(source.url, context.logical_date, context.params))
    address = shown(url)
    notes.inputs.append(address)
    identity = hashlib.sha256(str(url).encode()).hexdigest()[:24]
    known = _known(context.states.get(name, {}), identity) if skip_unchanged else {}
    context.workspace.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.workspace.scratch, prefix="http-") as folder:
        path = Path(folder, "file")
        fetched = fetch(Asked(url, source.max_bytes, source.allow_private, source.max_seconds), path, known, PATIENCE)
        if fetched is None:
            notes.unchanged = True
            return
        if skip_unchanged:
            notes.state["http"] = fetched.validators | {"url": identity}
        reading = Reading(source.format, source.csv, context.workspace.scratch)
        try:
            yield from read_file(path, _name(url, fetched), address, reading)
        except UnreadableError as error:
            raise error.for_user(address) from error


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise LookbookError("url is no address.", "Write it as https://host/path.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise LookbookError(f"{shown(url)}: only http and https are asked.", "Write it as https://host/path.")
    return url


def _known(state: Mapping[str, Any], identity: str) -> dict[str, str]:
    """Return the validators of the last commit, if it was of this address and its content is known."""
    http = state.get("http") or {}
    if http.get("url") != identity or not state.get("digest"):
        return {}
    return {name: str(http[name]) for name in ("etag", "modified") if http.get(name)}


def _name(url: httpx.URL, fetched: Fetched) -> str:
    """Return a name that tells the format: of the address, of where it led to, or as the server says."""
    for path in (url.path, fetched.url.path):
        if kind_of_name(path.rpartition("/")[2]) is not None:
            return path.rpartition("/")[2]
    return f"file.{kind_of_media_type(fetched.media_type) or ''}"
