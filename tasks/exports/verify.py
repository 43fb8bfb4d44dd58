"""Whether an export in a folder is as it was made: its files against its SHA256SUMS."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


def wrong_files(folder: Path) -> list[str]:
    """Return the names of files that are missing or differ from SHA256SUMS; that of SHA256SUMS if it is missing."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return [SUMS]
    listed = [line.partition("  ") for line in lines]
    return [name for digest, _, name in listed if _digest(folder / name) != digest]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
