"""Workbooks of Excel and LibreOffice, read in a disposable process: a hostile one may ask for all memory there is."""

from __future__ import annotations

import datetime
import io
import resource
import signal
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from lookbook.tasks.datasets.sources.local import ArchiveBounds
from lookbook.tasks.images.render_process import OUT_OF_MEMORY, guarded, main
from lookbook.tasks.images.renderers import ATTEMPTS, SECONDS_TO_ANSWER, Renderer, RendererDiedError

#: How workbooks begin: those that are zip archives (.xlsx, .xlsb, .ods), and those of before 2007 or with a password.
MAGICS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
#: Rows among which the header is looked for.
LEADING_ROWS = 20
#: Bytes of memory, and seconds, that reading one may take.
MOST_MEMORY, MOST_SECONDS = 4 * 1024**3, 600.0
#: From here on a float is no exact whole number.
MOST_WHOLE = 2**53

COMMAND = ("-P", "-m", "lookbook.tasks.datasets.workbooks")


#: The rows of a sheet with their numbers, as it shows them: texts, numbers, true and false; times as ISO text.
NumberedRows = list[tuple[int, list[Any]]]


@dataclass(frozen=True)
class WorkbookSheet:
    """One sheet with rows.

    Attributes:
        names: the header's, of the columns that hold anything.
        lines: numbers of the rows, from 1, as the workbook shows them.
        columns: their values, None for empty cells and errors.
    """

    names: list[str]
    lines: list[int]
    columns: list[list[Any]]


def read_workbook(data: bytes) -> list[WorkbookSheet] | tuple[str, str]:
    """Return the sheets with rows, those that are shown first; or the rule and the reason why they cannot be read."""
    limit = ArchiveBounds().byte_limit(len(data))
    # What is no zip archive is of before 2007, or the reader says what is wrong with it.
    with (
        suppress(zipfile.BadZipFile, ValueError, EOFError, NotImplementedError),
        zipfile.ZipFile(io.BytesIO(data)) as packed,
    ):
        if sum(member.file_size for member in packed.infolist()) > limit:
            return "archive_bomb", f"it unpacks to more than {limit} bytes"
    for _ in range(ATTEMPTS):  # another process may have ended the first one
        renderer = Renderer(COMMAND)
        try:
            answer: object = renderer.render(data, "", (), MOST_SECONDS + SECONDS_TO_ANSWER)
        except RendererDiedError as death:
            code = death.code
            continue
        finally:
            renderer.close()
        if isinstance(answer, BaseException):
            raise answer
        found = cast("list[NumberedRows] | tuple[str, str]", answer)
        return found if isinstance(found, tuple) else [sheet for rows in found if (sheet := _with_header(rows))]
    if code == -signal.SIGALRM:
        return "timeout", f"it was not read within {MOST_SECONDS:g} s"
    if code in {OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGKILL}:
        return "archive_bomb", f"reading it takes more memory than there is, or than {MOST_MEMORY} bytes"
    return "bad_workbook", f"the process that read it died, each of {ATTEMPTS} times"


def _with_header(rows: NumberedRows) -> WorkbookSheet | None:
    """Return a sheet without the titles above its header, which fill half of the columns or fewer."""
    filled = [sum(value is not None for value in values) for _, values in rows[:LEADING_ROWS]]
    header = next((place for place, count in enumerate(filled) if 2 * count > max(filled)), None)
    if header is None:
        return None
    columns = list(map(list, zip(*(values for _, values in rows[header:]), strict=True)))
    columns = [column for column in columns if any(value is not None for value in column)]
    names = ["" if column[0] is None else str(column[0]).strip() for column in columns]
    return WorkbookSheet(names, [line for line, _ in rows[header + 1 :]], [column[1:] for column in columns])


def _answer(data: bytes, _text: str, _names: tuple[str, ...]) -> object:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    return guarded(lambda: _sheets(data), MOST_SECONDS)


def _sheets(data: bytes) -> list[NumberedRows] | tuple[str, str]:
    try:
        workbook = _open(data)
        about = [sheet for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        shown = sorted(about, key=lambda sheet: sheet.visible != SheetVisibleEnum.Visible)
        return [_rows(workbook.get_sheet_by_name(sheet.name)) for sheet in shown]
    except PasswordError:
        return "encrypted", "it is encrypted with a password"
    except CalamineError as error:
        return "bad_workbook", f"it cannot be read as a workbook: {error}"


def _open(data: bytes) -> CalamineWorkbook:
    """Open a workbook of any kind; where none can be, the reader of the likeliest kind says why.

    Raises:
        CalamineError: it is damaged, or none; `PasswordError` where it is encrypted.
    """
    with suppress(CalamineError):
        return CalamineWorkbook.from_filelike(io.BytesIO(data))
    old = data.startswith(MAGICS[1]) and "EncryptedPackage".encode("utf-16-le") not in data
    ending = ".xls" if old else ".ods" if b"opendocument" in data[:256] else ".xlsx"
    with tempfile.NamedTemporaryFile(suffix=ending) as file:
        file.write(data)
        file.flush()
        return CalamineWorkbook.from_path(file.name)


def _rows(sheet: CalamineSheet) -> NumberedRows:
    numbered = ((line, list(map(_value, row))) for line, row in enumerate(sheet.iter_rows(), 1))
    return [(line, row) for line, row in numbered if any(value is not None for value in row)]


def _value(cell: object) -> object:
    """Return a cell's value as plain data; a whole number, which Excel holds as a float, is whole."""
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < MOST_WHOLE:
        return int(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell) if isinstance(cell, datetime.timedelta) else cell


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), _answer)
