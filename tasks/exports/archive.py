"""A ZIP archive of an export as a stream: its size is known before, and any range of it can be read alone.

Members are stored, not compressed (images are), with one fixed time: equal exports give equal bytes. The format is that
of APPNOTE.TXT 6.3.10; sizes, offsets and counts beyond 32 and 16 bits are told in its ZIP64 records.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np

_LIMIT = 0xFFFFFFFF
_MOST_ENTRIES = 0xFFFF
_TIME, _DATE = 0, 33  # 1980-01-01, 00:00:00
_UTF8 = 0x0800
_PLAIN, _ZIP64 = 20, 45  # versions needed to extract
_UNIX = 3 << 8
_MODE = 0o100644 << 16


class Archive:
    """The layout of an archive.

    Args:
        names: of the members.
        sizes: of them, in bytes.
        crcs: their CRC-32.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], crcs: Sequence[int]) -> None:
        self._names = names
        self._sizes = np.array(sizes, np.int64)
        self._crcs = crcs
        count = len(names)
        lengths = np.array([len(name.encode()) for name in names], np.int64)
        large = self._sizes >= _LIMIT
        headers = 30 + lengths + 20 * large
        pairs = headers + self._sizes
        self._offsets = np.concatenate([[0], np.cumsum(pairs)[:-1]]) if count else np.zeros(0, np.int64)
        far = self._offsets >= _LIMIT
        entries = 46 + lengths + np.where(large | far, 4 + 16 * large + 8 * far, 0)
        self._directory = int(pairs.sum())
        self._directory_size = int(entries.sum())
        members = np.empty(2 * count, np.int64)
        members[0::2], members[1::2] = headers, self._sizes
        segments = np.concatenate([members, entries, [len(self._end())]])
        self._starts = np.concatenate([[0], np.cumsum(segments)])

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return int(self._starts[-1])

    def chunks(self, read: Callable[[int], bytes], start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the archive's bytes from `start` up to `stop`, or to its end, piece by piece.

        Args:
            read: gives the bytes of the member of a number.
            start: first byte.
            stop: one past the last byte.
        """
        stop = self.size if stop is None else min(stop, self.size)
        segment = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            begin, end = int(self._starts[segment]), int(self._starts[segment + 1])
            if end > start:
                yield self._segment(segment, read)[start - begin : stop - begin]
                start = end
            segment += 1

    def _segment(self, number: int, read: Callable[[int], bytes]) -> bytes:
        count = len(self._names)
        if number < 2 * count:
            return read(number // 2) if number % 2 else self._header(number // 2)
        if number < 3 * count:
            return self._entry(number - 2 * count)
        return self._end()

    def _header(self, member: int) -> bytes:
        name, size = self._names[member].encode(), int(self._sizes[member])
        large = size >= _LIMIT
        extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
        told = _LIMIT if large else size
        fields = (0x04034B50, _ZIP64 if large else _PLAIN, _UTF8, 0, _TIME, _DATE, self._crcs[member], told, told)
        return struct.pack("<IHHHHHIIIHH", *fields, len(name), len(extra)) + name + extra

    def _entry(self, member: int) -> bytes:
        name, size, offset = self._names[member].encode(), int(self._sizes[member]), int(self._offsets[member])
        large, far = size >= _LIMIT, offset >= _LIMIT
        told = (struct.pack("<QQ", size, size) if large else b"") + (struct.pack("<Q", offset) if far else b"")
        extra = struct.pack("<HH", 1, len(told)) + told if told else b""
        version = _ZIP64 if told else _PLAIN
        sizes = (_LIMIT, _LIMIT) if large else (size, size)
        fields = (0x02014B50, _UNIX | version, version, _UTF8, 0, _TIME, _DATE, self._crcs[member], *sizes)
        more = (len(name), len(extra), 0, 0, 0, _MODE, _LIMIT if far else offset)
        return struct.pack("<IHHHHHHIIIHHHHHII", *fields, *more) + name + extra

    def _end(self) -> bytes:
        count, size, offset = len(self._names), self._directory_size, self._directory
        records = b""
        if count >= _MOST_ENTRIES or size >= _LIMIT or offset >= _LIMIT:
            version = _UNIX | _ZIP64
            records = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, version, _ZIP64, 0, 0, count, count, size, offset)
            records += struct.pack("<IIQI", 0x07064B50, 0, offset + size, 1)
        few = min(count, _MOST_ENTRIES)
        return records + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, min(size, _LIMIT), min(offset, _LIMIT), 0)
