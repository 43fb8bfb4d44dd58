"""What was refused, by which rule, and where it stands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

RejectKind = Literal["image", "row", "link", "style", "file"]


@dataclass(frozen=True)
class Reject:
    """Something of a source that was refused, kept whole.

    Attributes:
        kind: an image; a row of a catalogue; a row of `images.csv`; a product's JSON file; a whole catalogue file.
        locator: a file's key, or key and line: ``styles.csv:6044``.
        rule: the rule's name, such as ``ragged_row``.
        message: the rule's reason, for people.
        raw: the text as it stood, or "".
    """

    kind: RejectKind
    locator: str
    rule: str
    message: str
    raw: str = ""

    @property
    def reject_id(self) -> str:
        """``r-`` and twelve hex digits, the same on each run as long as the reject is."""
        named = "\0".join((self.kind, self.locator, self.rule, self.raw))
        return "r-" + hashlib.sha256(named.encode("utf-8", "backslashreplace")).hexdigest()[:12]
