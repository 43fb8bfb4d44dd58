"""Where a page ends, in a text that means nothing to others: bound to a snapshot and to a query.

A snapshot never changes, so that a place in its order is enough, and pages fit together while others are published.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from lookbook.deployments.api.problems import Problem

LONGEST = 400
_SNAPSHOT = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Cursor:
    """A place in the results of a query.

    Attributes:
        snapshot_id: that is asked.
        query: digest of the query.
        offset: rows before the place.
    """

    snapshot_id: str
    query: str
    offset: int

    def text(self) -> str:
        """As it is given out."""
        plain = json.dumps([self.snapshot_id, self.query, self.offset], separators=(",", ":"))
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """Return the place that a cursor names. It may be made up: whoever does that finds a page that there is, or none.

    Raises:
        Problem: it is none.
    """
    found = _decoded(text) if len(text) <= LONGEST else None
    if found is None or not (_is_text(found[0]) and _is_text(found[1]) and type(found[2]) is int):
        raise Problem(400, "bad-cursor", "The cursor is none of ours.", "Begin again without one.")
    if not 0 <= found[2] < 2**53:
        raise Problem(400, "bad-cursor", "The cursor names no place.", "Begin again without one.")
    return Cursor(*found)


def _decoded(text: str) -> list[Any] | None:
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and len(found) == 3 else None  # noqa: PLR2004 - see Cursor.text


def query_digest(*parts: Any) -> str:  # noqa: ANN401 - any JSON
    """Return what tells one query from another."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def start_of(cursor: Cursor | None, digest: str) -> int:
    """Return the first row of a page.

    Raises:
        Problem: the cursor is one of another query.
    """
    if cursor is None:
        return 0
    if cursor.query != digest:
        raise Problem(
            400, "bad-cursor", "The cursor belongs to another query.", "Keep filter and sort the same, or begin again."
        )
    return cursor.offset


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _SNAPSHOT.fullmatch(value) is not None
