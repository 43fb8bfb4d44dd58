"""A one-off import as a pipeline: one extract, one load, and no file that says so."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.spec.orchestration import ImportSettings
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.templates import DATE_PARTS

#: The date of an import whose source names none: the same source is one batch, whenever it is imported.
UNDATED = datetime(1970, 1, 1, tzinfo=UTC)

_CONNECTOR = re.compile(r"connector:(?P<block>[^/]+)/(?P<table>.+)", re.DOTALL)


def import_pipeline(settings: ImportSettings) -> Pipeline:
    """Return the pipeline that an import is.

    It has a name of its own for each source, table and place, so that importing another source into a table adds to
    it, and importing the same one again takes the place of what that had brought.

    Raises:
        UsageError: the source cannot be meant, or the options do not go together.
    """
    identity = "\0".join((settings.source, settings.table, settings.to))
    name = f"import-{settings.table.replace('_', '-')[:40]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    load = {
        "after": ["extract"],
        "table": settings.table,
        "target": settings.to,
        "write_disposition": settings.write_disposition,
        "primary_key": settings.primary_key,
        "reject_limit": settings.reject_limit,
    }
    described = {"name": name, "tasks": {"extract": {"source": _source(settings)}, "load": load}}
    try:
        return Pipeline.model_validate(described)
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{settings.source}: {said}.", 'See "lookbook import --help".') from None


def import_date(settings: ImportSettings, date: datetime | None, now: datetime) -> datetime:
    """Return the date of an import: the given one; else today's, where the source's address names parts of it."""
    if date is not None:
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    if any(f"{{{part}}}" in settings.source for part in DATE_PARTS):
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return UNDATED


def _source(settings: ImportSettings) -> dict[str, Any]:
    source = settings.source
    read = {"format": settings.format, "csv": {"skip": settings.skip, "decimal": settings.decimal}}
    if found := _CONNECTOR.fullmatch(source):
        return {"type": "sql", "connector": found["block"], "table": found["table"]}
    if source.startswith(("http://", "https://")):
        return {"type": "http", "url": source, **read, "allow_private": settings.allow_private}
    if "://" in source and not source.startswith(("lake://", "inbox://")):
        raise UsageError(
            f"SOURCE {source.partition('://')[0]}://…: no such kind of source.",
            "It is a path, http:// or https://, lake://key, inbox://name, or connector:block/table.",
        )
    return {"type": "file", "path": source, **read}
