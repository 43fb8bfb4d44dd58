"""What servers answer, in our words: what may pass and what does not, how much is coming and from where."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from lookbook.blocks.errors import LookbookError, TransientError

NOT_MODIFIED, PARTIAL, BAD_RANGE = 304, 206, 416
#: Too many requests, a request that took too long, and server errors: worth another try.
_PASSING = frozenset([408, 425, 429, 500, 502, 503, 504])
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def shown(url: httpx.URL) -> str:
    """Return an address without what may be secret in it: user, password, query."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def refuse(response: httpx.Response, address: str) -> None:
    """Raise what an answer means that brings no file.

    Raises:
        TransientError: it may pass.
        LookbookError: it does not.
    """
    status = response.status_code
    if status in _PASSING:
        raise TransientError(f"{address} answers {status}", _wait(response))
    ways_out = {401: "It asks for a login.", 403: "It does not let us.", 404: "See that the address is right."}
    raise LookbookError(f"{address} answers {status}.", ways_out.get(status, "Open it in a browser to see why."))


def start_of(response: httpx.Response, wanted: int) -> int | None:
    """Return the byte that the answer begins with; None: not the one that was wanted, nor the first."""
    if response.status_code != PARTIAL:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return wanted if found and int(found[1]) == wanted else None


def size_of(response: httpx.Response, start: int) -> int | None:
    """Return bytes of the whole file; None: the server does not say."""
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def validators(response: httpx.Response) -> dict[str, str]:
    """Return what tells whether the file is the same next time."""
    named = {"etag": response.headers.get("ETag"), "modified": response.headers.get("Last-Modified")}
    return {name: value for name, value in named.items() if value}


def strong(known: dict[str, str]) -> str | None:
    """Return the validator by which a download can go on (RFC 9110, 13.1.5): no weak one."""
    etag = known.get("etag")
    if etag is not None:
        return None if etag.startswith("W/") else etag
    return known.get("modified")


def _wait(response: httpx.Response) -> float | None:
    """Return seconds of a Retry-After header, which holds them or a date (RFC 9110, 10.2.3)."""
    said = response.headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
