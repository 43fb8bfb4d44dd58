"""Datasets of Kaggle as sources: ``kaggle://owner/dataset[@version][/file]``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from lookbook.blocks.errors import INSTALL, LookbookError, MissingError, TransientError, UsageError
from lookbook.tasks.datasets.sources.base import Source, SourceFile
from lookbook.tasks.datasets.sources.downloading import Download, Retries, remove
from lookbook.tasks.datasets.sources.local import open_path

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials
    from lookbook.blocks.kaggle_api import KaggleDatasets, RemoteFile

TAKES = "It takes kaggle://owner/dataset, with @version and /file where they are wanted: kaggle://ann/shoes@3/a.zip"
#: Names of files that an error tells.
NAMED = 10

_ADDRESS = re.compile(
    r"kaggle://(?P<owner>[\w-]+)/(?P<name>[\w-]+)(@(?P<version>[1-9]\d{0,8}))?(/(?P<file>.+))?/?",
    re.ASCII | re.IGNORECASE,
)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class KaggleAddress:
    """What ``kaggle://`` names. Version 0: whichever is the newest; file "": the whole dataset."""

    owner: str
    name: str
    version: int = 0
    file: str = ""

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return f"kaggle://{self.owner}/{self.name}{version}" + (f"/{quote(self.file)}" if self.file else "")


def parse_address(uri: str) -> KaggleAddress:
    """Return what a ``kaggle://`` address names.

    Raises:
        UsageError: it is none.
    """
    found = _ADDRESS.fullmatch(uri)
    file = unquote(found["file"] or "").rstrip("/") if found else ""
    if found is None or {"", ".", ".."} & set(file.split("/") if file else ()):
        raise UsageError(f"SOURCE {uri}: no dataset of Kaggle.", TAKES)
    return KaggleAddress(found["owner"], found["name"], int(found["version"] or 0), file)


def _folder(scratch: Path, address: KaggleAddress) -> Path:
    """Each file of each version has a folder of its own: another version is another download."""
    kind = f"file-{hashlib.sha256(address.file.encode()).hexdigest()[:16]}" if address.file else "whole"
    return scratch / "kaggle" / address.owner.lower() / address.name.lower() / str(address.version) / kind


def drop(source: str, scratch: Path) -> None:
    """Remove what was downloaded for a source whose version is known, unless another run is downloading it.

    Other sources have nothing to remove.
    """
    if source.startswith("kaggle://"):
        remove(_folder(scratch, parse_address(source)))


class KaggleSource:
    """A dataset of Kaggle, or one file of it. It is downloaded when it is first listed, once for each version.

    The archive is read where it lies. `uri` names the version once that is known.

    Args:
        uri: its address.
        scratch: the workspace's folder for downloads.
        credentials: None: what the machine is logged in with.
        retries: for servers and connections that fail.
    """

    def __init__(
        self, uri: str, scratch: Path, credentials: KaggleCredentials | None = None, retries: Retries | None = None
    ) -> None:
        self.address = parse_address(uri)
        self._scratch = scratch.absolute()
        self._credentials = credentials
        self._patience = retries or Retries()
        if find_spec("kagglesdk") is None:
            raise LookbookError(f"SOURCE {uri} needs the extra kaggle, which is not installed.", INSTALL)

    @property
    def uri(self) -> str:
        """The address, with the version once it is known."""
        return str(self.address)

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`.

        Raises:
            LookbookError: Kaggle refuses it, there is no space, or what came is damaged; the message says which.
            OutOfReachError: Kaggle, or the way to it, failed too often in a row.
        """
        yield from self._downloaded().files()

    def pin(self) -> KaggleAddress:
        """Return the address with its version; asks Kaggle for the newest, where none is named.

        Raises:
            LookbookError: as `files`.
        """
        if not self.address.version:
            version = self._patiently(lambda kaggle: kaggle.current_version(self.address.owner, self.address.name))
            self.address = replace(self.address, version=version)
        return self.address

    def _downloaded(self) -> Source:
        address = self.pin()
        folder, name = _folder(self._scratch, address), address.file.rpartition("/")[2] or f"{address.name}.zip"
        try:
            path = Download(folder, name, self.uri, self._opened, self._patience).fetch()
        except MissingError as error:
            raise self._with_names(error) from error
        try:
            return open_path(self.uri, path, folder)
        except UsageError:
            if not address.file:
                raise
            return open_path(self.uri, path.parent, folder)  # one file, and no archive

    def _opened(self, start: int, validator: str) -> AbstractContextManager[RemoteFile]:
        address = self.address
        return self._kaggle.opened(address.owner, address.name, address.version, address.file, start, validator)

    def _with_names(self, error: MissingError) -> LookbookError:
        """Return the error about a file that is not there, which names those that are."""
        if not self.address.file:
            return error
        where = (self.address.owner, self.address.name, self.address.version)
        names = self._patiently(lambda kaggle: list(islice(kaggle.file_names(*where), NAMED + 1)))
        more = ", …" if len(names) > NAMED else ""
        return LookbookError(error.problem, f"It has these files: {', '.join(names[:NAMED])}{more}")

    @cached_property
    def _kaggle(self) -> KaggleDatasets:
        from lookbook.blocks.kaggle import KaggleCredentials  # noqa: PLC0415 - imports Prefect, whose settings come first

        return (self._credentials or KaggleCredentials()).datasets()

    def _patiently(self, ask: Callable[[KaggleDatasets], Answer]) -> Answer:
        faults = 0
        while True:
            try:
                return ask(self._kaggle)
            except TransientError as fault:
                faults += 1
                self._patience.wait(fault, faults)
