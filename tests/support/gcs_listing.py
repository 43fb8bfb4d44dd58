"""Listings of a stand-in for Google Cloud Storage, in pages, and parts of an answer by ``fields``."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.gcs_store import ApiError, Store, StoredObject

KNOWN = {
    "prefix", "delimiter", "startOffset", "endOffset", "includeTrailingDelimiter", "maxResults", "pageToken",
    "projection", "fields", "prettyPrint", "alt", "userProject",
}  # fmt: skip


def list_objects(store: Store, bucket: str, query: Mapping[str, str], host: str) -> dict[str, Any]:
    """One page: https://cloud.google.com/storage/docs/json_api/v1/objects/list."""
    unknown = set(query) - KNOWN
    if unknown:
        raise ApiError(501, "notImplemented", f"The stand-in does not know {sorted(unknown)}.")
    most = min(store.most_results, int(query.get("maxResults") or 1000))
    after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
    with store.lock:
        objects = store.bucket(bucket)
        entries = [entry for entry in _entries(objects, query) if not after or entry[0] > after]
    page = entries[:most]
    answer: dict[str, Any] = {"kind": "storage#objects"}
    items = [found.resource(host) for _, found in page if found is not None]
    prefixes = [name for name, found in page if found is None]
    if items:
        answer["items"] = items
    if prefixes:
        answer["prefixes"] = prefixes
    if len(entries) > most:
        answer["nextPageToken"] = base64.urlsafe_b64encode(page[-1][0].encode()).decode()
    return answer


def _entries(
    objects: Mapping[str, StoredObject], query: Mapping[str, str]
) -> Iterator[tuple[str, StoredObject | None]]:
    """Objects, and each prefix once with None, in order of their names."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    start, end = query.get("startOffset", ""), query.get("endOffset")
    told = None
    for name in sorted(objects):
        if not name.startswith(prefix) or name < start or (end and name >= end):
            continue
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        folder = prefix + head + found
        if found and folder != told:
            told = folder
            yield folder, None
        if not found or (folder == name and query.get("includeTrailingDelimiter") == "true"):
            yield name, objects[name]


def only_fields(content: Any, fields: str | None) -> Any:
    """The parts of an answer that a client asks for, as in ``items(name,size),nextPageToken``."""
    if not fields or fields == "*":
        return content
    wanted = _parsed(iter(re.findall(r"[(),/]|[^(),/]+", fields)))
    return _selected(content, wanted)


def _parsed(signs: Iterator[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    name = ""
    for sign in signs:
        if sign == "(":
            wanted[name] = _parsed(signs)
        elif sign == ")":
            break
        elif sign == "/":
            wanted[name] = _parsed(iter([next(signs)]))
        elif sign != ",":
            name = sign.strip()
            wanted[name] = {}
    return wanted


def _selected(content: Any, wanted: Mapping[str, Any]) -> Any:
    if not wanted:
        return content
    if isinstance(content, list):
        return [_selected(entry, wanted) for entry in content]
    return {name: _selected(content[name], inner) for name, inner in wanted.items() if name in content}
