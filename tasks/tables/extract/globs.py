"""Paths with ``*``, ``?``, ``[…]`` and ``**``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from lookbook.blocks.errors import LookbookError

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(path: str) -> bool:
    """Return whether it has a sign that stands for others."""
    return _MAGIC.search(path) is not None


def split_pattern(path: str) -> tuple[str, str]:
    """Return the folder before the first part with such a sign, and the rest: of a path without one its last part.

    Returns:
        As in ``("a/b", "*.csv")``; the folder is empty where there is none.
    """
    parts = path.split("/")
    fixed = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    folder = "/".join(parts[:fixed])
    return (folder or "/" if path.startswith("/") else folder), "/".join(parts[fixed:])


@lru_cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches relative paths: ``*`` takes no slash, ``**`` any folders, neither a hidden name.

    Raises:
        LookbookError: its brackets make no sense.
    """
    parts = pattern.split("/")
    expression = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            expression += r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if last else "")
        else:
            expression += _segment(part) + ("" if last else "/")
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise LookbookError(f"path {pattern}: {error}.", "In brackets stand signs or ranges of them: [0-9].") from error


def _segment(part: str) -> str:
    expression = r"(?!\.)" if is_pattern(part[:1]) else ""
    position = 0
    while position < len(part):
        sign = part[position]
        position += 1
        if sign == "*":
            expression += "[^/]*"
        elif sign == "?":
            expression += "[^/]"
        elif sign == "[" and (end := part.find("]", position + 1)) > 0:
            inner = part[position:end].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            expression += f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]"
            position = end + 1
        else:
            expression += re.escape(sign)
    return expression


def matching(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder whose relative path matches, in order; links to folders are not followed.

    Returns:
        The relative path with slashes, and the file.
    """
    wanted = compiled(pattern)
    deepest = None if "**" in pattern.split("/") else pattern.count("/")
    for root, folders, names in os.walk(folder):
        relative = os.path.relpath(root, folder)
        depth = 0 if relative == "." else relative.count(os.sep) + 1
        if deepest is not None and depth >= deepest:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            found = name if relative == "." else f"{relative}/{name}"
            path = Path(root, name)
            if wanted.fullmatch(found) and path.is_file():
                yield found, path
