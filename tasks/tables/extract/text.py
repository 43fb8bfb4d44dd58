"""Text from bytes, block by block. Bytes that an encoding has no character for are marked, not lost."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Protocol

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.csv_records import BOMS
from lookbook.tasks.tables.extract.pieces import UnreadableError

#: Bytes that are read at a time.
BLOCK = 4 * 2**20
UTF8 = "utf-8"
#: A byte without a character stands as this character plus the byte: no text has one of them.
_MARK = 0xDC00
_MARKS = re.compile("[\ud800-\udfff]")
_HANDLER = "lookbook-mark"
#: How HTML begins: byte order mark, declaration and comments, then one of the first elements of a page.
_WEB_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|(?:html|head|body|title|script)\b[^,;\t|]*>)",
    re.IGNORECASE | re.DOTALL,
)


class Readable(Protocol):
    """A file that is read from its start to its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, as many as `size` at the most; none at the end."""
        ...


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_MARK + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _mark)


def has_marks(text: str) -> bool:
    """Return whether bytes stand in it that its encoding has no character for."""
    return not text.isascii() and _MARKS.search(text) is not None


def shown(text: str) -> str:
    """Return text in which marked bytes are written as a backslash, x, and two digits."""
    return _MARKS.sub(lambda found: _escape(ord(found[0])), text)


def _escape(point: int) -> str:
    return f"\\x{point - _MARK:02x}" if _MARK <= point < _MARK + 256 else f"\\u{point:04x}"


def shown_bytes(line: bytes) -> str:
    """Return a line of `utf8_blocks` as text."""
    try:
        return shown(line.decode(UTF8, "surrogatepass"))
    except UnicodeDecodeError:
        return shown(line.decode(UTF8, _HANDLER))


def checked_encoding(name: str) -> str:
    """Return the encoding's name as Python knows it.

    Raises:
        LookbookError: there is no such one.
    """
    try:
        found = codecs.lookup(name)
        "".encode(found.name)
    except (LookupError, ValueError) as error:
        raise LookbookError(
            f"encoding {name!r} is not known.", "Name one that Python knows: utf-8, cp1252, iso-8859-15, utf-16, …"
        ) from error
    return found.name


def text_blocks(file: Readable, encoding: str = UTF8) -> Iterator[str]:
    """Yield the text of a file. A byte order mark says more of its encoding than `encoding`.

    Raises:
        UnreadableError: it is a web page.
    """
    head = _head(file)
    name = next((found for mark, found in BOMS if head.startswith(mark)), checked_encoding(encoding))
    decoder = codecs.getincrementaldecoder(name)(_HANDLER)
    block = head
    while block:
        if text := decoder.decode(block):
            yield text
        block = file.read(BLOCK)
    if text := decoder.decode(b"", final=True):
        yield text


def utf8_blocks(file: Readable, encoding: str = UTF8) -> Iterator[bytes]:
    """Yield the text of a file in UTF-8; a block may end within a character.

    Lines with bytes that the encoding has no character for are no UTF-8.

    Raises:
        UnreadableError: it is a web page.
    """
    head = _head(file)
    marked = any(head.startswith(mark) for mark, name in BOMS if name != "utf-8-sig")
    if marked or (checked_encoding(encoding) != UTF8 and not head.startswith(codecs.BOM_UTF8)):
        for text in text_blocks(_Behind(head, file), encoding):
            yield text.encode(UTF8, "surrogatepass")
        return
    block = head.removeprefix(codecs.BOM_UTF8)
    while block:
        yield block
        block = file.read(BLOCK)


def _head(file: Readable) -> bytes:
    """Return the first block. A server that wants a login, or lacks the file, may send a page under the file's name."""
    head = file.read(BLOCK)
    if _WEB_PAGE.match(head):
        raise UnreadableError("web_page", "it is a web page and no table, such as one that asks to sign in")
    return head


class _Behind:
    """A file of which the first block was read already."""

    def __init__(self, head: bytes, file: Readable) -> None:
        self._head: bytes | None = head
        self._file = file

    def read(self, size: int) -> bytes:
        head, self._head = self._head, None
        return self._file.read(size) if head is None else head
