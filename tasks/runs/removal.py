"""What goes because nothing needs it: how old it has to be, how much of each kind it is, and its removal."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated

from lookbook.blocks.errors import UsageError
from lookbook.blocks.lake import ASIDE, Lake, ObjectInfo
from lookbook.blocks.registry import Registry
from lookbook.blocks.settings import this_host
from lookbook.tasks.runs.lease import Hold, living_owners
from lookbook.tasks.runs.parameters import described

#: A snapshot that readers saw so recently stays, whatever the rule says.
GRACE = timedelta(hours=1)
#: Nobody writes one object for so long.
WRITING = timedelta(days=1)
#: Objects that are removed between two looks at the lease, and at the same time.
CHUNK = 1000
REMOVING_THREADS = 16
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Keep = Annotated[
    int,
    described("Keep", "The newest snapshots of each dataset that stay in any case (1 or more).", ge=1, le=1_000_000),
]
Age = Annotated[
    str,
    described(
        "Older than",
        "What is younger stays: a whole number with s, m, h, d or w, as 12h or 30d.",
        pattern=r"^[0-9]{1,6}[smhdw]$",
    ),
]
DryRun = Annotated[bool, described("Dry run", "Only say what would go; nothing is changed.")]


def age(text: str) -> timedelta:
    """Return an age that was given as text, as 12h or 30d.

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,6}[smhdw]", text):
        raise UsageError(f"{text[:100]!r} is no age.", "Give a whole number with s, m, h, d or w, as 12h or 30d.")
    return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])


@dataclass(frozen=True)
class Rule:
    """What may go.

    Attributes:
        keep: the newest snapshots of each dataset that stay.
        older_than: what is younger stays.
        grace: see `GRACE`.
        now: the time of the run, in UTC.
    """

    keep: int
    older_than: timedelta
    grace: timedelta = GRACE
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def is_old(self, when: datetime | None, least: timedelta = timedelta(0)) -> bool:
        """Return whether something of this time is old enough to go, and older than `least`; None: nobody knows."""
        return when is not None and when < self.now - max(self.older_than, least)

    def are_old(self, objects: Iterable[ObjectInfo], least: timedelta = timedelta(0)) -> bool:
        """Return whether all of some objects are old enough to go; where there are none they are."""
        return all(self.is_old(one.modified, least) for one in objects)


@dataclass
class Amount:
    """How much of a kind goes: objects of the lake, or files of this machine."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.objects += 1
        self.bytes += size


def amount_of(objects: Iterable[ObjectInfo]) -> Amount:
    """Return how much some objects are."""
    amount = Amount()
    for one in objects:
        amount.add(one.size)
    return amount


def remove_objects(lake: Lake, objects: Iterable[ObjectInfo], hold: Hold, amount: Amount) -> None:
    """Remove objects in their order, many at the same time, while a lease is surely held.

    Args:
        lake: that holds them.
        objects: read as they are removed.
        hold: confirmed before each `CHUNK`, and again where that was too long ago.
        amount: counts those that are gone.

    Raises:
        LeaseLostError: another run has taken the lease.
        LookbookError: the lake or the registry fails.
    """

    def removed(one: ObjectInfo) -> bool:
        if not hold.is_fresh():
            return False
        lake.remove(one.key)
        return True

    waiting = iter(objects)
    with ThreadPoolExecutor(REMOVING_THREADS, thread_name_prefix="removing") as pool:
        while some := list(islice(waiting, CHUNK)):
            while some:
                hold.confirm()
                gone = list(pool.map(removed, some))
                for one in (one for one, done in zip(some, gone, strict=True) if done):
                    amount.add(one.size)
                some = [one for one, done in zip(some, gone, strict=True) if not done]


def old_writes(lake: Lake, rule: Rule) -> Iterator[ObjectInfo]:
    """Yield what killed processes were writing into a lake in a folder, older than a rule says and than a day."""
    return (info for info in lake.list(ASIDE) if rule.is_old(info.modified, WRITING))


# Scratch: what is downloaded, unpacked or made anew when it is wanted, under the names that Lookbook gives.

_LEFTOVER = re.compile(
    r"(unpacked-[0-9a-f]{16}\.tar|within-[0-9a-f]{32}\.(zip|tar))(\.[0-9a-f]{32}\.part)?"
    r"|(checks|diff|graph|http|index|load|needed|object|query|restore|run|sql|stage|table|unpacked|verify)-[a-z0-9_]{8}"
    r"|sample-v[0-9]+-[0-9]+"
)
#: What lies in folders of its own below scratch.
_BELOW = ("kaggle/*/*/*/*", "exports/lookbook-*", "copies/*", "reports/*")


def old_scratch(scratch: Path, rule: Rule) -> Iterator[tuple[Path, Amount]]:
    """Yield files and folders of Lookbook's in a folder for scratch that are older than a rule says, and the grace."""
    entries = [path for path in _entries(scratch) if _LEFTOVER.fullmatch(path.name)]
    for pattern in _BELOW:
        entries += sorted(scratch.glob(pattern))
    for path in entries:
        newest, amount = _measured(path)
        if rule.is_old(newest, rule.grace):
            yield path, amount


def remove_scratch(path: Path) -> None:
    """Remove a file or folder of scratch; what somebody else removes meanwhile is gone as well."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def at_work_here(registry: Registry) -> list[str]:
    """Return the leases of all lakes that processes of this machine hold: they may read what lies in scratch."""
    owners = living_owners(registry, of_all_lakes=True)
    return sorted(name for name, owner in owners.items() if owner.host == this_host() and not name.startswith("gc"))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _measured(path: Path) -> tuple[datetime | None, Amount]:
    """Return when anything of a file or folder was last changed, and how much it is."""
    newest, amount = 0.0, Amount()
    paths = [path, *(Path(folder, name) for folder, _, names in os.walk(path) for name in names)]
    for each in paths:
        try:
            status = each.lstat()
        except OSError:
            continue
        newest = max(newest, status.st_mtime)
        if stat.S_ISREG(status.st_mode):
            amount.add(status.st_size)
    return (datetime.fromtimestamp(newest, UTC) if newest else None), amount
