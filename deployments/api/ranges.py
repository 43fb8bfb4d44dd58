"""Conditional and partial answers: ETag, If-None-Match, If-Range, Range (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from lookbook.deployments.api.problems import Problem

_RANGE = re.compile(r"bytes=\s*(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})\s*", re.ASCII)
_TAGS = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True)
class Part:
    """Bytes that are sent.

    Attributes:
        start: the first one.
        end: the one behind the last.
        size: of the whole.
        partial: whether a range was asked for.
    """

    start: int
    end: int
    size: int
    partial: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Of an answer with these bytes."""
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(self.end - self.start)}
        if self.partial:
            headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{self.size}"
        return headers


def is_known(headers: Headers, etag: str) -> bool:
    """Return whether who asks has it already (If-None-Match); `etag` is a strong one with its quotes."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _TAGS.findall(given)}


def wanted_part(headers: Headers, size: int, etag: str) -> Part:
    """Return the bytes that are asked for. Several ranges, or what is no range of bytes, ask for the whole.

    Raises:
        Problem: there are no such bytes.
    """
    whole = Part(0, size, size)
    found = _RANGE.fullmatch(headers.get("range", ""))
    condition = headers.get("if-range")
    if found is None or (condition is not None and condition.strip() != etag):
        return whole
    first, last = found["first"], found["last"]
    if not first and not last:
        return whole
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    if start >= size or start >= end:
        raise Problem(416, "no-range", f"There are {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return Part(start, end, size, True)
