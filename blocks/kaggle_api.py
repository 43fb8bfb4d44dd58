"""Kaggle's datasets over its own client: versions, lists of files, and files that can be read from the middle.

Nothing here imports Prefect. ``kaggle`` itself is not imported either: it logs in when it is imported, and may end the
process. ``kagglesdk``, which comes with it, has the typed calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lookbook.blocks.errors import LookbookError, TransientError
from lookbook.blocks.extras import needs_extra
from lookbook.blocks.kaggle_faults import named
from lookbook.blocks.kaggle_login import Login, session_with, session_without

with needs_extra("kaggle", "kaggle://"):
    import requests
    from kagglesdk import KaggleClient, KaggleEnv
    from kagglesdk.datasets.types.dataset_api_service import (
        ApiDownloadDatasetRequest,
        ApiGetDatasetRequest,
        ApiListDatasetFilesRequest,
    )

PARTIAL = 206
#: Files on a page of a listing: the most that Kaggle gives; it gives 20 where nothing is said.
PAGE_SIZE = 200
#: What is lost of a download that is cut, at the most.
CHUNK_BYTES = 64 * 1024
#: Another address of Kaggle's API, as kagglehub knows it.
ENDPOINT = "KAGGLE_API_ENDPOINT"


@dataclass(frozen=True)
class RemoteFile:
    """A file as its server describes it, and its bytes from `start` on.

    Attributes:
        validator: the ETag, or else the time of the last change: other bytes have another one. May be "".
        size: bytes of the whole file.
        md5: base64, or "" where the server names none.
        start: where `chunks` begin: what was asked for, or 0 where the server has other bytes by now.
        chunks: the bytes; raises `TransientError` where the connection ends before they do.
    """

    validator: str
    size: int
    md5: str
    start: int
    chunks: Iterator[bytes]


class KaggleDatasets:
    """The calls about datasets. One object for one thread.

    All of them raise `TransientError` for what may pass, and `LookbookError` for what does not: no such dataset (404),
    no right to it (403), credentials that are refused (401).
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._session = session_with(login)
        self._storage = session_without()
        self._client = _client(self._session)

    def current_version(self, owner: str, name: str) -> int:
        """Return the number of the newest version."""
        asked = ApiGetDatasetRequest()
        asked.owner_slug, asked.dataset_slug = owner, name
        found = self._call(f"{owner}/{name}", self._client.datasets.dataset_api_client.get_dataset, asked)
        version = int(found.current_version_number or 0)
        if version < 1:
            raise LookbookError(
                f"Kaggle names no version of {owner}/{name}: it is not ready yet, or was removed.",
                f"See https://www.kaggle.com/datasets/{owner}/{name}.",
            )
        return version

    def file_names(self, owner: str, name: str, version: int) -> Iterator[str]:
        """Yield the names of a version's files, page by page."""
        asked = ApiListDatasetFilesRequest()
        asked.owner_slug, asked.dataset_slug, asked.dataset_version_number = owner, name, version
        asked.page_size = PAGE_SIZE
        while True:
            page = self._call(f"{owner}/{name}", self._client.datasets.dataset_api_client.list_dataset_files, asked)
            yield from (str(file.name) for file in page.dataset_files or ())
            if not page.next_page_token:
                return
            asked.page_token = page.next_page_token

    @contextmanager
    def opened(
        self, owner: str, name: str, version: int, file: str = "", start: int = 0, validator: str = ""
    ) -> Iterator[RemoteFile]:
        """Yield a file of a version, or all of them as one archive, while the block runs.

        Args:
            owner: whose dataset.
            name: which.
            version: its number.
            file: the file's name within the dataset; "" for the archive.
            start: bytes that are here already.
            validator: what `RemoteFile.validator` said when they came; with another one they are of no use.
        """
        asked = ApiDownloadDatasetRequest()
        asked.owner_slug, asked.dataset_slug, asked.dataset_version_number = owner, name, version
        if file:
            asked.file_name = file
        what = f"{owner}/{name}@{version}" + (f"/{file}" if file else "")
        whole: requests.Response = self._call(what, self._client.datasets.dataset_api_client.download_dataset, asked)
        with whole:
            found = _described(whole, what)
            if not validator or found.validator != validator or not 0 < start < found.size:
                yield found
                return
        with self._continued(whole, what, start, validator) as rest:
            yield _described(rest, what, start, found.size) if rest.status_code == PARTIAL else _described(rest, what)

    def _continued(self, whole: requests.Response, what: str, start: int, validator: str) -> requests.Response:
        """The rest of a file, from the signed address that it was read from: without credentials, like any other."""
        asked = {"Range": f"bytes={start}-", "If-Range": validator}

        def get(address: str) -> requests.Response:
            rest = self._storage.get(address, headers=asked, stream=True)
            rest.raise_for_status()
            return rest

        try:
            rest: requests.Response = self._call(what, get, whole.url)
        except LookbookError as error:  # the address is good for some minutes only: the next try has another one
            raise TransientError(error.problem) from None
        return rest

    def _call(self, what: str, call: Callable[[Any], Any], asked: object) -> Any:  # noqa: ANN401 - the SDK's types
        try:
            return call(asked)
        except requests.RequestException as error:
            # Not chained: requests writes addresses into its messages, and those of the storage are secrets.
            raise named(error, what, self._login.given) from None
        except (ValueError, TypeError, KeyError) as error:
            raise TransientError(f"{what}: Kaggle's answer cannot be read ({type(error).__name__})") from None


def _client(session: requests.Session) -> KaggleClient:
    client = KaggleClient(env=KaggleEnv.PROD)
    http = client.http_client()
    http._session = session  # its own one prefers the machine's token to what it is given
    http._endpoint = os.environ.get(ENDPOINT) or http._endpoint  # it has fixed ones only
    return client


def _described(response: requests.Response, what: str, start: int = 0, size: int = 0) -> RemoteFile:
    """Return what the headers of a file say. `size`: of the whole file, where this is its rest."""
    length = response.headers.get("Content-Length", "")
    if not length.isdigit() or (start and response.headers.get("Content-Range") != f"bytes {start}-{size - 1}/{size}"):
        raise TransientError(f"{what}: Kaggle's storage does not say which bytes it sends")
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    # "crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==": cloud.google.com/storage/docs/xml-api/reference-headers
    hashes = dict(each.strip().split("=", 1) for each in response.headers.get("x-goog-hash", "").split(",") if each)
    return RemoteFile(validator, size or int(length), hashes.get("md5", ""), start, _chunks(response, what))


def _chunks(response: requests.Response, what: str) -> Iterator[bytes]:
    try:
        yield from response.iter_content(CHUNK_BYTES)
    except requests.RequestException as error:
        raise TransientError(f"{what}: the connection was cut ({type(error).__name__})") from None
